"""Lungs are found in an estimate as they are in the truth."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import lung_mask
from napari_cxr3d.metrics.segmentation import lung_dice
from napari_cxr3d.phantom import make_thorax


@pytest.fixture(scope="module")
def thorax() -> Volume:
    """A phantom at the default model's spacing."""
    return make_thorax(0, size_mm=(240.0, 288.0, 384.0), spacing_mm=6.0).volume


def test_the_same_lungs_overlap_wholly_at_the_models_spacing(thorax: Volume) -> None:
    lungs = lung_mask(thorax)
    assert 2.0 < lungs.sum() * 0.216 / 1000 < 9.0  # litres
    assert lung_dice(thorax, thorax).value == 1.0
    assert lung_dice(thorax, thorax, lungs=lungs).value == 1.0


def test_lungs_that_lie_elsewhere_overlap_less(thorax: Volume) -> None:
    near = thorax.with_hu(np.roll(thorax.hu, 1, axis=0))
    far = thorax.with_hu(np.roll(thorax.hu, 4, axis=0))
    assert 0.3 < lung_dice(far, thorax).value < lung_dice(near, thorax).value < 0.99


def test_a_volume_without_air_inside_has_no_lungs(thorax: Volume) -> None:
    filled = np.where(lung_mask(thorax), np.int16(0), thorax.hu)
    assert lung_dice(thorax.with_hu(filled), thorax).value == 0.0


def test_volumes_on_different_grids_are_refused(thorax: Volume) -> None:
    moved = Volume(thorax.hu, thorax.spacing_mm, (1.0, 2.0, 3.0))
    with pytest.raises(InvalidInputError, match="one grid"):
        lung_dice(moved, thorax)
