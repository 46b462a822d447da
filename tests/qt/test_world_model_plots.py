"""The map of pictures: what it computes, and what a click on it means."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF

from napari_cxr3d.widgets.world_model.mapping import main_directions
from napari_cxr3d.widgets.world_model.plots import Dot, ScatterPlot


def test_main_directions_are_those_of_the_largest_variance():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (5.0, 2.0)
    basis, _ = np.linalg.qr(rng.normal(size=(10, 2)))
    vectors = (plane @ basis.T + 3.0).astype(np.float32)
    places, explained = main_directions(vectors)
    centred = plane - plane.mean(0)
    apart = np.linalg.norm(centred[:, None] - centred[None], axis=-1)
    found = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert found == pytest.approx(apart, abs=1e-3)  # nothing was lost but the other eight
    assert explained.sum() == pytest.approx(1.0, abs=1e-5)
    assert explained[0] > explained[1]


def test_only_a_click_near_a_dot_means_it(qtbot):
    plot = ScatterPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 300)
    plot.show_dots([Dot(0, 0, "a", "#ffffff"), Dot(1, 1, "b", "#ffffff")], "x", "y")
    at = plot.to_pixels(1, 1)
    assert plot.dot_at(at + QPointF(3, 3)) == 1
    assert plot.dot_at(at + QPointF(-60, 60)) == -1
