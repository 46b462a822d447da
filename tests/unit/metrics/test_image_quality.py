"""Known values, and the conventions that change them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.metrics import dice, image_quality, mae_hu, psnr3d, slice_psnr, ssim3d
from napari_cxr3d.progress import CancelToken

WINDOW = (-1000.0, 1000.0)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    rng = np.random.default_rng(0)
    hu = rng.normal(0, 300, (20, 24, 18))
    return hu.clip(-1000, 1000).astype(np.int16)


@pytest.fixture(scope="module")
def estimate(reference: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (reference + rng.normal(0, 80, reference.shape)).astype(np.float32)


def test_equal_volumes_are_perfect(reference) -> None:
    assert psnr3d(reference, reference, WINDOW).value == math.inf
    assert ssim3d(reference, reference, WINDOW).value == pytest.approx(1, abs=1e-6)
    assert mae_hu(reference, reference, WINDOW).value == 0
    assert slice_psnr(reference, reference, WINDOW).value == 100
    assert dice(reference > 0, reference > 0).value == 1


def test_psnr_of_a_constant_error_is_what_the_hand_computes() -> None:
    reference = np.zeros((4, 4, 4), np.int16)
    # 20 log10(2000 / 20) = 40 dB, and with a range of 4000 HU 6.02 dB more.
    assert psnr3d(reference + 20, reference, WINDOW).value == pytest.approx(40)
    wider = psnr3d(reference + 20, reference, (-2000, 2000)).value
    assert wider == pytest.approx(40 + 20 * math.log10(2))
    one = reference.copy()
    one[0, 0, 0] = 160  # MSE 400, as 20 everywhere
    assert psnr3d(one, reference, WINDOW).value == pytest.approx(40)


def test_errors_beyond_the_window_are_none() -> None:
    reference = np.full((4, 4, 4), 1500, np.int16)
    assert psnr3d(reference + 500, reference, WINDOW).value == math.inf
    assert mae_hu(reference - 600, reference, WINDOW).value == 100


def test_int16_does_not_overflow() -> None:
    low, high = np.full((2, 2, 2), -32000, np.int16), np.full((2, 2, 2), 32000, np.int16)
    assert mae_hu(low, high, (-32000, 32000)).value == 64000


def test_only_voxels_of_the_mask_count(reference) -> None:
    estimate = reference.astype(np.float32)
    estimate[:10] += 50
    mask = np.zeros(reference.shape, bool)
    mask[12:] = True
    assert psnr3d(estimate, reference, (-2000, 2000), mask=mask).value == math.inf
    mask[:] = False
    mask[:5] = True
    assert mae_hu(estimate, reference, (-2000, 2000), mask=mask).value == pytest.approx(50)
    assert "mask" in psnr3d(estimate, reference, WINDOW, mask=mask).convention
    assert "all voxels" in psnr3d(estimate, reference, WINDOW).convention


def test_the_slice_mean_lies_above_the_volumes_psnr_where_slices_are_empty() -> None:
    reference = np.full((8, 8, 8), -1000, np.int16)
    estimate = reference.copy()
    estimate[4] += 200  # one wrong axial slice: 20 dB; seven equal ones at 100 dB
    # The other axes' slices each hold an eighth of the error: 20 + 10 log10(8).
    other = 20 + 10 * math.log10(8)
    expected = ((7 * 100 + 20) / 8 + 2 * other) / 3
    found = slice_psnr(estimate, reference, WINDOW)
    assert found.value == pytest.approx(expected)
    assert found.value > psnr3d(estimate, reference, WINDOW).value == pytest.approx(other)


def test_x2ct_gans_data_range_adds_what_was_measured(estimate, reference) -> None:
    window = (-1000.0, 1500.0)
    honest = slice_psnr(estimate, reference, window)
    published = slice_psnr(estimate, reference, window, data_range=4095)
    assert published.value - honest.value == pytest.approx(20 * math.log10(4095 / 2500))
    assert "4095" in published.convention
    assert "2500" in honest.convention


def brute_force_ssim(a: np.ndarray, b: np.ndarray, low: float, high: float) -> np.ndarray:
    """SSIM by its definition, with sums over explicit windows."""
    x, y = ((v.astype(np.float64) - low) / (high - low) for v in (a, b))
    line = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    line /= line.sum()
    weight = line[:, None, None] * line[:, None] * line

    def mean(v: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(v, (11, 11, 11))
        return np.einsum("ijkabc,abc->ijk", windows, weight)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


def test_ssim_is_what_its_definition_gives(estimate, reference) -> None:
    clipped = estimate.clip(*WINDOW)
    expected = brute_force_ssim(clipped, reference, *WINDOW)
    assert ssim3d(estimate, reference, WINDOW).value == pytest.approx(expected.mean(), abs=1e-4)
    mask = np.zeros(reference.shape, bool)
    mask[6:9, 8:20, 5:12] = True
    within = expected[mask[5:-5, 5:-5, 5:-5]].mean()
    found = ssim3d(estimate, reference, WINDOW, mask=mask)
    assert found.value == pytest.approx(within, abs=1e-4)
    assert found.value != pytest.approx(expected.mean(), abs=1e-3)


def test_ssim_is_the_one_of_monai(estimate, reference) -> None:
    import torch
    from monai.metrics.regression import SSIMMetric

    scaled = [
        torch.from_numpy((v.clip(*WINDOW).astype(np.float32) + 1000) / 2000)[None, None]
        for v in (estimate, reference)
    ]
    expected = SSIMMetric(spatial_dims=3, data_range=1.0)(*scaled).item()
    assert ssim3d(estimate, reference, WINDOW).value == pytest.approx(expected, abs=1e-6)


def test_ssim_in_slabs_is_ssim_at_once(estimate, reference, monkeypatch) -> None:
    mask = np.random.default_rng(2).random(reference.shape) < 0.1
    at_once = ssim3d(estimate, reference, WINDOW).value
    within = ssim3d(estimate, reference, WINDOW, mask=mask).value
    assert within != pytest.approx(at_once, abs=1e-4)
    monkeypatch.setattr(image_quality, "_SLAB_VOXELS", 3 * 24 * 18)
    assert ssim3d(estimate, reference, WINDOW).value == pytest.approx(at_once, abs=1e-7)
    found = ssim3d(estimate, reference, WINDOW, mask=mask).value
    assert found == pytest.approx(within, abs=1e-7)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        ssim3d(estimate, reference, WINDOW, cancel=token)


def test_dice_is_what_the_hand_computes() -> None:
    a = np.array([[True, True, False, False]])
    b = np.array([[False, True, True, True]])
    assert dice(a, b).value == pytest.approx(2 / 5)
    assert dice(a, ~a).value == 0
    assert dice(a & ~a, a & ~a).value == 1


def test_a_metric_tells_its_unit_and_direction(estimate, reference) -> None:
    psnr, mae = psnr3d(estimate, reference, WINDOW), mae_hu(estimate, reference, WINDOW)
    assert (psnr.unit, psnr.higher_is_better) == ("dB", True)
    assert (mae.unit, mae.higher_is_better) == ("HU", False)
    assert float(psnr) == psnr.value
    assert "data range 2000 HU" in psnr.convention


@pytest.mark.parametrize("metric", [psnr3d, ssim3d, mae_hu, slice_psnr])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: (a[:-1], WINDOW),
        lambda a: (a, (100.0, 100.0)),
        lambda a: (a, (0.0, float("nan"))),
        lambda a: (np.where(a > 900, np.nan, a), WINDOW),
        lambda a: (a.astype(complex), WINDOW),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, change, reference) -> None:
    estimate, window = change(np.full(reference.shape, 950.0))
    with pytest.raises(InvalidInputError):
        metric(estimate, reference, window)


def test_masks_that_cannot_be_used_are_refused(reference) -> None:
    empty = np.zeros(reference.shape, bool)
    for mask in (empty, empty[:-1], empty.astype(np.uint8)):
        with pytest.raises(InvalidInputError, match="mask"):
            psnr3d(reference, reference, WINDOW, mask=mask)
    at_the_face = empty.copy()
    at_the_face[0] = True
    with pytest.raises(InvalidInputError, match="no voxel to measure at"):
        ssim3d(reference, reference, WINDOW, mask=at_the_face)
    with pytest.raises(InvalidInputError, match="11 voxels"):
        ssim3d(reference[:10], reference[:10], WINDOW)
    with pytest.raises(InvalidInputError, match="positive"):
        slice_psnr(reference, reference, WINDOW, data_range=0)
    with pytest.raises(InvalidInputError, match="masks"):
        dice(empty, empty.astype(int))
