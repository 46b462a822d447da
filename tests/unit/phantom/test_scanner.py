"""What the scanner adds to a painted body: blur and noise, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.phantom.scanner import Scanner, scan

SPACING = (2.0, 2.0, 2.0)
WATER = np.zeros((8, 170, 170), np.float32)  # attenuates like 384 mm of water
QUIET = Scanner(fwhm_mm=0.0, slice_mm=0.0, noise_hu=0.0)


def test_a_perfect_scanner_only_rounds_and_clips():
    hu = np.array([[[-2000.0, -1000.4, 0.5, 39.6, 9000.0]]], np.float32)
    assert scan(hu, SPACING, QUIET, 0).tolist() == [[[-1024, -1000, 1, 40, 3071]]]


def test_blur_keeps_the_sum_and_has_the_width_that_is_stated():
    hu = np.zeros((1, 101, 101), np.float32)
    hu[0, 50, 50] = 3000.0
    point = scan(hu, (1.0, 1.0, 1.0), Scanner(fwhm_mm=6.0, slice_mm=0, noise_hu=0), 0)[0]
    assert point.sum() == pytest.approx(3000, rel=0.02)
    profile = point[50].astype(float)
    sigma = np.sqrt((profile * (np.arange(101) - 50) ** 2).sum() / profile.sum())
    assert 2.355 * sigma == pytest.approx(6.0, rel=0.1)


def test_thick_slices_average_along_the_body():
    hu = np.zeros((21, 5, 5), np.float32)
    hu[10] = 1000.0
    profile = scan(hu, (1.0, 1.0, 1.0), Scanner(fwhm_mm=0, slice_mm=5, noise_hu=0), 0)[:, 2, 2]
    assert profile.tolist() == [0] * 8 + [200] * 5 + [0] * 8


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
@pytest.mark.parametrize("streaks", [0.0, 1.0])
def test_the_noise_of_a_reference_slice_is_what_was_asked_for(kernel, streaks):
    side = int(220 * np.sqrt(np.pi / 4) / 2)  # a square that attenuates like 220 mm of water
    hu = np.full((8, 110, 110), -1000.0, np.float32)
    hu[:, :side, :side] = 0
    settings = Scanner(fwhm_mm=0, slice_mm=0, noise_hu=20.0, kernel=kernel, streaks=streaks)
    noisy = scan(hu, SPACING, settings, 1)[:, 2 : side - 2, 2 : side - 2]
    assert noisy.std() == pytest.approx(20.0, rel=0.05)
    assert abs(noisy.mean()) < 1


def test_a_sharp_kernel_has_finer_noise_than_a_soft_one():
    def neighbours(kernel: str) -> float:
        noise = scan(WATER, SPACING, Scanner(kernel=kernel, streaks=0.0), 1).astype(float)
        return float(np.corrcoef(noise[..., :-1].ravel(), noise[..., 1:].ravel())[0, 1])

    assert neighbours("soft") > 0.3 > 0.0 > neighbours("sharp")


def test_noise_grows_with_what_the_slice_attenuates():
    hu = np.full((2, 110, 110), -1000.0, np.float32)
    hu[0, 40:70, 40:70] = 0
    hu[1] = 0
    noisy = scan(hu, SPACING, Scanner(streaks=0.0), 1)[:, 42:68, 42:68]
    assert noisy[1].std() > 2 * noisy[0].std()


def test_streaks_run_sideways():
    noise = scan(WATER, SPACING, Scanner(fwhm_mm=0, slice_mm=0, streaks=1.0), 1).astype(float)
    sideways = np.corrcoef(noise[..., :-4].ravel(), noise[..., 4:].ravel())[0, 1]
    backward = np.corrcoef(noise[:, :-4].ravel(), noise[:, 4:].ravel())[0, 1]
    assert sideways > backward + 0.1


def test_one_seed_one_noise_whatever_the_threads():
    one, two = (scan(WATER, SPACING, Scanner(), 5, threads=n) for n in (1, 3))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, scan(WATER, SPACING, Scanner(), 6))


@pytest.mark.parametrize(
    "settings", [{"fwhm_mm": -1}, {"noise_hu": -1}, {"streaks": 2}, {"kernel": "bone"}]
)
def test_a_scanner_that_cannot_be_is_refused(settings):
    with pytest.raises(InvalidInputError, match="scanner"):
        Scanner(**settings)
