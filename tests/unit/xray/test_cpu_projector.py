"""The CPU projector against exact line integrals, its own adjoint, and itself."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView
from napari_cxr3d.phantom.ellipsoids import thorax_ellipsoids
from napari_cxr3d.progress import CancelToken, Progress
from napari_cxr3d.xray.attenuation import bone_attenuation, water_attenuation
from napari_cxr3d.xray.cpu import CpuProjector
from napari_cxr3d.xray.cpu.copies import copies_of
from napari_cxr3d.xray.cpu.operators import Method, Operator

FIELD_MM = 430.0
METHODS: tuple[Method, ...] = ("siddon", "joseph", "shear-warp")


def view(size: int = 96, **changes: object) -> XrayView:
    base = XrayView(detector_shape=(size, size), pixel_mm=FIELD_MM / size)
    return replace(base, **changes)  # type: ignore[arg-type]


VIEWS = {
    "pa": view(),
    "oblique": view(yaw=20.0, pitch=8.0),
    "left lateral": view(yaw=90.0),
    "rolled ap": view(yaw=170.0, roll=25.0, flip_columns=True),
    "just past 45": view(yaw=47.0, pitch=-10.0, roll=-40.0),
    "from above": view(yaw=30.0, pitch=70.0),
    "straight down": view(pitch=90.0),
    "near": view(yaw=-60.0, source_to_isocenter_mm=700.0, source_to_detector_mm=1020.0),
}


@pytest.fixture(scope="module")
def phantom_volume() -> Volume:
    phantom = thorax_ellipsoids()
    return phantom.volume(phantom.grid((110, 100, 120), (3.2, 3.0, 2.9)))


def nrmse(image: npt.NDArray[np.float32], truth: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((image - truth) ** 2)) / truth.max())


def truth(volume: Volume, of: XrayView) -> npt.NDArray[np.float64]:
    return thorax_ellipsoids().line_integrals(of, volume.grid, water_per_mm=water_attenuation(70.0))


@pytest.mark.parametrize("name", VIEWS)
def test_full_is_as_good_as_siddon_from_any_angle(phantom_volume: Volume, name: str) -> None:
    exact = CpuProjector("exact").project(phantom_volume, [VIEWS[name]])[0]
    full = CpuProjector("full").project(phantom_volume, [VIEWS[name]])[0]
    integrals = truth(phantom_volume, VIEWS[name])
    assert nrmse(exact, integrals) < 0.01
    assert nrmse(full, integrals) < 1.3 * nrmse(exact, integrals)


@pytest.mark.parametrize("size", [24, 64, 200])
def test_full_is_as_good_as_siddon_on_coarse_and_fine_detectors(
    phantom_volume: Volume, size: int
) -> None:
    of = view(size, yaw=20.0, pitch=8.0)
    exact = CpuProjector("exact").project(phantom_volume, [of])[0]
    for shear_warp in (CpuProjector("full"), CpuProjector(method="shear-warp")):
        image = shear_warp.project(phantom_volume, [of])[0]
        integrals = truth(phantom_volume, of)
        assert nrmse(image, integrals) < 1.3 * nrmse(exact, integrals)


def test_full_is_as_good_as_siddon_on_thick_slices() -> None:
    phantom = thorax_ellipsoids()
    volume = phantom.volume(phantom.grid((45, 170, 170), (8.0, 2.0, 2.0)))
    for of in (view(yaw=35.0), view(yaw=35.0, pitch=55.0)):
        integrals = truth(volume, of)
        exact = CpuProjector("exact").project(volume, [of])[0]
        full = CpuProjector("full").project(volume, [of])[0]
        assert nrmse(full, integrals) < 1.3 * nrmse(exact, integrals)


def test_a_preview_looks_like_the_picture(phantom_volume: Volume) -> None:
    image = CpuProjector("preview").project(phantom_volume, [view(48, yaw=20.0)])[0]
    assert nrmse(image, truth(phantom_volume, view(48, yaw=20.0))) < 0.025


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", VIEWS)
def test_a_small_object_is_where_the_geometry_says(method: Method, name: str) -> None:
    grid = Grid((40, 44, 48), (3.0, 2.5, 2.0), (10.0, -20.0, 30.0))
    offsets = np.indices(grid.shape).T - np.array([9.0, 31.0, 13.0])
    mu = np.exp(-0.25 * (offsets**2).sum(axis=-1)).T.astype(np.float32)
    of = replace(VIEWS[name], detector_shape=(90, 100), pixel_mm=1.5)
    image = CpuProjector(method=method).project_attenuation(mu, grid, [of])[0]
    rows, columns = np.indices(image.shape)
    center = [float((image * axis).sum() / image.sum()) for axis in (rows, columns)]
    expected = of.frame(grid).project(grid.index_to_lps([9.0, 31.0, 13.0]))
    np.testing.assert_allclose(center, expected, atol=0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", VIEWS)
def test_backprojection_is_the_exact_adjoint(method: Method, name: str) -> None:
    random = np.random.default_rng(0)
    grid = Grid((30, 37, 41), (3.0, 2.0, 1.5), (1.0, 2.0, 3.0))
    mu = random.random(grid.shape, dtype=np.float32)
    of = replace(VIEWS[name], detector_shape=(50, 60), pixel_mm=2.5)
    images = random.random((1, 50, 60), dtype=np.float32)
    ours = CpuProjector(method=method)
    forward = float(np.vdot(ours.project_attenuation(mu, grid, [of]).astype(float), images))
    back = float(np.vdot(mu.astype(float), ours.backproject(images, [of], grid)))
    assert abs(forward / back - 1) < 1e-6


@pytest.mark.parametrize("quality", ["full", "exact", "preview"])
def test_several_views_are_one_operator_with_its_adjoint(quality: str) -> None:
    random = np.random.default_rng(1)
    grid = Grid((28, 30, 34), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    mu = random.random(grid.shape, dtype=np.float32)
    views = [replace(v, detector_shape=(40, 40), pixel_mm=4.0) for v in VIEWS.values()]
    images = random.random((len(views), 40, 40), dtype=np.float32)
    ours = CpuProjector(quality)  # type: ignore[arg-type]
    forward = float(np.vdot(ours.project_attenuation(mu, grid, views).astype(float), images))
    back = float(np.vdot(mu.astype(float), ours.backproject(images, views, grid)))
    assert abs(forward / back - 1) < 1e-6


UNIFORM = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def box_path(of: XrayView, grid: Grid) -> npt.NDArray[np.float64]:
    """Length of every ray, source to pixel, inside the grid's outer faces, in mm."""
    frame = of.frame(grid)
    rows, columns = np.indices(of.detector_shape)
    pixels = (
        frame.origin + rows[..., None] * frame.row_step + columns[..., None] * frame.column_step
    )
    half = np.array(grid.size_mm)[::-1] / 2
    step = pixels - frame.source
    step[step == 0] = 1e-12
    near = (np.array(grid.center_lps) - half - frame.source) / step
    far = (np.array(grid.center_lps) + half - frame.source) / step
    enter = np.minimum(near, far).max(axis=-1).clip(0, 1)
    leave = np.maximum(near, far).min(axis=-1).clip(0, 1)
    path: npt.NDArray[np.float64] = (leave - enter).clip(0) * np.linalg.norm(step, axis=-1)
    return path


@pytest.mark.parametrize(
    ("name", "of"),
    {
        "detector inside": XrayView(
            yaw=30.0,
            source_to_isocenter_mm=600.0,
            source_to_detector_mm=620.0,
            detector_shape=(40, 40),
            pixel_mm=2.0,
        ),
        "source inside": XrayView(
            yaw=30.0,
            source_to_isocenter_mm=30.0,
            source_to_detector_mm=300.0,
            detector_shape=(40, 40),
            pixel_mm=4.0,
        ),
        "both inside": XrayView(
            yaw=-70.0,
            pitch=20.0,
            source_to_isocenter_mm=20.0,
            source_to_detector_mm=45.0,
            detector_shape=(40, 40),
            pixel_mm=0.5,
        ),
        "volume behind the source": XrayView(
            source_to_isocenter_mm=100.0,
            source_to_detector_mm=400.0,
            detector_shape=(40, 40),
            isocenter_lps=(59.0, -300.0, -59.0),
        ),
    }.items(),
)
def test_only_the_way_from_source_to_pixel_counts(name: str, of: XrayView) -> None:
    mu = np.ones(UNIFORM.shape, dtype=np.float32)
    path = box_path(of, UNIFORM)
    exact = CpuProjector("exact").project_attenuation(mu, UNIFORM, [of])[0]
    np.testing.assert_allclose(exact, path, atol=2e-3)
    full = CpuProjector("full").project_attenuation(mu, UNIFORM, [of])[0]
    inner = path > 0.5 * max(path.max(), 1e-9)
    np.testing.assert_allclose(full[inner], path[inner], atol=2.0)  # one voxel
    assert abs(float(full.sum()) - path.sum()) <= 0.02 * path.sum()


def test_no_line_integral_is_negative(phantom_volume: Volume) -> None:
    assert CpuProjector("full").project(phantom_volume, [VIEWS["oblique"]]).min() == 0.0
    for path in CpuProjector("full").project_basis(phantom_volume, [VIEWS["oblique"]]):
        assert path.min() == 0.0


def test_rays_along_the_axes_are_exact() -> None:
    grid = Grid((20, 20, 21), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    mu = np.random.default_rng(2).random(grid.shape, dtype=np.float32)
    of = XrayView(detector_shape=(1, 1), pixel_mm=1.0)
    exact = CpuProjector("exact").project_attenuation(mu, grid, [of])[0, 0, 0]
    # The central ray runs along P on the face between two rows, in the middle of a column.
    columns = [float(mu[i, :, 10].sum()) * 2.0 for i in (9, 10)]
    assert min(abs(exact - c) for c in columns) < 1e-4


@pytest.mark.parametrize("shape", [(1, 60, 60), (60, 1, 60), (60, 60, 1), (1, 1, 1)])
def test_volumes_of_one_slice_are_exact_boxes(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    of = XrayView(yaw=25.0, pitch=15.0, detector_shape=(30, 30), pixel_mm=3.0)
    mu = np.ones(shape, dtype=np.float32)
    for quality in ("full", "exact"):
        image = CpuProjector(quality).project_attenuation(mu, grid, [of])[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(image, box_path(of, grid), atol=2e-3)


def test_a_volume_beside_the_beam_leaves_the_picture_empty() -> None:
    mu = np.ones(UNIFORM.shape, dtype=np.float32)
    of = view(32, isocenter_lps=(2000.0, 0.0, 0.0))
    for method in METHODS:
        assert not CpuProjector(method=method).project_attenuation(mu, UNIFORM, [of]).any()


def test_quantised_copies_cost_no_visible_accuracy(phantom_volume: Volume) -> None:
    ours = CpuProjector("full")
    mu = np.maximum(phantom_volume.hu + 1000, 0) / 1000 * np.float32(water_attenuation(70.0))
    floats = ours.project_attenuation(mu, phantom_volume.grid, [VIEWS["oblique"]])
    quanta = ours.project(phantom_volume, [VIEWS["oblique"]])
    assert np.abs(np.maximum(floats, 0) - quanta).max() < 2e-4 * floats.max()


def test_the_basis_predicts_every_energy(phantom_volume: Volume) -> None:
    water, bone = CpuProjector("full").project_basis(phantom_volume, [VIEWS["oblique"]])
    at_100 = CpuProjector("full", energy_kev=100.0).project(phantom_volume, [VIEWS["oblique"]])
    predicted = water * water_attenuation(100.0) + bone * bone_attenuation(100.0)
    assert bone.max() > 5.0
    np.testing.assert_allclose(predicted, at_100, atol=1e-3 * at_100.max())


@pytest.mark.parametrize("quality", ["full", "exact"])
def test_results_do_not_depend_on_the_number_of_threads(
    phantom_volume: Volume, quality: str
) -> None:
    views = [VIEWS["oblique"], VIEWS["left lateral"]]
    one, three = (CpuProjector(quality, threads=n) for n in (1, 3))  # type: ignore[arg-type]
    images = one.project(phantom_volume, views)
    np.testing.assert_array_equal(images, three.project(phantom_volume, views))
    np.testing.assert_array_equal(
        one.backproject(images, views, phantom_volume),
        three.backproject(images, views, phantom_volume),
    )


def test_two_threads_may_project_at_once(phantom_volume: Volume) -> None:
    ours = CpuProjector("full")
    volume = phantom_volume.with_hu(phantom_volume.hu)  # no copies yet
    expected = ours.project(phantom_volume, [VIEWS["left lateral"]])
    results: list[npt.NDArray[np.float32]] = []

    def work() -> None:
        results.append(ours.project(volume, [VIEWS["left lateral"]]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_progress_counts_the_views(phantom_volume: Volume) -> None:
    told: list[Progress] = []
    CpuProjector("preview").project(phantom_volume, [view(16)] * 3, progress=told.append)
    assert [(p.done, p.total) for p in told] == [(1, 3), (2, 3), (3, 3)]


def test_a_cancelled_projection_stops_between_blocks(phantom_volume: Volume) -> None:
    cancel = CancelToken()
    done: list[Progress] = []

    def stop(progress: Progress) -> None:
        done.append(progress)
        cancel.cancel()

    with pytest.raises(Cancelled):
        CpuProjector("full").project(phantom_volume, [view(64)] * 5, progress=stop, cancel=cancel)
    assert len(done) == 1
    with pytest.raises(Cancelled):
        CpuProjector("exact").project(phantom_volume, [view(64)], cancel=cancel)


def test_no_thread_is_left_behind(phantom_volume: Volume) -> None:
    before = threading.active_count()
    CpuProjector("full", threads=4).project(phantom_volume, [view(64)])
    assert threading.active_count() == before


@pytest.mark.parametrize("quality", ["full", "preview"])
def test_after_preparing_a_projection_makes_no_copy(phantom_volume: Volume, quality: str) -> None:
    ours = CpuProjector(quality)  # type: ignore[arg-type]
    volume = phantom_volume.with_hu(phantom_volume.hu)
    views = [VIEWS["pa"], VIEWS["left lateral"]]
    ours.prepare(volume, views)
    held = copies_of(volume).nbytes()
    ours.project(volume, views)
    assert copies_of(volume).nbytes() == held


def test_views_with_different_detectors_are_refused(phantom_volume: Volume) -> None:
    with pytest.raises(InvalidInputError, match="one detector shape"):
        CpuProjector().project(phantom_volume, [view(16), view(32)])
    with pytest.raises(InvalidInputError, match="no view"):
        CpuProjector().project(phantom_volume, [])


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="grid"):
        CpuProjector().project_attenuation(np.zeros((3, 3, 3), np.float32), UNIFORM, [view(8)])
    with pytest.raises(InvalidInputError, match="views"):
        CpuProjector().backproject(np.zeros((2, 8, 8), np.float32), [view(8)], UNIFORM)
    with pytest.raises(InvalidInputError, match="thread"):
        CpuProjector(threads=0)


def test_a_volume_too_large_for_the_ray_kernels_is_refused() -> None:
    grid = Grid((2048, 2048, 1024), (0.2, 0.2, 0.2), (0.0, 0.0, 0.0))
    with pytest.raises(InvalidInputError, match="too large"):
        Operator(XrayView(), grid, "siddon")


def test_the_fast_method_serves_the_clinical_views() -> None:
    grid = Grid((400, 512, 512), (0.9, 0.7, 0.7), (0.0, 0.0, 0.0))
    for yaw in range(-180, 180, 15):
        for pitch in (-30.0, 0.0, 30.0):
            of = XrayView(yaw=float(yaw), pitch=pitch)
            assert Operator(of, grid, "shear-warp").method == "shear-warp", (yaw, pitch)
