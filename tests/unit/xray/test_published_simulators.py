"""The published simulators' pictures, against independent computations of the same."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.phantom import thorax_ellipsoids
from napari_cxr3d.xray.published_simulators import (
    PUBLISHED_SIMULATORS,
    eight_bits,
    mean_projection,
    mean_projection_view,
    published_radiograph,
)


@pytest.fixture(scope="module")
def volume() -> Volume:
    """The ellipsoid thorax on an anisotropic grid, with metal beyond the clipping."""
    phantom = thorax_ellipsoids()
    made = phantom.volume(phantom.grid((40, 30, 36)))
    hu = made.hu.copy()
    hu[20:22, 10:12, 8:10] = 2800
    return Volume(hu.astype(np.int16), (7.3, 8.1, 9.0), (-150.0, -110.0, 140.0))


def test_the_mean_projection_is_that_of_a_resampled_volume(volume: Volume) -> None:
    from scipy.ndimage import map_coordinates

    size = [round(n * s) for n, s in zip(volume.shape, volume.spacing_mm, strict=True)]
    at = [np.minimum(np.arange(n) / s, m - 1) for n, s, m in zip(
        size, volume.spacing_mm, volume.shape, strict=True
    )]  # fmt: skip
    clipped = np.clip(volume.hu, -1000, 1000).astype(np.float64)
    mesh = np.meshgrid(at[0][::7], at[1], at[2][::5], indexing="ij")
    resampled = map_coordinates(clipped, mesh, order=1, mode="nearest")
    mean = mean_projection(volume)
    assert mean.shape == (size[0], size[2])
    np.testing.assert_allclose(mean[::7, ::5], resampled.mean(axis=1), atol=0.02)


def test_simpleitk_makes_the_same_picture(volume: Volume) -> None:
    sitk = pytest.importorskip("SimpleITK")
    clipped = np.clip(volume.hu, -1000, 1000).astype(np.float32)
    image = sitk.GetImageFromArray(np.pad(clipped, ((0, 1),) * 3, mode="edge"))
    image.SetSpacing([float(s) for s in volume.spacing_mm[::-1]])
    size = [round(n * s) for n, s in zip(volume.shape, volume.spacing_mm, strict=True)][::-1]
    resampled = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    )
    projection = sitk.GetArrayFromImage(sitk.MeanProjection(resampled, 1))[:, 0]
    np.testing.assert_allclose(mean_projection(volume), projection, atol=0.05)
    low, high = projection.min(), projection.max()
    stretched = ((projection - low) / (high - low) * 255).astype(np.uint8)
    ours = published_radiograph(volume, "x2ct-clip")
    assert np.abs(ours * 255 - stretched).max() <= 1
    assert (ours.min(), ours.max()) == (0, 1)


def test_the_parallel_view_is_where_the_picture_lies(volume: Volume) -> None:
    picture, view = mean_projection(volume), mean_projection_view(volume)
    frame = view.frame()
    x, y, z = volume.origin_lps
    for i, ell in ((0, 0), (20, 9), (39, 35)):
        point = np.array([x + 9.0 * ell, y + 40.0, z - 7.3 * i])
        row, col = frame.project(point)
        assert (row, col) == pytest.approx((7.3 * i, 9.0 * ell), abs=0.2)
    assert view.detector_shape == picture.shape


@pytest.mark.parametrize("name", list(PUBLISHED_SIMULATORS))
def test_head_up_with_the_patients_left_on_the_right(name: str) -> None:
    if name != "x2ct-clip":
        pytest.importorskip("diffdrr")
    hu = np.full((30, 30, 30), -1000, np.int16)
    hu[4:26, 4:26, 4:26] = 0
    hu[6:10, 6:24, 20:24] = 900  # high up, on the patient's left
    picture = published_radiograph(Volume(hu, (8.0, 8.0, 8.0)), name, size=48)
    row, col = np.unravel_index(picture.argmax(), picture.shape)
    assert row < picture.shape[0] / 2
    assert col > picture.shape[1] / 2


def test_x_win_is_diffdrrs_own_picture_in_8_bits(volume: Volume) -> None:
    pytest.importorskip("diffdrr")
    import torch
    from diffdrr.data import read
    from diffdrr.drr import DRR
    from torchio import ScalarImage

    hu = torch.tensor(volume.hu, dtype=torch.float32).permute(2, 1, 0)[None]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine_lps[:, [2, 1, 0, 3]]
    subject = read(ScalarImage(tensor=hu, affine=affine), orientation="AP")
    drr = DRR(subject, sdd=1020.0, height=64, delx=8.0)
    with torch.no_grad():
        image = drr(
            torch.zeros(1, 3),
            torch.tensor([[0.0, 700.0, 0.0]]),
            parameterization="euler_angles",
            convention="ZXY",
        )[0, 0].numpy()
    expected = ((image - image.min()) / (image.max() - image.min()) * 255).astype(np.uint8)
    ours = published_radiograph(volume, "x-win", size=64)
    assert np.abs(ours * 255 - expected).max() <= 1


def test_eight_bits_cut_off_as_uint8_does() -> None:
    picture = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    stretched = (picture - picture.min()).astype(np.float64) / np.ptp(picture)
    np.testing.assert_array_equal(
        np.rint(eight_bits(picture) * 255), np.floor(stretched * 255 + 1e-9)
    )
    assert eight_bits(np.full((3, 3), 7.0, np.float32)).max() == 0


def test_an_unknown_simulator_is_refused_with_the_list(volume: Volume) -> None:
    with pytest.raises(InvalidInputError, match="x2ct-clip, x-win, x-ray2ctpa"):
        published_radiograph(volume, "cyclegan")
