"""Foreign exceptions become ours, and nothing else is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cxr3d.errors import Cancelled, GeometryError, OutOfMemoryError, UnreadableFileError
from napari_cxr3d.io.guard import existing_path, foreign_errors, require_memory

PATH = Path("scan.dcm")


class PanicException(BaseException):
    """As PyO3 raises it when Rust code panics."""


@pytest.mark.parametrize("error", [ValueError("Doe^Jane"), KeyError("x"), PanicException("index")])
def test_whatever_a_parser_throws_becomes_a_sentence_without_its_text(error):
    with pytest.raises(UnreadableFileError) as caught, foreign_errors(PATH, "It cannot be read"):
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value).startswith("scan.dcm: It cannot be read: ")
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), Cancelled(), GeometryError("a")]
)
def test_interrupts_and_our_own_errors_pass(error):
    with pytest.raises(type(error)) as caught, foreign_errors(PATH, "It cannot be read"):
        raise error
    assert caught.value is error


def test_running_out_of_memory_is_called_that():
    with pytest.raises(OutOfMemoryError), foreign_errors(PATH, "It cannot be read"):
        raise MemoryError


def test_an_image_larger_than_memory_is_refused():
    require_memory(1000, PATH)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        require_memory(10**18, PATH)


@pytest.mark.parametrize("name", ["gone", "a\0b", "x" * 5000])
def test_a_path_to_nothing_is_refused(tmp_path, name):
    with pytest.raises(UnreadableFileError, match="no such file"):
        existing_path(tmp_path / name)


def test_a_pipe_is_no_file(tmp_path):
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFileError):
        existing_path(tmp_path / "pipe")
