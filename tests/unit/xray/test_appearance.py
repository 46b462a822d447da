"""From line integrals to a radiograph's look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray.appearance import (
    Appearance,
    AppearanceWindow,
    CharacteristicCurve,
    MultiscaleContrast,
    Noise,
    PercentileWindow,
    Scatter,
    choose_window,
    minmax,
    render,
)
from napari_cxr3d.xray.multiscale import expand, reduce

PLAIN = Appearance(contrast=None, curve=None, black_air=False)


def chest(rows: int = 96, cols: int = 80, thicker: float = 1.0) -> np.ndarray:
    """Line integrals of a schematic chest: air, soft tissue, two lungs, a mediastinum."""
    y, x = np.mgrid[0:rows, 0:cols] / np.array([rows, cols])[:, None, None]
    integrals = np.where(np.abs(x - 0.5) < 0.42, 3.0, 0.0)
    for center in (0.3, 0.7):
        integrals[((x - center) / 0.13) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1] = 1.5
    integrals[np.abs(x - 0.5) < 0.06] = 5.0
    return (thicker * integrals).astype(np.float32)


def test_the_default_look_is_that_of_a_read_radiograph() -> None:
    integrals = chest()
    picture = render(integrals)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture[integrals == 0].max() == 0
    lung, wall, middle = (np.median(picture[integrals == v]) for v in (1.5, 3.0, 5.0))
    assert 0.05 < lung < 0.4 < wall < 0.8 < middle < 1


def test_the_chest_ct_looks_like_a_radiograph(data_folder: Path) -> None:
    from napari_cxr3d.imaging import XrayView
    from napari_cxr3d.io import read_ct
    from napari_cxr3d.xray import projector

    volume = read_ct(data_folder / "ct" / "cip-ct64.nrrd")
    view = XrayView(detector_shape=(96, 96), pixel_mm=4.4)
    picture = render(projector("cpu").project(volume, [view]))[0]
    lungs, spine, corner = picture[30:55, 30:40], picture[40:70, 45:50], picture[:8, :8]
    assert corner.max() < 1e-6
    assert 0.05 < np.median(lungs) < 0.4
    assert np.median(spine) > 0.7
    assert np.mean(picture >= 1) < 0.02


def test_film_is_the_same_picture_with_bone_dark() -> None:
    integrals = chest()
    np.testing.assert_allclose(
        render(integrals, Appearance(as_film=True)), 1 - render(integrals), atol=1e-6
    )


def test_without_any_step_the_window_is_a_straight_line() -> None:
    integrals = np.array([[0.0, 1.0, 2.0, 3.0, 9.0]], np.float32)
    picture = render(integrals, PLAIN, window=AppearanceWindow(1.0, 5.0))
    np.testing.assert_allclose(picture, [[0, 0, 0.25, 0.5, 1]], atol=1e-6)


def test_the_window_leaves_air_out() -> None:
    integrals = chest()
    padded = np.pad(integrals, 200)
    assert choose_window(padded) == choose_window(integrals)
    assert choose_window(integrals, Appearance(window=PercentileWindow(0, 100))) == (
        AppearanceWindow(1.5, 5.0)
    )


def test_the_window_can_be_taken_from_a_region() -> None:
    integrals = chest()
    lungs = integrals == 1.5
    lungs[integrals == 3.0] = True
    chosen = choose_window(integrals, Appearance(window=PercentileWindow(0, 100)), region=lungs)
    assert chosen == AppearanceWindow(1.5, 3.0)


def test_a_sweep_does_not_flicker() -> None:
    frames = np.stack([chest(thicker=t) for t in (1.0, 1.3, 1.7)])
    window = choose_window(frames)
    together = render(frames)
    for frame, picture in zip(frames, together, strict=True):
        np.testing.assert_array_equal(render(frame, window=window), picture)
    assert np.abs(render(frames[0]) - together[0]).max() > 0.05


def test_a_preview_looks_like_the_full_picture() -> None:
    full, half = chest(256, 256), chest(128, 128)
    window = choose_window(full)
    shrunk = reduce(render(full, window=window))
    assert np.abs(shrunk - render(half, window=window)).mean() < 0.03


def test_blank_frames_are_black() -> None:
    assert render(np.zeros((16, 16), np.float32)).max() == 0
    assert np.isfinite(render(np.full((16, 16), 2.0, np.float32))).all()


def test_minmax_stretches_every_frame_on_its_own() -> None:
    frames = np.stack([chest(), 2 * chest() + 1, np.full((96, 80), 3.0)])
    stretched = minmax(frames)
    np.testing.assert_allclose(stretched[0], chest() / 5, atol=1e-6)
    np.testing.assert_allclose(stretched[1], stretched[0], atol=1e-6)
    assert (stretched[2] == 0).all()


def test_one_seed_makes_one_picture_and_every_frame_its_own_noise() -> None:
    frames = np.stack([chest()] * 2)
    noisy = Appearance(noise=Noise(photons_per_mm2=1e4, seed=7))
    first = render(frames, noisy, pixel_mm=1.0)
    np.testing.assert_array_equal(first, render(frames, noisy, pixel_mm=1.0))
    assert not np.array_equal(first[0], first[1])
    other = Appearance(noise=Noise(photons_per_mm2=1e4, seed=8))
    assert not np.array_equal(first, render(frames, other, pixel_mm=1.0))


def test_quantum_noise_is_as_large_as_photons_are_few() -> None:
    # The logarithm of N counted photons scatters by 1 / sqrt(N).
    integrals = np.full((200, 200), 2.0, np.float32)
    look = Appearance(
        noise=Noise(photons_per_mm2=1e5, electronic=0.0),
        window=AppearanceWindow(0.0, 4.0),
        contrast=None,
        curve=None,
    )
    readings = 4.0 * render(integrals, look, pixel_mm=0.5)
    photons = 1e5 * 0.25 * np.exp(-2.0)
    assert readings.mean() == pytest.approx(2.0, abs=0.002)
    assert readings.std() == pytest.approx(1 / np.sqrt(photons), rel=0.05)


def test_scatter_takes_contrast_from_the_dense_parts() -> None:
    integrals = chest(128, 128)
    look = Appearance(
        scatter=Scatter(ratio=0.5), window=AppearanceWindow(0.0, 6.0), contrast=None, curve=None
    )
    readings = 6.0 * render(integrals, look, pixel_mm=3.0)
    lost = {v: float(np.median(v - readings[integrals == v])) for v in (1.5, 3.0, 5.0)}
    assert 0 < lost[1.5] < lost[3.0] < lost[5.0]


def test_scatter_behind_a_wide_slab_has_the_stated_ratio() -> None:
    integrals = np.full((256, 256), 2.0, np.float32)
    look = Appearance(
        scatter=Scatter(ratio=0.5, sigma_mm=20),
        window=AppearanceWindow(0.0, 4.0),
        contrast=None,
        curve=None,
    )
    center = 4.0 * render(integrals, look, pixel_mm=1.0)[128, 128]
    assert center == pytest.approx(2.0 - np.log(1.5), abs=0.01)


def test_without_the_logarithm_the_absorbed_part_is_shown() -> None:
    integrals = np.array([[0.5, 1.0, 2.0]], np.float32)
    look = Appearance(
        logarithm=False, contrast=None, curve=None, black_air=False, window=AppearanceWindow(0, 1)
    )
    np.testing.assert_allclose(render(integrals, look), 1 - np.exp(-integrals), atol=1e-6)


def test_scatter_and_noise_ask_for_the_scale() -> None:
    for look in (Appearance(scatter=Scatter()), Appearance(noise=Noise())):
        with pytest.raises(InvalidInputError, match="pixel_mm"):
            render(chest(), look)


def test_the_curve_rises_from_black_to_white() -> None:
    values = np.linspace(-0.5, 1.5, 101, dtype=np.float32)
    bright = CharacteristicCurve().apply(values)
    assert bright[0] == 0
    assert bright[-1] == 1
    assert (np.diff(bright) >= 0).all()
    darker = CharacteristicCurve(gamma=2.0).apply(values)
    np.testing.assert_allclose(darker, bright**2, atol=1e-6)


def test_neutral_gains_give_the_picture_back() -> None:
    picture = np.random.default_rng(0).random((37, 52), np.float32)
    neutral = MultiscaleContrast(detail=1, latitude=1, power=1)
    np.testing.assert_allclose(neutral.apply(picture), picture, atol=1e-5)


def test_fine_structures_gain_and_coarse_ones_yield() -> None:
    x = np.linspace(0, 1, 256, endpoint=False)
    coarse = np.tile(0.2 * np.sin(2 * np.pi * x), (256, 1)).astype(np.float32)
    fine = np.tile(0.02 * np.sin(2 * np.pi * 60 * x), (256, 1)).astype(np.float32)
    contrast = MultiscaleContrast(detail=2.0, latitude=0.7, power=1)
    assert np.ptp(contrast.apply(fine)) / np.ptp(fine) > 1.7
    assert np.ptp(contrast.apply(coarse)) / np.ptp(coarse) < 0.85


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 5), (33, 2)])
def test_the_pyramid_keeps_constants_and_shapes(shape: tuple[int, int]) -> None:
    flat = np.full(shape, 2.5, np.float32)
    small = reduce(flat)
    assert small.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    np.testing.assert_allclose(small, 2.5, rtol=1e-6)
    np.testing.assert_allclose(expand(small, shape), flat, rtol=1e-6)


def test_the_input_is_left_alone() -> None:
    integrals = chest()
    before = integrals.copy()
    render(integrals, Appearance(scatter=Scatter(), noise=Noise()), pixel_mm=4.0)
    minmax(integrals)
    np.testing.assert_array_equal(integrals, before)


def test_rendering_tells_its_progress_and_stops_when_asked() -> None:
    seen: list[Progress] = []
    render(np.stack([chest()] * 3), progress=seen.append)
    assert [step.done for step in seen] == [1, 2, 3]
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        render(chest(), cancel=token)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AppearanceWindow(2.0, 2.0),
        lambda: AppearanceWindow(float("nan"), 2.0),
        lambda: PercentileWindow(60, 40),
        lambda: PercentileWindow(-1, 40),
        lambda: CharacteristicCurve(width=0),
        lambda: MultiscaleContrast(power=0),
        lambda: MultiscaleContrast(detail=-1),
        lambda: Scatter(ratio=-0.1),
        lambda: Noise(photons_per_mm2=0),
        lambda: render(np.zeros(5)),
        lambda: render(np.zeros((0, 5))),
    ],
)
def test_settings_that_cannot_be_used_are_refused(make) -> None:
    with pytest.raises(InvalidInputError):
        make()
