"""A probe that crashes, hangs or fails never harms the process that asked for it."""

from __future__ import annotations

import sys

import pytest

from napari_cxr3d.cli.probes import run_probe


@pytest.fixture
def probe_module(tmp_path, monkeypatch):
    """Write a module that a child process can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(source: str) -> str:
        (tmp_path / "a_probe.py").write_text(source)
        return "a_probe"

    return write


def test_the_last_line_of_json_is_the_answer(probe_module):
    module = probe_module(
        "import sys; print('noise'); print('{\"arguments\": %d}' % len(sys.argv))"
    )
    result = run_probe(module, "one")
    assert result.values == {"arguments": 2}
    assert result.failure == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_crash_is_named(probe_module):
    module = probe_module("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    result = run_probe(module)
    assert "SIGSEGV" in result.failure
    assert not result.values


def test_a_traceback_is_told_by_its_last_line(probe_module):
    result = run_probe(probe_module("import a_library_that_is_not_there"))
    assert result.failure == "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"


def test_a_hanging_probe_is_ended(probe_module):
    result = run_probe(probe_module("import time; time.sleep(60)"), timeout_s=0.5)
    assert result.failure == "no answer within 0.5 s"


def test_a_probe_without_an_answer_is_a_failure(probe_module):
    assert run_probe(probe_module("print('no json here')")).failure
