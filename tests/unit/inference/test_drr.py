"""A CT and its views become radiographs: the way of the panel and the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_cxr3d.errors import (
    Cancelled,
    EnergyOutOfRangeError,
    InvalidInputError,
    OutOfMemoryError,
)
from napari_cxr3d.imaging import Radiograph, Volume, XrayView, preset
from napari_cxr3d.inference import DrrRequest, DrrResult, render_drr, sweep_views
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray.appearance import Appearance, AppearanceWindow, Noise, render
from napari_cxr3d.xray.attenuation import bone_attenuation, water_attenuation
from napari_cxr3d.xray.diffdrr_backend import published_drr, published_view
from napari_cxr3d.xray.published_simulators import published_radiograph
from napari_cxr3d.xray.simulator_domains import domain
from napari_cxr3d.xray.simulator_system import Simulator
from napari_cxr3d.xray.spectra import polyenergetic_integrals

SMALL = XrayView(detector_shape=(20, 24), pixel_mm=12.0)


@pytest.fixture(scope="module")
def block() -> Volume:
    """Water, 160 x 120 x 200 mm, with a rod of bone in front on the left; the rest is air."""
    hu = np.full((26, 30, 30), -1000, np.int16)
    hu[3:23, 8:23, 3:28] = 0
    hu[3:23, 9:12, 20:23] = 1000
    return Volume(hu, (8.0, 8.0, 8.0), (-116.0, -116.0, 100.0))


def project(volume: Volume, **settings) -> DrrResult:
    settings.setdefault("views", (SMALL,))
    return render_drr(DrrRequest(volume, backend="cpu", **settings))


def test_the_integral_through_water_is_its_thickness(block: Volume) -> None:
    result = project(block, appearance="integral")
    assert result.integrals.shape == (1, 20, 24)
    assert result.integrals.dtype == np.float32
    # The central ray meets 15 voxels of 8 mm.
    assert result.integrals[0, 9:11, 10] == pytest.approx(120 * water_attenuation(70.0), rel=0.01)
    assert result.pictures is result.integrals
    assert result.window is None
    assert result.quantity == "line_integral"


def test_the_energy_is_the_one_asked_for(block: Volume) -> None:
    soft = project(block, appearance="integral", energy_kev=40.0)
    assert soft.integrals[0, 10, 10] == pytest.approx(120 * water_attenuation(40.0), rel=0.01)
    assert soft.provenance.parameters["energy_kev"] == 40.0
    with pytest.raises(EnergyOutOfRangeError):
        project(block, energy_kev=20.0)


def test_a_tube_voltage_gives_the_polyenergetic_reading(block: Volume) -> None:
    result = project(block, appearance="integral", kilovolt=120.0)
    expected = polyenergetic_integrals(np.array([120.0]), np.zeros(1), 120.0)
    assert result.integrals[0, 10, 10] == pytest.approx(float(expected[0]), rel=0.01)
    assert result.provenance.parameters["kilovolt"] == 120.0
    assert "energy_kev" not in result.provenance.parameters
    soft = project(block, appearance="integral", kilovolt=60.0)
    rod, beside = (10, slice(14, 20)), (10, 8)
    contrast = [r.integrals[0][rod].max() - r.integrals[0][beside] for r in (soft, result)]
    assert contrast[0] > 1.2 * contrast[1] > 0
    assert bone_attenuation(60.0) > bone_attenuation(120.0)


def test_the_bone_in_front_on_the_left_is_seen_where_it_belongs(block: Volume) -> None:
    frontal = project(block, appearance="integral").integrals[0]
    # Left on the right of the picture.
    assert np.argmax(frontal[10]) > 12
    lateral = project(block, appearance="integral", views=(replace(SMALL, yaw=90.0),)).integrals[0]
    # In front is left of the spine in a left lateral.
    assert np.argmax(lateral[10]) < 12


def test_pictures_take_the_look_asked_for(block: Volume) -> None:
    plain = project(block, appearance="minmax")
    assert plain.pictures.min() == 0
    assert plain.pictures.max() == 1
    named = project(block, appearance="radiograph")
    default = project(block)
    np.testing.assert_array_equal(named.pictures, default.pictures)
    np.testing.assert_array_equal(
        default.pictures, render(default.integrals, window=default.window)
    )
    film = project(block, appearance=Appearance(as_film=True))
    np.testing.assert_allclose(film.pictures, 1 - default.pictures, atol=1e-6)


def test_a_window_can_be_held_for_further_views(block: Volume) -> None:
    first = project(block)
    assert first.window is not None
    turned = project(block, views=(replace(SMALL, yaw=60.0),), window=first.window)
    assert turned.window == first.window
    assert turned.provenance.parameters["window"] == [first.window.low, first.window.high]
    held = project(block, window=AppearanceWindow(0.0, 50.0))
    assert held.pictures.max() < first.pictures.max()


def test_a_sweep_shares_one_window(block: Volume) -> None:
    views = sweep_views(SMALL, 0, 90, 45)
    sweep = project(block, views=views)
    assert sweep.pictures.shape == (3, 20, 24)
    assert sweep.provenance.operation == "sweep"
    for k, view in enumerate(views):
        alone = project(block, views=(view,), window=sweep.window)
        np.testing.assert_allclose(sweep.pictures[k], alone.pictures[0], atol=1e-6)


def test_the_table_can_be_left_out(block: Volume) -> None:
    hu = block.hu.copy()
    hu[:, 26, :] = 300
    scan = block.with_hu(hu)
    bare = project(scan, appearance="integral", remove_table=True)
    np.testing.assert_allclose(
        bare.integrals, project(block, appearance="integral").integrals, atol=1e-5
    )
    assert bare.provenance.parameters["remove_table"] is True
    assert bare.provenance.inputs == (scan.content_sha256(),)


def test_provenance_is_enough_to_make_it_again(block: Volume) -> None:
    noisy = Appearance(noise=Noise(seed=5))
    result = project(block, appearance=noisy, views=(replace(SMALL, yaw=12.0),))
    record = json.loads(json.dumps(result.provenance.to_dict()))
    assert record["synthetic"] is True
    assert record["backend"] == result.backend == "cpu"
    assert record["seed"] == 5
    assert record["inputs"] == [block.content_sha256()]
    settings = record["parameters"]
    view = XrayView.from_dict(settings["views"][0])
    assert view == result.views[0] == replace(SMALL, yaw=12.0).resolved(block.grid)
    assert settings["appearance"]["noise"]["seed"] == 5
    again = project(block, views=(view,), appearance=noisy)
    np.testing.assert_array_equal(again.pictures, result.pictures)


@pytest.mark.parametrize(
    ("view", "position"),
    [
        (preset("pa"), "PA"),
        (preset("ap-bedside"), "AP"),
        (preset("left-lateral"), "LL"),
        (preset("right-lateral"), "RL"),
        (XrayView(yaw=-180.0), "AP"),
        (XrayView(yaw=360.0), "PA"),
        (XrayView(yaw=30.0), ""),
        (XrayView(pitch=15.0), ""),
    ],
)
def test_a_result_gives_synthetic_radiographs(block: Volume, view: XrayView, position: str) -> None:
    result = project(block, views=(replace(view, detector_shape=(4, 6), pixel_mm=60.0),))
    radiograph = result.radiograph()
    assert isinstance(radiograph, Radiograph)
    assert radiograph.synthetic
    assert radiograph.view_position == position
    assert radiograph.pitch_mm == (60.0, 60.0)
    assert radiograph.view == result.views[0]
    assert radiograph.quantity == "display"
    assert radiograph.display_range == (0.0, 1.0)
    np.testing.assert_array_equal(radiograph.pixels, result.pictures[0])


def test_progress_only_grows_and_ends_at_the_whole(block: Volume) -> None:
    seen: list[Progress] = []
    render_drr(
        DrrRequest(block, sweep_views(SMALL, 0, 20, 10), backend="cpu"), progress=seen.append
    )
    fractions = [step.fraction for step in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert len(seen) >= 6


def test_a_cancelled_request_stops(block: Volume) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        render_drr(DrrRequest(block, (SMALL,), backend="cpu"), cancel=token)
    token = CancelToken()
    seen: list[Progress] = []

    def stop_after_the_first(step: Progress) -> None:
        seen.append(step)
        token.cancel()

    with pytest.raises(Cancelled):
        render_drr(
            DrrRequest(block, sweep_views(SMALL, 0, 90, 5), backend="cpu"),
            progress=stop_after_the_first,
            cancel=token,
        )
    assert seen[-1].fraction < 0.5


def test_what_would_not_fit_is_refused_before_it_starts(block: Volume) -> None:
    huge = XrayView(detector_shape=(16384, 16384))
    with pytest.raises(OutOfMemoryError, match=r"3600 views of 16384 x 16384 pixels .* GB"):
        render_drr(DrrRequest(block, sweep_views(huge, 0, 359.9, 0.1)))


def test_requests_that_cannot_be_are_refused(block: Volume) -> None:
    with pytest.raises(InvalidInputError, match="no view"):
        DrrRequest(block, ())
    with pytest.raises(InvalidInputError, match="one detector shape"):
        DrrRequest(block, (SMALL, preset("pa")))
    with pytest.raises(InvalidInputError, match="integral, radiograph, minmax"):
        DrrRequest(block, (SMALL,), appearance="bright")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="cpu"):
        render_drr(DrrRequest(block, (SMALL,), backend="gpu"))


@pytest.mark.parametrize(
    ("start", "stop", "step", "yaws"),
    [
        (0, 20, 5, [0, 5, 10, 15, 20]),
        (0, 19, 5, [0, 5, 10, 15]),
        (10, -10, -10, [10, 0, -10]),
        (0, 0.3, 0.1, [0, 0.1, 0.2, 0.3]),
        (7, 7, 5, [7]),
        (7, 7, -5, [7]),
    ],
)
def test_a_sweep_includes_its_end_where_it_falls_on_a_step(
    start: float, stop: float, step: float, yaws: list[float]
) -> None:
    base = replace(preset("ap"), pitch=3.0)
    views = sweep_views(base, start, stop, step)
    assert [view.yaw for view in views] == pytest.approx(yaws)
    assert {replace(view, yaw=180.0) for view in views} == {base}


@pytest.mark.parametrize(
    ("start", "stop", "step", "message"),
    [
        (0, 90, 0, "needs a step"),
        (0, 90, -5, "step of 5"),
        (90, 0, 5, "step of -5"),
        (0, 360, 0.01, "GB"),
        (0, 360, 5e-324, "larger step"),
        (0, float("inf"), 5, "finite"),
        (float("nan"), 10, 5, "finite"),
    ],
)
def test_a_sweep_that_cannot_be_made_says_what_to_change(
    start: float, stop: float, step: float, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        sweep_views(preset("pa"), start, stop, step)


def test_a_realistic_radiograph_has_a_system_of_its_own_for_each_seed(block: Volume) -> None:
    first, again, other = (project(block, appearance="realistic", seed=s) for s in (2, 2, 3))
    np.testing.assert_array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.pictures, other.pictures)
    system = domain("realistic").sample(2)
    assert first.provenance.seed == 2
    assert Simulator.from_dict(first.provenance.parameters["appearance"]) == system
    assert first.provenance.parameters["kilovolt"] == system.beam.kilovolt
    assert first.quantity == "display"
    json.dumps(first.provenance.to_dict(), allow_nan=False)


def test_a_tube_voltage_takes_the_place_of_the_systems_own(block: Volume) -> None:
    result = project(block, appearance="realistic", seed=2, kilovolt=61.0)
    plain = project(block, appearance="integral", kilovolt=61.0)
    np.testing.assert_array_equal(result.integrals, plain.integrals)
    assert result.provenance.parameters["appearance"]["beam"]["kilovolt"] == 61.0


def test_a_simulator_can_be_given_itself(block: Volume) -> None:
    views = sweep_views(SMALL, 0, 20, 10)
    result = project(block, appearance=domain("drr").sample(0), views=views)
    plain = project(block, appearance="integral", views=views)
    spread = np.ptp(plain.integrals)
    expected = (plain.integrals - plain.integrals.min()) / spread  # one window for the sweep
    np.testing.assert_allclose(result.pictures, expected, atol=1e-4)


def test_published_looks_project_what_their_authors_did(block: Volume) -> None:
    pytest.importorskip("diffdrr")
    x_win, x_ray2ctpa = (project(block, appearance=name) for name in ("x-win", "x-ray2ctpa"))
    np.testing.assert_array_equal(x_win.integrals, x_ray2ctpa.integrals)
    assert (x_win.pictures.min(), x_win.pictures.max()) == (0, 1)
    assert x_ray2ctpa.pictures is x_ray2ctpa.integrals
    assert "kilovolt" not in x_win.provenance.parameters


def test_any_projector_makes_diffdrrs_published_picture(block: Volume) -> None:
    pytest.importorskip("diffdrr")
    view = published_view("x-win", size=32)
    ours = project(block, appearance="x-win", views=(view,), quality="exact").pictures[0]
    theirs = published_drr("x-win", block, size=32)
    assert np.abs(ours - theirs).mean() < 0.01


def test_x2ct_clip_projects_once_from_the_front(block: Volume) -> None:
    result = project(block, appearance="x2ct-clip")
    np.testing.assert_array_equal(result.pictures[0], published_radiograph(block, "x2ct-clip"))
    assert result.views[0].detector_shape == result.pictures.shape[1:]
    for views in ((replace(SMALL, yaw=30.0),), sweep_views(SMALL, 0, 10, 5)):
        with pytest.raises(InvalidInputError, match="straight from the front"):
            project(block, appearance="x2ct-clip", views=views)
    project(block, appearance="x2ct-clip", views=(replace(SMALL, yaw=180.0),))


def test_published_looks_know_no_tube_voltage(block: Volume) -> None:
    with pytest.raises(InvalidInputError, match="no tube voltage"):
        project(block, appearance="x-win", kilovolt=120.0)
    with pytest.raises(InvalidInputError, match="seed must be 0 or more"):
        project(block, appearance="realistic", seed=-1)
