"""CT display windows."""

from __future__ import annotations

import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import WINDOWS, Window


def test_level_and_width_become_contrast_limits() -> None:
    assert Window(50, 350).limits == (-125, 225)
    assert Window(-600, 1500).limits == (-1350, 150)


@pytest.mark.parametrize("limits", [(-1350.0, 150.0), (0.0, 0.5), (-1024.0, 3071.0)])
def test_contrast_limits_come_back(limits: tuple[float, float]) -> None:
    assert Window.from_limits(*limits).limits == limits


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_window_without_width_is_refused(width: float) -> None:
    with pytest.raises(InvalidInputError, match="width"):
        Window(40, width)


def test_the_lung_window_shows_lung_and_the_mediastinal_one_soft_tissue() -> None:
    low, high = WINDOWS["Lung"].limits
    assert low < -950
    assert high > 0
    low, high = WINDOWS["Mediastinum"].limits
    assert -500 < low < -100
    assert 150 < high < 300


def test_the_presets_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        WINDOWS["Lung"] = Window(0, 1)  # type: ignore[index]
