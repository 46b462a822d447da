"""What the shared options mean: presets, overrides, ranges, sizes, points."""

from __future__ import annotations

import pytest
import typer

from napari_cxr3d.cli.options import (
    PRESET_NAMES,
    ViewOptions,
    parse_point,
    parse_range,
    parse_size,
)
from napari_cxr3d.imaging import PRESETS, XrayView, preset


def test_no_option_gives_the_clinical_pa_view():
    assert ViewOptions().view() == preset("pa") == XrayView()


def test_help_names_every_preset():
    assert PRESET_NAMES.split(", ") == list(PRESETS)


def test_given_options_override_the_presets_fields_and_no_others():
    view = ViewOptions(preset="x-win", size="64x80", pitch=0.0, source_to_detector=1100.0).view()
    base = preset("x-win")
    assert view.detector_shape == (64, 80)
    assert view.source_to_detector_mm == 1100.0
    assert view.source_to_isocenter_mm == base.source_to_isocenter_mm
    assert (view.yaw, view.pixel_mm, view.flip_columns) == (180.0, 1.0, True)


def test_every_view_option_reaches_the_view():
    view = ViewOptions(
        pitch=-5.0,
        roll=3.0,
        source_to_detector=1500.0,
        source_to_isocenter=1200.0,
        size="32",
        pixel_mm=2.0,
        isocenter="-10,20.5,-300",
        flip_columns=True,
    ).view(yaw=-30.0)
    assert view == XrayView(
        yaw=-30.0,
        pitch=-5.0,
        roll=3.0,
        source_to_isocenter_mm=1200.0,
        source_to_detector_mm=1500.0,
        detector_shape=(32, 32),
        pixel_mm=2.0,
        isocenter_lps=(-10.0, 20.5, -300.0),
        flip_columns=True,
    )


def test_yaw_zero_overrides_a_preset_that_is_not_zero():
    assert ViewOptions(preset="ap").view(yaw=0.0).yaw == 0.0
    assert ViewOptions(preset="ap", flip_columns=False).view().flip_columns is False


@pytest.mark.parametrize(
    "options",
    [
        ViewOptions(preset="pnemonia"),
        ViewOptions(pitch=91.0),
        ViewOptions(pixel_mm=0.0),
        ViewOptions(source_to_isocenter=2000.0),
        ViewOptions(size="0"),
        ViewOptions(size="12x"),
        ViewOptions(size="-12"),
        ViewOptions(isocenter="1,2"),
        ViewOptions(isocenter="1,2,nan"),
    ],
)
def test_unusable_values_are_wrong_usage(options):
    with pytest.raises(typer.BadParameter):
        options.view()


def test_ranges_sizes_and_points_are_parsed():
    assert parse_range("-90:90:5") == (-90.0, 90.0, 5.0)
    assert parse_range("10:-10:-2.5") == (10.0, -10.0, -2.5)
    assert parse_range("30:30:1") == (30.0, 30.0, 1.0)
    assert parse_size("512") == (512, 512)
    assert parse_size("400x512") == parse_size("400X512") == (400, 512)
    assert parse_point("-1.5, 2,3e2") == (-1.5, 2.0, 300.0)


@pytest.mark.parametrize(
    "text", ["", "5", "0:90", "0:90:0", "0:90:-5", "90:0:5", "a:b:c", "0:90:5:1", "0:inf:5"]
)
def test_ranges_that_lead_nowhere_are_wrong_usage(text):
    with pytest.raises(typer.BadParameter):
        parse_range(text)
