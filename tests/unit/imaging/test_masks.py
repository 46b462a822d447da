"""The patient, the lungs and the CT table, told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.imaging.masks import body_mask, lung_mask, remove_table

REAL_CTS = (
    "lidc-0001_2mm.nii.gz",
    "lidc-1028_2mm.mha",
    "cmbcrc-01068_2mm.nrrd",
    "lungdx-a0002_dicom",
    "cip-ct64.nrrd",
)


def scan(
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0), gap_mm: float = 0.0
) -> tuple[Volume, dict[str, np.ndarray]]:
    """A trunk with two lungs and a vessel, lying on the shell of a table."""
    size = np.array([160.0, 320.0, 400.0])
    shape = tuple(np.rint(size / spacing_mm).astype(int))
    _, p, ell = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)),
                            indexing="ij")  # fmt: skip
    body = ((p - 140) / 100) ** 2 + ((ell - 200) / 150) ** 2 <= 1
    lungs = np.zeros(shape, bool)
    for center in (130, 270):
        lungs |= ((p - 135) / 65) ** 2 + ((ell - center) / 50) ** 2 <= 1
    vessel = (np.abs(p - 135) < 4.5) & (np.abs(ell - 130) < 4.5)
    table = (np.abs(p - (242 + gap_mm)) <= 2.1) & (np.abs(ell - 200) < 180)
    hu = np.full(shape, -1000, np.int16)
    hu[table] = 200
    hu[body] = 40
    hu[lungs] = -850
    hu[vessel] = 60
    parts = {"body": body, "lungs": lungs, "vessel": vessel, "table": table & ~body}
    return Volume(hu, spacing_mm), parts


@pytest.mark.parametrize("spacing_mm", [(4.0, 4.0, 4.0), (8.0, 2.0, 2.0), (1.0, 3.0, 3.0)])
@pytest.mark.parametrize("gap_mm", [0.0, 12.0])
def test_the_body_is_found_with_its_lungs_and_without_the_table(
    spacing_mm: tuple[float, float, float], gap_mm: float
) -> None:
    volume, parts = scan(spacing_mm, gap_mm)
    mask = body_mask(volume)
    assert mask.shape == volume.shape
    assert mask[parts["lungs"]].all()
    assert mask[parts["body"]].mean() > 0.99
    # Where the patient lies on the table, what is within a few mm of the skin stays.
    assert mask[parts["table"]].mean() < (0.01 if gap_mm else 0.35)


def test_the_lungs_are_found_with_their_vessels() -> None:
    volume, parts = scan()
    mask = lung_mask(volume)
    assert mask[parts["lungs"]].all()
    assert mask[parts["vessel"]].all()
    assert mask.sum() < 1.1 * parts["lungs"].sum()


def test_a_stomach_bubble_is_not_lung() -> None:
    volume, parts = scan()
    hu = volume.hu.copy()
    bubble = np.zeros(volume.shape, bool)
    bubble[10:25, 50:57, 46:54] = True
    assert not (bubble & parts["lungs"]).any()
    hu[bubble] = -1000
    assert not lung_mask(Volume(hu, volume.spacing_mm))[bubble].any()


def test_without_the_table_only_the_patient_is_left() -> None:
    volume, parts = scan(gap_mm=12.0)
    bare = remove_table(volume)
    assert bare.hu.dtype == volume.hu.dtype
    assert bare.grid == volume.grid
    assert (bare.hu[parts["table"]] == -1000).all()
    np.testing.assert_array_equal(bare.hu[parts["body"]], volume.hu[parts["body"]])
    assert volume.hu[parts["table"]].min() == 200
    assert bare.content_sha256() != volume.content_sha256()


def test_an_empty_scan_has_neither_body_nor_lungs() -> None:
    air = Volume(np.full((8, 16, 16), -1000, np.int16), (4.0, 4.0, 4.0))
    assert not body_mask(air).any()
    assert not lung_mask(air).any()
    with pytest.raises(InvalidInputError, match="no patient"):
        remove_table(air)


@pytest.mark.parametrize("name", REAL_CTS)
def test_real_chests_keep_their_bodies_and_lose_their_tables(data_folder: Path, name: str) -> None:
    from napari_cxr3d.io import read_ct

    volume = read_ct(data_folder / "ct" / name)
    body = body_mask(volume)
    litres = body.sum() * np.prod(volume.spacing_mm) / 1e6
    assert 10 < litres < 30
    # Behind the back, the shell of the table is the only thing denser than foam.
    behind = np.cumsum(body[:, ::-1], axis=1)[:, ::-1] == 0
    table = (volume.hu > -700) & behind
    assert (remove_table(volume).hu[table] == -1000).all()
    assert table.any()


@pytest.mark.parametrize("name", ["cip-ct64.nrrd", "lungdx-a0002_dicom"])
def test_real_lungs_have_the_size_of_lungs_and_lie_on_both_sides(
    data_folder: Path, name: str
) -> None:
    from napari_cxr3d.io import read_ct

    volume = read_ct(data_folder / "ct" / name)
    lungs = lung_mask(volume)
    assert 2 < lungs.sum() * np.prod(volume.spacing_mm) / 1e6 < 8
    right, left = (half.sum() for half in np.array_split(lungs, 2, axis=2))
    assert 0.4 < right / left < 2.5
    assert -950 < np.median(volume.hu[lungs]) < -650
    assert not (lungs & ~body_mask(volume)).any()


def test_a_thin_chest_wall_does_not_let_the_lung_leak_out() -> None:
    volume, parts = scan()
    hu = np.array(volume.hu)
    _, p, ell = np.indices(hu.shape) * 4.0
    # In front of the left lung the wall is two voxels thick over 32 mm.
    hu[(p < 80) & (p >= 64) & (np.abs(ell - 270) < 16) & parts["body"]] = -850
    thin = Volume(hu, volume.spacing_mm)
    assert body_mask(thin)[parts["lungs"]].mean() > 0.98
    assert lung_mask(thin)[parts["lungs"]].mean() > 0.9
