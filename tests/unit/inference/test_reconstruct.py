"""From X-rays to volumes: the same seed, the same volume; every step seen, stoppable, recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import (
    BundleError,
    Cancelled,
    InputRefusedError,
    InvalidInputError,
    OutOfMemoryError,
)
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference import reconstruct_memory as memory
from napari_cxr3d.inference import reconstruct_stages as stages
from napari_cxr3d.inference.reconstruct import (
    ReconstructionRequest,
    ReconstructionResult,
    ReconstructionState,
    estimate,
    reconstruct,
)
from napari_cxr3d.inference.reconstruct_report import (
    reconstruction_report,
    reprojection_pictures,
)
from napari_cxr3d.inference.xray_input import InputFinding, XrayInput
from napari_cxr3d.io import read_xrays
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.progress import CancelToken


@pytest.fixture(scope="module")
def request_of(reconstructor: Path, drr_files: tuple[Path, Path]) -> Callable[..., object]:
    """A request for volumes of the phantom's frontal and lateral projections."""
    inputs = tuple(XrayInput(read_xrays(path)[0], "as-given") for path in drr_files)

    def make(**changes: object) -> ReconstructionRequest:
        given = {"inputs": inputs, "model": str(reconstructor), "seed": 5} | changes
        return ReconstructionRequest(**given)  # type: ignore[arg-type]

    return make


def run(request: ReconstructionRequest, **settings: object) -> ReconstructionResult:
    """The result of a run on the CPU."""
    *_, last = reconstruct(request, device="cpu", **settings)  # type: ignore[arg-type]
    assert last.result is not None
    return last.result


@pytest.fixture(scope="module")
def three(request_of) -> ReconstructionResult:
    """Three samples."""
    return run(request_of(samples=3))


def test_one_seed_gives_one_volume_to_the_last_bit(request_of):
    one, again = run(request_of()), run(request_of())
    assert np.array_equal(one.volume.hu, again.volume.hu)


def test_samples_differ_and_keep_their_seeds(request_of, three):
    assert three.seeds == (5, 6, 7)
    assert np.abs(three.samples[0].hu - three.samples[1].hu).mean() > 1
    assert np.array_equal(three.samples[1].hu, run(request_of(seed=6)).volume.hu)


@pytest.mark.parametrize("method", ["stochastic", "heun", "dpm++"])
def test_every_sampler_draws_a_seed_alike_in_company(request_of, method):
    both = run(request_of(samples=2, sampler=method))
    alone = run(request_of(seed=6, sampler=method))
    assert np.array_equal(both.samples[1].hu, alone.volume.hu)


def test_drawn_at_once_or_one_by_one_is_the_same_but_for_rounding(request_of, three, monkeypatch):
    monkeypatch.setattr(memory, "plan_samples", lambda *_: memory.Plan(batch=3))
    free = run(request_of(samples=3, consistency="off"))
    assert free.provenance.parameters["batch"] == 3
    monkeypatch.undo()
    for seed, volume in zip(free.seeds, free.samples, strict=True):
        alone = run(request_of(seed=seed, consistency="off"))
        np.testing.assert_allclose(volume.hu, alone.volume.hu, atol=0.5)


def test_mean_and_deviation_are_those_of_the_samples(three):
    stack = np.stack([volume.hu for volume in three.samples])
    np.testing.assert_allclose(three.mean.hu, stack.mean(axis=0), atol=1e-3)
    # the card says that errors are 1.5 times as large as samples differ
    np.testing.assert_allclose(three.std.hu, 1.5 * stack.std(axis=0, ddof=1), atol=1e-2)


def test_volumes_are_synthetic_and_centred(three):
    volumes = [*three.samples, three.mean, three.std, three.coarse]
    assert all(volume.synthetic for volume in volumes)
    assert all(volume.source.description.startswith("SYNTHETIC") for volume in volumes)
    assert np.allclose([volume.center_lps for volume in volumes], 0)
    assert three.volume.shape == (16, 16, 16)
    assert three.volume.spacing_mm == (24.0, 24.0, 24.0)


def test_the_first_picture_comes_before_the_first_step(request_of):
    states = list(reconstruct(request_of(samples=2, preview_every=2), device="cpu"))
    stages = [state.stage for state in states]
    assert stages.index("coarse") < stages.index("sampling")
    first = states[stages.index("coarse")].preview
    assert first is not None and states[-1].result is not None
    assert np.array_equal(first.hu, states[-1].result.coarse.hu)
    sampling = [state for state in states if state.stage == "sampling"]
    assert [(state.sample, state.step) for state in sampling] == [
        (sample, step) for sample in (0, 1) for step in (1, 2, 3)
    ]
    assert [state.preview is not None for state in sampling] == 2 * [False, True, True]
    fractions = [state.fraction for state in states if state.stage in ("coarse", "sampling")]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert states[-1].fraction == 1.0


def test_consistency_brings_the_volume_to_its_x_rays(request_of):
    free, bound = run(request_of(consistency="off")), run(request_of())
    assert bound.provenance.parameters["consistency"] == "hard"  # all integrals are exact
    assert bound.reprojection.relative_error < free.reprojection.relative_error / 20
    assert free.consistency == () and len(bound.consistency) == 1
    assert bound.coarse_reprojection.relative_error > bound.reprojection.relative_error


def test_starting_at_the_first_picture_stays_nearer_to_it(request_of):
    def distance(result: ReconstructionResult) -> float:
        return float(np.square(result.volume.hu - result.coarse.hu).mean())

    near = run(request_of(start="coarse", consistency="off"))
    assert distance(near) < distance(run(request_of(consistency="off")))
    assert near.provenance.parameters["start_time"] == 0.5


def test_no_gradient_mode_leaks_to_whoever_looks_at_a_state(request_of):
    import torch

    for _ in reconstruct(request_of(), device="cpu"):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["model", "coarse", "sampling", "consistency"])
def test_a_cancelled_run_ends_within_one_step(request_of, stage):
    cancel = CancelToken()
    states = reconstruct(request_of(samples=2, sampler="stochastic"), device="cpu", cancel=cancel)
    for state in states:
        if state.stage == stage:
            break
    cancel.cancel()
    after: list[ReconstructionState] = []
    with pytest.raises(Cancelled):
        after.extend(states)
    assert len(after) <= 1


# --- memory -----------------------------------------------------------------------------------


def fail_until(monkeypatch, name: str, allows: Callable[..., bool]) -> list[tuple[int, object]]:
    """Let the model run out of memory until a call is small enough; the calls, as they came."""
    from napari_cxr3d.models.reconstructor import FlowReconstructor

    real, calls = getattr(FlowReconstructor, name), []

    def limited(self, x, *rest, **settings):
        calls.append((len(x), settings.get("tile")))
        if not allows(*calls[-1]):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, x, *rest, **settings)

    monkeypatch.setattr(FlowReconstructor, name, limited)
    return calls


def test_out_of_memory_draws_fewer_samples_at_once(request_of, three, monkeypatch):
    monkeypatch.setattr(memory, "plan_samples", lambda *_: memory.Plan(batch=3))
    calls = fail_until(monkeypatch, "predict", lambda batch, tile: batch == 1)
    states = list(reconstruct(request_of(samples=3), device="cpu"))
    assert calls[0][0] == 3
    assert any("memory ran out" in state.message for state in states)
    result = states[-1].result
    assert result is not None and result.provenance.parameters["batch"] == 1
    for one, other in zip(result.samples, three.samples, strict=True):
        assert np.array_equal(one.hu, other.hu)


def test_out_of_memory_decodes_in_tiles(request_of, monkeypatch):
    fail_until(monkeypatch, "decode", lambda batch, tile: tile is not None)
    result = run(request_of(consistency="off"))
    assert result.provenance.parameters["tile"] == 4
    monkeypatch.undo()
    whole = run(request_of(consistency="off"))
    np.testing.assert_allclose(result.volume.hu, whole.volume.hu, atol=1.0)


def test_out_of_memory_for_good_is_one_sentence(request_of, monkeypatch):
    fail_until(monkeypatch, "predict", lambda batch, tile: False)
    with pytest.raises(OutOfMemoryError, match=r"does not fit into memory.*smaller model"):
        run(request_of(samples=2))


def test_tiles_that_were_not_allowed_are_not_taken(request_of, monkeypatch):
    fail_until(monkeypatch, "decode", lambda batch, tile: tile is not None)
    with pytest.raises(OutOfMemoryError, match="allow tiles"):
        run(request_of(tile=None))


def test_what_cannot_fit_is_refused_before_the_weights_are_read(request_of, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemoryError):
        run(request_of())


def test_the_estimate_grows_with_the_work(request_of):
    one = estimate(request_of(), device="cpu")
    many = estimate(request_of(samples=4, steps=6), device="cpu")
    assert one.fits and one.advice == ()
    assert many.bytes >= one.bytes > 4 * 10_000
    assert (one.evaluations, many.evaluations) == (3, 24)
    assert many.seconds > one.seconds > 0
    assert estimate(request_of(sampler="heun"), device="cpu").evaluations == 6


def test_memory_counted_without_numbers_is_that_of_the_real_network(reconstructor):
    bundle = stages.open_model(str(reconstructor))
    real, outline = stages.load_model(bundle, "cpu"), stages.outline(bundle)
    counted = memory.network_cost(outline, 2, memory.Plan(batch=2))
    measured = memory.network_cost(real, 2, memory.Plan(batch=2), device="cpu")
    assert counted == measured
    more = memory.network_cost(outline, 2, memory.Plan(batch=4))
    assert more.predict > 1.5 * counted.predict and more.predict_flops > counted.predict_flops


def test_a_model_that_looks_at_values_is_counted_alike(reconstructor, monkeypatch):
    from napari_cxr3d.models.reconstructor import FlowReconstructor

    outline = stages.outline(stages.open_model(str(reconstructor)))
    expected = memory.network_cost(outline, 1, memory.Plan())
    real = FlowReconstructor.condition

    def looking(self, views):
        assert views.integrals.max() > 0  # cannot be asked without numbers
        return real(self, views)

    monkeypatch.setattr(FlowReconstructor, "condition", looking)
    counted = memory.network_cost(outline, 1, memory.Plan())
    assert counted.predict == expected.predict and counted.decode == expected.decode
    assert counted.condition == pytest.approx(expected.condition, rel=0.05)


def test_an_estimate_advises_what_helps(request_of, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    told = estimate(request_of(samples=4), device="cpu")
    assert not told.fits
    assert any("memory" in line for line in told.advice)
    monkeypatch.setattr(memory, "operations_per_second", lambda device: 1e3)
    assert any("fewer samples" in x for x in estimate(request_of(samples=4), device="cpu").advice)


# --- what is refused --------------------------------------------------------------------------


@pytest.fixture
def nothing() -> XrayInput:
    """A picture of one grey."""
    return XrayInput(Radiograph(np.full((256, 256), 7.0, np.float32)), "pa", (1.5, 1.5))


def test_what_is_no_x_ray_is_refused_with_the_way_on(request_of, nothing):
    with pytest.raises(InputRefusedError) as caught:
        run(request_of(inputs=(nothing,)))
    assert "empty" in caught.value.codes
    assert "code empty" in str(caught.value)


def test_what_the_user_accepts_is_made_and_recorded(request_of, monkeypatch):
    findings = (
        InputFinding("rotated", "wrong", "It lies on its side.", "Turn it.", 1),
        InputFinding("view", "wrong", "It looks lateral.", "Say so.", 0),
        InputFinding("capture", "unusual", "It is a capture.", "Take the file.", 0),
    )
    monkeypatch.setattr("napari_cxr3d.inference.xray_input.examine", lambda inputs: findings)
    with pytest.raises(InputRefusedError) as caught:
        run(request_of())
    assert caught.value.codes == ("rotated", "view")
    assert "X-ray 2: It lies on its side (Turn it; code rotated)" in str(caught.value)
    with pytest.raises(InputRefusedError) as caught:
        run(request_of(accepted=("rotated",)))
    assert caught.value.codes == ("view",)
    result = run(request_of(accepted=("rotated", "view")))
    assert result.findings == findings
    recorded = result.provenance.parameters
    assert recorded["accepted"] == ["rotated", "view"] and len(recorded["findings"]) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": ()},
        {"samples": 0},
        {"samples": 2.5},
        {"steps": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"guidance": float("nan")},
        {"guidance": -1.0},
        {"start": "here"},
        {"consistency": "very"},
        {"tile": 1},
        {"tile": "some"},
        {"dtype": "float16"},
        {"preview_every": -1},
    ],
)
def test_values_that_cannot_be_used_are_refused_at_once(request_of, changes):
    with pytest.raises(InvalidInputError):
        request_of(**changes)


def test_a_sampler_of_another_process_is_refused(request_of):
    with pytest.raises(InvalidInputError, match="ddpm"):
        run(request_of(sampler="ddpm"))


def test_models_that_do_not_reconstruct_are_refused(request_of, write_reconstructor):
    codec = write_reconstructor(kind="codec")
    with pytest.raises(InvalidInputError, match="it is a codec"):
        run(request_of(model=str(codec)))
    with pytest.raises(InvalidInputError, match="no model called"):
        run(request_of(model="no-such-model"))


def test_a_bundle_whose_network_is_something_else_is_refused(request_of, reconstructor, tmp_path):
    from napari_cxr3d.models import open_bundle, write_bundle
    from napari_cxr3d.models.codecs import HaarCodec

    path = write_bundle(
        tmp_path / "codec.zip",
        network={"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1},
        state=HaarCodec(levels=1).state_dict(),
        card=open_bundle(reconstructor).card,
    )
    with pytest.raises(BundleError, match="HaarCodec"):
        run(request_of(model=str(path)))


# --- what is recorded -------------------------------------------------------------------------


def test_the_report_tells_how_to_make_the_volume_again(three, reconstructor):
    from napari_cxr3d.models import open_bundle

    report = json.loads(json.dumps(reconstruction_report(three)))
    made = report["provenance"]
    assert made["weights_sha256"] == open_bundle(reconstructor).sha256
    assert made["model"] == "reconstruct-test" and made["seed"] == 5 and made["synthetic"]
    assert len(made["inputs"]) == 2 and all(len(digits) == 64 for digits in made["inputs"])
    assert made["parameters"]["steps"] == 3 and made["parameters"]["sampler"] == "euler"
    assert made["parameters"]["evaluations"] == 9
    assert report["model"]["limits"] == "Not for patients."
    assert [sample["seed"] for sample in report["samples"]] == [5, 6, 7]
    assert report["standard_deviation_hu"]["scale"] == 1.5
    assert set(report["timings_s"]) >= {"load", "first_picture", "sampling", "total"}


def test_no_path_reaches_the_record(three, drr_files):
    text = json.dumps(reconstruction_report(three))
    assert str(drr_files[0].parent) not in text and drr_files[0].name not in text


def test_measured_and_re_projected_stand_side_by_side(three):
    pictures, views = reprojection_pictures(three)
    assert pictures.shape == (2, 4 * 24, 3 * 4 * 24 + 16)
    assert pictures.min() >= 0 and pictures.max() <= 1
    measured, projected = pictures[:, :, :96], pictures[:, :, 104:200]
    assert np.abs(measured - projected).mean() < 0.02  # they agree, but for rays that miss
    assert [view.yaw for view in views] == [0.0, 90.0]


def test_a_model_without_its_own_steps_takes_those_of_its_class(request_of, write_reconstructor):
    bare = write_reconstructor(sampler=None)
    told = estimate(replace(request_of(), model=str(bare)), device="cpu")
    assert told.evaluations == 8


@pytest.mark.parametrize(
    ("asked", "exact", "expected"),
    [
        ("auto", (True, True), "hard"),
        ("auto", (True, False), "soft"),
        ("off", (True,), "off"),
        ("hard", (False,), "hard"),
    ],
)
def test_x_rays_on_their_true_scale_are_agreed_with_fully(asked, exact, expected):
    assert stages.consistency_mode(asked, exact, HuWindow(-1000, 1000)) == expected


def test_volumes_without_air_are_not_projected():
    soft_tissue = HuWindow(-100, 900)
    assert stages.consistency_mode("auto", (True,), soft_tissue) == "off"
    with pytest.raises(InvalidInputError, match="air"):
        stages.consistency_mode("soft", (True,), soft_tissue)
