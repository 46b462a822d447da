"""Agreement of X-rays is measured as the formulas say, and refuses what it cannot compare."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.projection import explained_projection, reprojection_error

MEASURED = np.random.default_rng(0).random((2, 5, 6), dtype=np.float32) + 1


def test_agreement_is_perfect_for_equal_pictures() -> None:
    assert float(reprojection_error(MEASURED, MEASURED)) == 0
    assert float(explained_projection(MEASURED, MEASURED)) == 1


def test_relative_error_is_that_of_the_norms() -> None:
    assert float(reprojection_error(1.1 * MEASURED, MEASURED)) == pytest.approx(0.1, rel=1e-5)
    assert not reprojection_error(MEASURED, MEASURED).higher_is_better


def test_flat_pictures_at_each_views_mean_explain_nothing() -> None:
    measured = MEASURED + np.array([0, 5])[:, None, None]
    flat = np.broadcast_to(measured.mean(axis=(1, 2), keepdims=True), measured.shape)
    assert float(explained_projection(flat, measured)) == pytest.approx(0, abs=1e-6)
    assert float(explained_projection(flat + 1, measured)) < -1


def test_rays_outside_the_mask_do_not_count() -> None:
    mask = np.zeros(MEASURED.shape, bool)
    mask[:, 1:4, 2:5] = True
    spoilt = np.where(mask, MEASURED, 99)
    for metric in (reprojection_error, explained_projection):
        assert float(metric(spoilt, MEASURED)) != pytest.approx(float(metric(MEASURED, MEASURED)))
        inside = metric(spoilt, MEASURED, mask=mask)
        assert float(inside) == float(metric(MEASURED, MEASURED, mask=mask))
        assert "mask" in inside.convention


@pytest.mark.parametrize("metric", [reprojection_error, explained_projection])
def test_what_cannot_be_compared_is_refused(metric) -> None:  # type: ignore[no-untyped-def]
    zeros = np.zeros_like(MEASURED)
    for wrong in (
        {"projected": MEASURED[:1], "measured": MEASURED},
        {"projected": MEASURED * np.nan, "measured": MEASURED},
        {"projected": MEASURED, "measured": MEASURED, "mask": zeros > 1},
        {"projected": MEASURED, "measured": zeros},
    ):
        with pytest.raises(InvalidInputError):
            metric(**wrong)
