"""A volume keeps its promises: axes, types, identity, and no hidden change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import Cxr3dError
from napari_cxr3d.imaging import SourceInfo, Volume


def volume(hu=None, **changes) -> Volume:
    hu = np.zeros((2, 3, 4), np.int16) if hu is None else hu
    return Volume(hu, **{"spacing_mm": (4, 2, 1), "origin_lps": (10, 20, 30), **changes})


def test_shape_size_and_centre_follow_from_the_grid():
    assert volume().shape == (2, 3, 4)
    assert volume().size_mm == (8.0, 6.0, 4.0)
    assert volume().center_lps == (11.5, 22.0, 28.0)  # left, posterior, and down from the top


def test_voxels_cannot_be_written_through_a_volume():
    with pytest.raises(ValueError, match="read-only"):
        volume().hu[0, 0, 0] = 1


def test_int16_is_kept_and_other_types_become_float32():
    assert volume().hu.dtype == np.int16
    for dtype in (np.float64, np.float32, np.int32, np.uint8):
        assert volume(np.zeros((2, 3, 4), dtype)).hu.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"hu": np.zeros((3, 4))},
        {"hu": np.zeros((0, 3, 4))},
        {"hu": np.zeros((2, 3, 4), complex)},
        {"spacing_mm": (1, 0, 1)},
        {"origin_lps": (1, np.nan, 1)},
    ],
)
def test_an_impossible_volume_is_refused(wrong):
    with pytest.raises(Cxr3dError):
        volume(**wrong)


def test_identity_depends_on_voxels_and_geometry():
    same = volume().content_sha256()
    assert volume().content_sha256() == same
    assert volume(np.ones((2, 3, 4), np.int16)).content_sha256() != same
    assert volume(spacing_mm=(4, 2, 2)).content_sha256() != same
    assert volume(origin_lps=(0, 20, 30)).content_sha256() != same


def test_other_voxels_on_the_same_grid_have_another_identity():
    source = SourceInfo("DICOM", "Thorax", content_sha256="abc")
    original = volume(source=source)
    assert original.content_sha256() == "abc"
    changed = original.with_hu(np.ones((2, 3, 4), np.int16), synthetic=True)
    assert changed.grid == original.grid
    assert changed.synthetic
    assert changed.content_sha256() not in ("abc", "")
    assert changed.source.description == "Thorax"


def test_metadata_of_a_source_leaves_its_path_behind():
    source = SourceInfo("NIfTI", "NIfTI 123abc", path=Path("Doe_Jane.nii"), notes=("mended",))
    assert "Doe" not in str(source.to_metadata())
    assert "Doe" not in repr(source)
    assert source.to_metadata()["notes"] == ["mended"]
