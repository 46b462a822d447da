"""A model's card is complete, or says what it lacks."""

from __future__ import annotations

import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.card import REQUIRED, check_card, describe_card, version_key


@pytest.mark.parametrize("name", list(REQUIRED))
def test_every_required_field_is_asked_for(card, name) -> None:
    check_card(card)
    del card[name]
    with pytest.raises(InvalidInputError, match=f"{name} missing"):
        check_card(card)


def test_all_troubles_are_told_at_once(card) -> None:
    del card["limits"]
    with pytest.raises(InvalidInputError) as caught:
        check_card(card | {"name": "Codec Demo", "version": 1.0, "synthetic_training": "yes"})
    for told in ("limits missing", "codec-demo", '"1.0.0"', "true or false"):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../codec"),
        ("name", "codec-"),
        ("name", "c" * 65),
        ("name", "codec\n"),
        ("version", "v1"),
        ("version", "1..2"),
        ("version", "1.0\n"),
        ("kind", ""),
        ("licence", "  "),
        ("preprocessing", [1]),
        ("preprocessing", {"hu_window": [0]}),
        ("preprocessing", {"spacing_mm": [1, 0, 1]}),
        ("preprocessing", {"spacing_mm": "2 mm"}),
        ("training", {"command": "x"}),
        ("training", {"command": "x", "seed": "7", "data": []}),
        ("metrics", []),
        ("metrics", {"psnr": 31}),
        ("metrics", {"psnr": {"value": "31", "convention": "x"}}),
        ("metrics", {"psnr": {"value": True, "convention": "x"}}),
        ("metrics", {"psnr": {"value": 31, "convention": ""}}),
    ],
)
def test_a_field_of_another_kind_is_refused(card, field, value) -> None:
    with pytest.raises(InvalidInputError, match=field):
        check_card(card | {field: value})


def test_the_fields_of_the_format_are_not_the_cards_to_set(card) -> None:
    with pytest.raises(InvalidInputError, match="files is written by the bundle"):
        check_card(card | {"files": []})


def test_what_is_not_known_may_be_left_open(card) -> None:
    unknown = {"command": None, "seed": None, "data": None}
    check_card(card | {"training": unknown, "metrics": {}, "preprocessing": {}})
    text = describe_card(card | {"training": unknown, "metrics": {}})
    assert "seed: not known" in text
    assert "metrics: none" in text


def test_versions_are_ordered_as_numbers() -> None:
    versions = ["1.10", "1.9.3", "2", "1.9"]
    assert sorted(versions, key=version_key) == ["1.9", "1.9.3", "1.10", "2"]


def test_a_metric_is_told_with_its_interval_and_convention(card) -> None:
    metric = {
        "value": 31.26,
        "unit": "dB",
        "interval": [30.1, 32.44],
        "patients": 12,
        "convention": "3D, data range 2000 HU",
    }
    text = describe_card(card | {"metrics": {"psnr3d": metric}})
    assert "psnr3d: 31.26 dB [30.1, 32.44], 12 patients (3D, data range 2000 HU)" in text
    long = describe_card(card | {"limits": "word " * 60})
    assert max(len(line) for line in long.splitlines()) <= 88
