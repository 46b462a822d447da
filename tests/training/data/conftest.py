"""Small CTs with a body and two lungs in them, quick to make and all different."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cxr3d_training.data import Cohort, cohort_of
from napari_cxr3d.imaging import Volume

MakeVolume = Callable[..., Volume]


def small_chest(
    number: int = 0,
    *,
    shape: tuple[int, int, int] = (30, 28, 36),
    spacing_mm: tuple[float, float, float] = (10.0, 10.0, 10.0),
    noise: float = 10.0,
) -> Volume:
    """An elliptic body with two lungs, larger on the right; each number is another patient."""
    rng = np.random.default_rng(number)
    i, p, ell = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(p / 0.8) ** 2 + (ell / 0.85) ** 2 < 1] = 40.0
    for side, size in ((-0.38, 0.36), (0.42, 0.3)):
        hu[(i / 0.8) ** 2 + (p / 0.55) ** 2 + ((ell - side) / size) ** 2 < 1] = -850.0
    hu[((p - 0.5) / 0.12) ** 2 + (ell / 0.1) ** 2 < 1] = 500.0
    hu += rng.normal(0, noise, shape)
    hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Volume(hu, spacing_mm, (-150.0 + number, -140.0, 200.0))


@pytest.fixture(scope="session")
def make_chest() -> MakeVolume:
    return small_chest


@pytest.fixture(scope="session")
def ten_patients() -> Cohort:
    """Ten volumes of ten patients; each one's label ``odd`` tells its number."""
    volumes = {f"c{k}": small_chest(k) for k in range(10)}
    return cohort_of(volumes, labels={f"c{k}": {"odd": k % 2 == 1} for k in range(10)})
