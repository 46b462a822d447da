"""A scene is painted as it was described: in order, exactly, everywhere the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.imaging import Grid
from napari_cxr3d.phantom.labels import LUNG, Label, label_mask
from napari_cxr3d.phantom.painting import paint, where_painted
from napari_cxr3d.phantom.scene import KEEP, Blend, Clip, Pattern, Rule, SceneBuilder
from napari_cxr3d.progress import CancelToken

GRID = Grid((40, 44, 48), (2.0, 2.0, 2.0), (-47.0, -43.0, 39.0))
ORGAN = int(Label.LIVER)


def positions() -> np.ndarray:
    """LPS position of every voxel, (I, P, L, 3)."""
    return GRID.index_to_lps(np.stack(np.indices(GRID.shape), axis=-1))


def painted(*shapes, **settings):
    builder = SceneBuilder(**settings)
    for name, arguments, rule, options in shapes:
        getattr(builder, name)(*arguments, rule, **options)
    return paint(builder.build(), GRID)


def test_an_ellipsoid_has_the_volume_of_its_formula():
    result = painted(("ellipsoid", ((3, -2, 5), (30, 20, 25)), Rule(ORGAN, 0.0), {}))
    exact = 4 / 3 * np.pi * 30 * 20 * 25
    by_partial_volume = ((result.hu + 1000) / 1000).sum() * 8
    assert by_partial_volume == pytest.approx(exact, rel=0.005)
    assert (result.labels == ORGAN).sum() * 8 == pytest.approx(exact, rel=0.01)


def test_a_turned_ellipsoid_lies_along_its_axes():
    axis = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    turn = np.stack([axis, [-axis[1], axis[0], 0.0], [0.0, 0.0, 1.0]], axis=1)
    result = painted(("ellipsoid", ((0, 0, 0), (36, 8, 8)), Rule(ORGAN, 0.0), {"axes": turn}))
    inside = positions()[result.labels == ORGAN]
    spread = np.linalg.eigh(np.cov(inside.T))
    assert abs(spread.eigenvectors[:, -1] @ axis) > 0.999


def test_a_cone_has_the_radii_it_was_given():
    result = painted(("cone", ((-30, 0, 0), (30, 0, 0), (12.0, 4.0)), Rule(ORGAN, 0.0), {}))
    for x, radius in ((-29.0, 12.0), (1.0, 8.0), (29.0, 4.1)):
        column = round((x - GRID.origin_lps[0]) / 2)
        area = ((result.hu[:, :, column] + 1000) / 1000).sum() * 4
        assert area == pytest.approx(np.pi * radius**2, rel=0.05)


def test_a_flat_cone_is_thin_in_its_flat_direction():
    rule = Rule(ORGAN, 0.0)
    options = {"flat": (0, 1, 0), "flatness": 3.0}
    result = painted(("cone", ((-30, 0, 0), (30, 0, 0), (15.0, 15.0)), rule, options))
    extent = np.ptp(positions()[result.labels == ORGAN], axis=0)
    assert extent[2] == pytest.approx(30, abs=4)
    assert extent[1] == pytest.approx(10, abs=4)


def test_a_loft_reaches_differently_to_each_side_and_ends_where_its_sections_end():
    sections = [[z, 0, 0, 30, 10, 20, 8, 0.0] for z in (-20.0, 0.0, 20.0)]
    result = painted(("loft", (sections,), Rule(ORGAN, 0.0), {}))
    inside = positions()[result.labels == ORGAN]
    low, high = inside.min(axis=0), inside.max(axis=0)
    assert low == pytest.approx([-10, -20, -20], abs=2.1)
    assert high == pytest.approx([30, 8, 20], abs=2.1)


def test_a_square_loft_fills_more_of_its_box_than_a_round_one():
    def area(square: float) -> int:
        sections = [[z, 0, 0, 30, 30, 30, 30, square] for z in (-30.0, 30.0)]
        return int((painted(("loft", (sections,), Rule(ORGAN, 0), {})).labels[20] == ORGAN).sum())

    assert area(0.0) * 4 == pytest.approx(np.pi * 900, rel=0.02)
    assert area(1.0) > 1.1 * area(0.0)


def test_a_shell_is_a_sheet_within_its_box():
    box = ((0, -50, -50), (50, 50, 50))
    result = painted(("shell", ((0, 0, 0), 30.0, 6.0), Rule(ORGAN, 0.0), {"box": box}))
    inside = positions()[result.labels == ORGAN]
    radius = np.linalg.norm(inside, axis=1)
    assert radius.min() > 26 and radius.max() < 34
    assert inside[:, 0].min() >= -2


def test_a_clip_cuts_off_what_lies_beyond_its_plane():
    clip = Clip.through((0, 5, 0), (0, 2, 0))
    result = painted(("ellipsoid", ((0, 0, 0), (30, 30, 30)), Rule(ORGAN, 0.0), {"clip": clip}))
    assert positions()[result.labels == ORGAN][:, 1].max() <= 6


def test_a_half_space_fills_only_what_its_rule_may_cover():
    lung, fluid = int(LUNG[0]), int(Label.PLEURAL_FLUID)
    level = Clip.through((0, 0, 0), (0, -1, 0))  # keeps y >= 0: behind
    result = painted(
        ("ellipsoid", ((0, 0, 0), (30, 30, 30)), Rule(lung, -850.0), {}),
        ("half_space", (level,), Rule(fluid, 10.0, over=label_mask(LUNG)), {}),
    )
    y = positions()[..., 1]
    assert set(np.unique(result.labels)) == {0, lung, fluid}
    assert y[result.labels == fluid].min() >= -1
    assert y[result.labels == lung].max() <= 1


def test_later_paint_covers_earlier_paint_where_it_may():
    over = Rule(5, 50.0, over=label_mask([4]))
    result = painted(
        ("ellipsoid", ((-10, 0, 0), (20, 20, 20)), Rule(4, 40.0), {}),
        ("ellipsoid", ((10, 0, 0), (20, 20, 20)), over, {}),
    )
    assert (result.labels == 5).any()
    x = positions()[..., 0]
    assert x[result.labels == 5].max() < 11  # nothing where only the second reaches


@pytest.mark.parametrize(
    ("blend", "expected"),
    [(Blend.SET, 100.0), (Blend.ADD, 140.0), (Blend.RAISE, 100.0), (Blend.LOWER, 40.0)],
)
def test_the_blends_meet_what_is_there(blend, expected):
    result = painted(
        ("ellipsoid", ((0, 0, 0), (30, 30, 30)), Rule(4, 40.0), {}),
        ("ellipsoid", ((0, 0, 0), (15, 15, 15)), Rule(KEEP, 100.0, blend=blend), {}),
    )
    assert result.hu[20, 22, 24] == expected
    assert result.labels[20, 22, 24] == 4


def test_a_finding_leaves_its_bit_and_others_stay():
    result = painted(
        ("ellipsoid", ((0, 0, 0), (30, 30, 30)), Rule(4, 40.0, finding=0), {}),
        ("ellipsoid", ((0, 0, 0), (10, 10, 10)), Rule(KEEP, 60.0, finding=31), {}),
    )
    assert result.findings[20, 22, 24] == (1 << 31) + 1
    assert set(np.unique(result.findings)) == {0, 1, (1 << 31) + 1}


@pytest.mark.parametrize("pattern", list(Pattern))
def test_a_pattern_thins_the_paint_out(pattern):
    rule = Rule(ORGAN, 0.0, pattern=pattern, pattern_mm=8.0, pattern_above=0.0, seed=3)
    share = (painted(("ellipsoid", ((0, 0, 0), (36, 36, 36)), rule, {})).labels == ORGAN).sum() / (
        4 / 3 * np.pi * 18**3
    )
    assert 0.1 < share < 0.9


def test_mottle_varies_the_hu_within_its_amplitude():
    rule = Rule(ORGAN, 0.0, mottle_hu=30.0, mottle_mm=8.0)
    hu = painted(("ellipsoid", ((0, 0, 0), (60, 60, 60)), rule, {})).hu[10:30, 10:30, 10:30]
    assert 5 < hu.std() < 20
    assert np.abs(hu).max() <= 30


def test_the_warp_bends_bodies_but_not_devices():
    def edge(warped: bool) -> np.ndarray:
        rule = Rule(ORGAN, 0.0, warped=warped)
        return painted(
            ("ellipsoid", ((0, 0, 0), (30, 30, 30)), rule, {}), seed=5, warp_mm=6.0
        ).labels

    still = painted(("ellipsoid", ((0, 0, 0), (30, 30, 30)), Rule(ORGAN, 0.0), {})).labels
    assert np.array_equal(edge(False), still)
    assert not np.array_equal(edge(True), still)


def test_a_point_of_the_scene_is_found_where_it_was_painted():
    center = (10.0, -6.0, 4.0)
    builder = SceneBuilder(seed=8, warp_mm=6.0, warp_scale_mm=60.0)
    builder.ellipsoid(center, (5, 5, 5), Rule(ORGAN, 0.0))
    scene = builder.build()
    grid = Grid((60, 60, 60), (1.0, 1.0, 1.0), (-20.0, -36.0, 34.0))
    inside = np.argwhere(paint(scene, grid).labels == ORGAN)
    middle = grid.index_to_lps(inside.mean(axis=0))
    (expected,) = where_painted(scene, [center])
    assert np.linalg.norm(expected - np.array(center)) > 1
    assert middle == pytest.approx(expected, abs=0.8)


def test_the_number_of_threads_changes_nothing():
    scene = _busy_scene()
    one, three = paint(scene, GRID, threads=1), paint(scene, GRID, threads=3)
    for name in ("hu", "labels", "findings"):
        assert np.array_equal(getattr(one, name), getattr(three, name))


def test_half_the_voxel_size_shows_the_same_body():
    scene = _busy_scene()
    fine_grid = Grid((80, 88, 96), (1.0, 1.0, 1.0), (-47.5, -43.5, 39.5))
    fine = paint(scene, fine_grid).hu.reshape(40, 2, 44, 2, 48, 2).mean(axis=(1, 3, 5))
    coarse = paint(scene, GRID).hu
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.995


def test_painting_can_be_cancelled():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        paint(_busy_scene(), GRID, cancel=token)


@pytest.mark.parametrize(
    "make",
    [
        lambda b: b.ellipsoid((0, 0, 0), (1, 0, 1), Rule(1, 0.0)),
        lambda b: b.loft([[0, 0, 0, 1, 1, 1, 1, 0]], Rule(1, 0.0)),
        lambda b: b.loft([[z, 0, 0, 1, 1, 1, 1, 0] for z in (0, 1, 3)], Rule(1, 0.0)),
        lambda b: b.cone((0, 0, 0), (1, 0, 0), (1, 1), Rule(1, 0.0), flat=(0, 0, 0)),
        lambda b: Rule(1, 0.0, soft_mm=-1),
        lambda b: Rule(1, 0.0, finding=32),
    ],
)
def test_shapes_that_cannot_be_are_refused(make):
    with pytest.raises(InvalidInputError):
        make(SceneBuilder())


def test_the_bytes_of_a_scene_are_known():
    """Other bytes on any machine, or after any change, mean another phantom for every seed."""
    from hashlib import sha256

    result = paint(_busy_scene(), GRID)
    digest = sha256(result.hu.tobytes() + result.labels.tobytes() + result.findings.tobytes())
    assert digest.hexdigest()[:16] == "4eb89051bc7be9a5"


CUDA_SCRIPT = """
import numpy as np
from tests_scene import _busy_scene
from napari_cxr3d.imaging import Grid
from napari_cxr3d.phantom.cuda import paint_batch
from napari_cxr3d.phantom.painting import paint
grid = Grid((9, 8, 10), (9.0, 10.0, 9.0), (-41.0, -36.0, 37.0))
scenes = [_busy_scene(), _busy_scene(seed=9, shapes=5)]
for scene, batched in zip(scenes, paint_batch(scenes, grid)):
    alone = paint(scene, grid, threads=1)
    for name in ("hu", "labels", "findings"):
        assert np.array_equal(getattr(alone, name), getattr(batched, name)), name
    assert len(np.unique(alone.labels)) > 2
print("same")
"""


def test_a_batch_on_cuda_is_what_the_processor_paints_one_by_one(tmp_path):
    """In numba's simulator, which runs the CUDA kernel without a GPU."""
    shutil.copy(__file__, tmp_path / "tests_scene.py")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CUDA_SCRIPT],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "same", done.stderr[-2000:]


@pytest.mark.gpu
def test_a_real_gpu_paints_the_same_body():
    cuda = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("no CUDA device")
    from napari_cxr3d.phantom.cuda import paint_batch

    (batched,) = paint_batch([_busy_scene()], GRID)
    alone = paint(_busy_scene(), GRID)
    assert (batched.labels == alone.labels).mean() > 0.9999
    assert np.abs(batched.hu - alone.hu).max() < 0.5


def test_cuda_without_a_gpu_says_what_is_missing():
    from numba import cuda

    from napari_cxr3d.errors import BackendUnavailableError
    from napari_cxr3d.phantom.cuda import paint_batch

    if cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendUnavailableError, match="CUDA"):
        paint_batch([_busy_scene()], GRID)


def _busy_scene(seed: int = 4, shapes: int = 30):
    """Every shape, blend and pattern, strewn at random over an ellipsoid."""
    rng = np.random.default_rng(seed)
    builder = SceneBuilder(seed=seed, warp_mm=4.0, warp_scale_mm=50.0)
    builder.ellipsoid((0, 0, 0), (44, 40, 38), Rule(1, 20.0, mottle_hu=10.0, rough_mm=2.0))
    sections = [[z, 2, 1, 20, 25, 18, 22, 0.5] for z in (-25.0, 0.0, 25.0)]
    builder.loft(sections, Rule(2, -850.0, finding=1))
    builder.shell((0, 0, 60), 60.0, 5.0, Rule(3, -700.0, over=label_mask([2])))
    for number in range(shapes):
        start, step = rng.uniform(-30, 30, 3), rng.uniform(-15, 15, 3)
        rule = Rule(
            4 + number % 5, float(rng.uniform(-200, 300)), blend=Blend(number % 4),
            pattern=Pattern(number % 3), pattern_above=-1.0 if number % 2 else 0.1,
            finding=number % 7, seed=number,
        )  # fmt: skip
        builder.cone(start, start + step, (6.0, 2.0), rule, flat=(0, 0, 1), flatness=1.5)
    level = Clip.through((0, 20, 0), (0, -1, 0))
    builder.half_space(level, Rule(20, 5.0, over=label_mask([2])))
    return builder.build()


def test_sorting_shapes_into_tiles_leaves_nothing_out(monkeypatch):
    from napari_cxr3d.phantom import painting

    def every_shape_in_every_tile(scene, grid):
        tiles = painting_tiles(scene, grid)
        count = len(tiles.first) - 1
        members = np.tile(np.arange(len(scene), dtype=np.int32), count)
        return painting.Tiles(tiles.shape, np.arange(count + 1) * len(scene), members)

    painting_tiles = painting.tiles_of
    scene = _busy_scene()
    sorted_ = paint(scene, GRID)
    monkeypatch.setattr(painting, "tiles_of", every_shape_in_every_tile)
    all_ = paint(scene, GRID)
    for name in ("hu", "labels", "findings"):
        assert np.array_equal(getattr(sorted_, name), getattr(all_, name))
