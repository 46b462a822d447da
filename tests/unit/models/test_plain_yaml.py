"""A description is plain data: nothing in it is run, and nothing in it grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import BundleError, InvalidInputError
from napari_cxr3d.models import plain_yaml

PATH = Path("bundle.yaml")
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [*{chr(97 + k)}, *{chr(97 + k)}]\n" for k in range(20)
)


def test_plain_data_comes_back_as_it_was_written() -> None:
    record = {
        "text": "µm: # 'quoted' \"twice\" \n second line",
        "numbers": [1, -2.5, 1e-6, 1e300, float("inf")],
        "flags": [True, False, None],
        "looks_like": ["1", "yes", "null", "2026-11-24", "1e3", "@ref", "$eval"],
        "nested": {"empty": {}, "list": []},
    }
    assert plain_yaml.load(plain_yaml.dump(record), PATH) == record


def test_values_that_are_nearly_plain_become_plain() -> None:
    record = {"shape": (2, 3), "loss": np.float32(0.5), "n": np.int64(3), "path": Path("a/b")}
    assert plain_yaml.plain(record) == {"shape": [2, 3], "loss": 0.5, "n": 3, "path": "a/b"}
    for odd in (object(), {1: 2}, np.zeros(3), b"bytes", {"x": {1, 2}}):
        with pytest.raises(InvalidInputError, match="plain data"):
            plain_yaml.plain(odd)


def test_a_value_that_stands_twice_is_written_twice() -> None:
    shared = [1, 2]
    text = plain_yaml.dump({"a": shared, "b": shared})
    assert b"&" not in text
    assert plain_yaml.load(text, PATH) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: !!python/name:os.system", "tag"),
        ("a: !!binary aGk=", "tag"),
        (BOMB, "anchors and aliases"),
        ("a: &x 1", "anchors and aliases"),
        ("a: 1\na: 2", "given twice"),
        ("? [1, 2]\n: 3", "not a name"),
        ("1: 2", "not a string"),
        ("a: 2026-11-24", "date"),
        ("[" * 5000, "deeply"),
        ("a:\n- " + "{a: " * 100 + "1" + "}" * 100, "deeply"),
        ("a: [" + "1," * 60_000 + "]", "too many"),
        ("- 1\n- 2", "mapping"),
        ("", "mapping"),
        ("a: [1", "line"),
        ("a: 1\n--- \nb: 2", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
    ],
)
def test_anything_else_is_refused(text, told) -> None:
    with pytest.raises(BundleError, match=told) as caught:
        plain_yaml.load(text.encode(), PATH)
    assert str(caught.value).startswith("bundle.yaml: ")


def test_what_is_no_text_or_too_long_is_refused() -> None:
    with pytest.raises(BundleError, match="UTF-8"):
        plain_yaml.load(b"a: \xff\xfe", PATH)
    with pytest.raises(BundleError, match="bytes"):
        plain_yaml.load(b"#" * (plain_yaml.MAX_BYTES + 1), PATH)
