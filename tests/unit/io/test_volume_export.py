"""Writing volumes and labels: voxel for voxel, in the source's own geometry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.imaging.frames import canonical_order
from napari_cxr3d.imaging.volume import SourceGrid
from napari_cxr3d.io import export

PROVENANCE = {"operation": "reconstruct", "inputs": ["ab" * 32], "parameters": {"seed": 3}}


def source_volume(tmp_path: Path) -> tuple[Volume, np.ndarray, np.ndarray]:
    """A volume whose file has axes (P, L, S): permuted and one flipped; the file's voxels."""
    voxels = np.random.default_rng(3).integers(-1024, 3071, (4, 5, 6)).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 1.5, 0], [0.7, 0, 0], [0, 0, 2.5]])
    affine[:3, 3] = (-3.0, 8.0, 40.0)
    order = canonical_order(affine)
    assert order is not None
    origin = affine @ np.array([0, 0, 5, 1])
    source = SourceInfo(
        kind="NRRD",
        description="test",
        grid=SourceGrid((4, 5, 6), affine, order),
        path=tmp_path / "ct.nrrd",
    )
    volume = Volume(
        np.ascontiguousarray(order.apply(voxels)), (2.5, 0.7, 1.5), tuple(origin[:3]), source
    )
    return volume, voxels, affine


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_a_volume_goes_back_into_its_source_s_geometry(tmp_path: Path, suffix: str) -> None:
    volume, voxels, affine = source_volume(tmp_path)
    path = export.write_volume(volume, tmp_path / f"out{suffix}")
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), voxels)
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        place = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(place, (affine @ [*index, 1])[:3], atol=1e-4)
    assert not (tmp_path / f"out{suffix}.json").exists()


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_volume_without_a_source_keeps_its_own_grid(tmp_path: Path, suffix: str) -> None:
    from napari_cxr3d.io import read_ct

    hu = np.random.default_rng(0).normal(0, 400, (6, 5, 4)).astype(np.float32)
    volume = Volume(hu, (2.0, 0.8, 1.1), (10.0, -20.0, 30.0), synthetic=True)
    path = export.write_volume(volume, tmp_path / f"out{suffix}", provenance=PROVENANCE)
    again = read_ct(path)
    np.testing.assert_allclose(again.hu, np.clip(hu, -1024, 3071), atol=1e-3)
    np.testing.assert_allclose(again.spacing_mm, volume.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(again.origin_lps, volume.origin_lps, atol=1e-4)
    record = json.loads((tmp_path / f"out{suffix}.json").read_text())
    assert record["synthetic"] is True
    assert record["provenance"] == PROVENANCE


def test_a_cropped_volume_is_not_forced_into_its_source(tmp_path: Path) -> None:
    volume, _, _ = source_volume(tmp_path)
    shifted = replace(volume, origin_lps=tuple(np.add(volume.origin_lps, (0.0, 0.0, -2.5))))
    cropped = replace(volume, hu=volume.hu[1:], origin_lps=shifted.origin_lps)
    for moved in (shifted, cropped):
        path = export.write_volume(moved, tmp_path / "out.nrrd", overwrite=True)
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), moved.hu)
        np.testing.assert_allclose(image.GetOrigin(), moved.origin_lps, atol=1e-6)


def test_labels_land_on_their_voxels(tmp_path: Path) -> None:
    volume, voxels, _ = source_volume(tmp_path)
    path = export.write_like(volume.hu > 1000, volume, tmp_path / "labels.nii.gz")
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), voxels > 1000)
    with pytest.raises(InvalidInputError, match="grid"):
        export.write_like(volume.hu[1:], volume, tmp_path / "wrong.nii.gz")


def test_a_synthetic_volume_never_replaces_the_ct_it_came_from(tmp_path: Path) -> None:
    volume, _, _ = source_volume(tmp_path)
    path = export.write_volume(volume, tmp_path / "ct.nrrd")
    before = path.read_bytes()
    changed = volume.with_hu(volume.hu + np.int16(1), synthetic=True)
    for write in (
        lambda: export.write_volume(changed, path, overwrite=True),
        lambda: export.write_like(volume.hu > 0, volume, path, overwrite=True),
    ):
        with pytest.raises(ExportError, match="never written over"):
            write()
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["out.dcm", "out", "out.jpg"])
def test_a_volume_needs_a_volume_s_suffix(tmp_path: Path, name: str) -> None:
    volume, _, _ = source_volume(tmp_path)
    with pytest.raises(ExportError, match=r"\.nii\.gz, \.nii, \.nrrd, \.mha"):
        export.write_volume(volume, tmp_path / name)


@pytest.mark.parametrize("name", ["cip-ct64.nrrd", "cip-ct64_dicom"])
def test_a_real_ct_comes_back_voxel_for_voxel(tmp_path: Path, data_folder: Path, name: str) -> None:
    from napari_cxr3d.io import read_ct

    volume = read_ct(data_folder / "ct" / name)
    again = read_ct(export.write_volume(volume, tmp_path / "copy.nrrd"))
    np.testing.assert_array_equal(again.hu, volume.hu)
    np.testing.assert_allclose(again.origin_lps, volume.origin_lps, atol=1e-3)
    np.testing.assert_allclose(again.spacing_mm, volume.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("synthetic", [True, False])
def test_a_synthetic_volume_is_still_synthetic_when_read_back(
    tmp_path: Path, suffix: str, synthetic: bool
) -> None:
    from napari_cxr3d.io import read_ct

    volume = replace(source_volume(tmp_path)[0], synthetic=synthetic)
    path = export.write_volume(volume, tmp_path / f"again{suffix}")
    assert read_ct(path).synthetic is synthetic
