"""Xray2Xray's recipe: its stages learn, alone and after each other, and it can be shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr3d_training.data import Cohort, Feed, cohort_of
from cxr3d_training.data.orbits import orbit_of
from cxr3d_training.engine.fit import fit
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import override, parse_override, preset_names, read_preset
from cxr3d_training.engine.state import evaluation_networks
from cxr3d_training.export import export_run
from cxr3d_training.recipes import make
from cxr3d_training.recipes.xray2xray import Xray2XrayRecipe
from cxr3d_training.recipes.xray2xray_config import WalkPoses
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.bundle import open_bundle
from napari_cxr3d.models.network import outline_network
from napari_cxr3d.models.transition import Xray2Xray
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.progress import CancelToken, Progress

VISION = ("l1", "align", "adversarial", "random_feature")
TRANSITION = ("latent", "cosine", "rollout", "decoded")
CODES = ("model.vision.n_codes=32", "losses.commitment=0.25", "losses.codes=1")
QUIET = ("run.validate_every=0", "run.image_every=0", "run.log_every=2", "run.batch_size=2")
TinyXray2Xray = Callable[..., Xray2XrayRecipe]
CPU = Hardware(accelerator="cpu")


@pytest.fixture(scope="module")
def thoraces() -> Cohort:
    """Three phantoms at the tiny preset's spacing."""
    volumes = {f"p{k}": make_thorax(k, spacing_mm=12.0).volume for k in range(3)}
    sides = {"p0": "train", "p1": "validation", "p2": "test"}
    return cohort_of(volumes, sides=sides)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny() -> TinyXray2Xray:
    """``tiny("key=value", ...)`` makes the recipe of the tiny preset."""

    def made(*changes: str) -> Xray2XrayRecipe:
        preset = read_preset("xray2xray", "tiny")
        settings = override(preset, dict(parse_override(c) for c in changes))
        recipe = make("xray2xray", settings, known=preset)
        assert isinstance(recipe, Xray2XrayRecipe)
        return recipe

    return made


def work_of(recipe: Xray2XrayRecipe, cohort: Cohort, *on: str) -> Work:
    """One step's work with the named terms switched on, at the end of the training."""
    batches = {}
    for name, sampler in recipe.samplers(cohort.split("train")).items():
        with Feed(sampler.sample, batch_size=2, seed=0, workers=0) as feed:
            batches[name] = next(feed)
    weights = {term: float(term in on) for term in recipe.config.losses}
    return Work(batches, Now(9, 10, weights))


def moved(module: torch.nn.Module) -> float:
    """Size of all gradients of a module."""
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_each_term_moves_its_own_stage(tiny: TinyXray2Xray, thoraces: Cohort) -> None:
    recipe = tiny(*CODES, "realistic=1.0")
    whole = work_of(recipe, thoraces)
    stages = {"vision": (*VISION, "commitment"), "transition": (*TRANSITION, "codes")}
    for stage, terms in stages.items():
        for term in terms:
            nets = recipe.networks()
            work = Work(whole.batches, Now(9, 10, {**whole.now.weights, term: 1.0}))
            for other in set(nets) - {stage}:
                nets[other].requires_grad_(False)
            ((name, loss),) = recipe.losses(stage, nets, work).items()
            assert name == term
            torch.autograd.backward(loss)
            assert moved(nets[stage]) > 0, term
    nets = recipe.networks()
    work = Work(whole.batches, Now(9, 10, {**whole.now.weights, "judge": 1.0}))
    torch.autograd.backward(recipe.losses("judge", nets, work)["judge"])
    assert moved(nets["judge"]) > 0
    assert moved(nets["vision"]) == 0


def test_both_looks_of_an_exposure_shall_be_one_latent(
    tiny: TinyXray2Xray, thoraces: Cohort
) -> None:
    recipe = tiny("realistic=0.0", "collimated=0.0")
    nets = recipe.networks()
    same = recipe.losses("vision", nets, work_of(recipe, thoraces, "align"))["align"]
    assert float(same.detach()) < 1e-8  # the given X-ray is its DRR
    recipe = tiny("realistic=1.0", "collimated=0.0")
    other = recipe.losses("vision", nets, work_of(recipe, thoraces, "align"))["align"]
    assert float(other.detach()) > 1e-3


def test_walks_take_whole_strides_or_any_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    straight = WalkPoses(count=7, straight=1.0)
    for _ in range(8):
        yaws = straight.turns(rng)[:, 0]
        assert np.array_equal(np.abs(yaws), 15.0 * np.arange(7))
        assert len(set(np.sign(yaws[1:]))) == 1
    free = WalkPoses(count=7, straight=0.0)
    walks = np.stack([free.turns(rng)[:, 0] for _ in range(200)])
    steps = np.abs(np.diff(walks, axis=1))
    assert np.abs(walks).max() <= 90
    assert set(np.unique(steps)) == {3.0, 6.0, 9.0, 12.0, 15.0}
    assert len(np.unique(walks[:, 0])) > 30
    with pytest.raises(InvalidInputError, match="multiple"):
        WalkPoses(stride=10.0)
    with pytest.raises(InvalidInputError, match="count of 2"):
        WalkPoses(count=1)


def test_it_learns_to_turn_about_a_patient(
    tiny: TinyXray2Xray, thoraces: Cohort, tmp_path: Path
) -> None:
    recipe = tiny(
        *QUIET, "run.steps=160", "run.log_every=20", "augmentation=none", "realistic=0.0",
        "collimated=0.0", "poses.tilt=0.0", "poses.straight=1.0", "poses.count=7",
        "losses.adversarial=0", "losses.judge=0", "losses.random_feature=0",
        "losses.decoded={value: 4.0, start: 0.3}", "rollout_steps=6",
    )  # fmt: skip
    fit(recipe, tmp_path / "run", hardware=CPU, cohort=thoraces)
    _, state = RunFolder(tmp_path / "run").checkpoint("last", higher_is_better=False)
    model = recipe.model_of(evaluation_networks(recipe, state, torch.device("cpu")))
    yaws = model.stops
    volume, integrals = orbit_of(
        thoraces.split("train")[0], model.base_view, yaws,
        volume_shape=recipe.config.volume_shape, spacing_mm=recipe.config.spacing_mm,
    )  # fmt: skip
    assert volume.shape == recipe.config.volume_shape
    truth = torch.from_numpy(integrals)
    middle = yaws.index(0.0)
    with torch.inference_mode():
        own = model.encode(truth[middle : middle + 1])
        rolled = model.render(model.predict(own, model.turns(yaws))[0])
    sides = [k for k in range(len(yaws)) if abs(yaws[k]) >= 45]
    error = float((rolled - truth)[sides].abs().mean())
    copying = float((rolled[middle] - truth)[sides].abs().mean())
    assert error < 0.6 * copying


@pytest.fixture(scope="module")
def run(tiny: TinyXray2Xray, thoraces: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with a codebook and all terms on."""
    out = tmp_path_factory.mktemp("runs") / "both"
    recipe = tiny(
        *CODES, "run.steps=8", "run.batch_size=2", "run.log_every=2", "run.image_every=4",
        "run.validate_every=4", "run.checkpoint_every=4",
    )  # fmt: skip
    fit(recipe, out, preset="tiny", hardware=CPU, cohort=thoraces)
    return out


def test_both_stages_are_watched(run: Path) -> None:
    figures = [line for line in read_log(run / "log.jsonl") if "validation/objective" in line][-1]
    parts = (figures["validation/vision_l1"], figures["validation/rollout_l1"])
    assert figures["validation/objective"] == pytest.approx(sum(parts))
    assert 0 < figures["validation/rollout_ratio"] < 3
    assert -1 <= figures["validation/domain_cosine"] <= 1


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    run: Path, tiny: TinyXray2Xray, thoraces: Cohort, tmp_path: Path
) -> None:
    settings = RunFolder(run).read().settings
    cancel = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            cancel.cancel()

    for resume in (False, True):
        fit(
            make("xray2xray", settings), tmp_path / "r", preset="tiny", hardware=CPU,
            cohort=thoraces, resume=resume, progress=None if resume else stop,
            cancel=None if resume else cancel,
        )  # fmt: skip
    states = [
        RunFolder(folder).checkpoint("last", higher_is_better=False)[1]
        for folder in (run, tmp_path / "r")
    ]
    assert states[0]["step"] == states[1]["step"] == 8
    for name, network in states[0]["networks"].items():
        for key, value in network.items():
            assert torch.equal(value, states[1]["networks"][name][key]), f"{name}.{key}"


def test_the_transition_can_be_trained_alone_on_the_vision_of_a_bundle(
    run: Path, tiny: TinyXray2Xray, thoraces: Cohort, tmp_path: Path
) -> None:
    first = export_run(run, tmp_path / "first", name="first", dtype="float32")
    off = (*VISION, "judge", "commitment")
    recipe = tiny(
        *CODES, *QUIET, f"begin_from={first}", *(f"losses.{term}=0" for term in off),
        "run.steps=2", "losses.latent=1",
    )  # fmt: skip
    fit(recipe, tmp_path / "second", hardware=CPU, cohort=thoraces)
    second = export_run(tmp_path / "second", tmp_path / "exported", dtype="float32")
    before, after = (open_bundle(path).network("cpu") for path in (first, second))
    assert isinstance(before, Xray2Xray)
    assert isinstance(after, Xray2Xray)
    for name, value in before.vision.state_dict().items():
        assert torch.equal(after.vision.state_dict()[name], value), name
    ours, theirs = after.transition.state_dict(), before.transition.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    told = (second / "bundle.yaml").read_text()
    assert "begin_from=first" in told
    assert str(tmp_path) not in told
    bundle = open_bundle(second)
    assert bundle.kind == "world-model"
    origin = open_bundle(first).card["training"]["checkpoint_sha256"]
    assert bundle.card["begun_from"]["name"] == "first"
    assert bundle.card["begun_from"]["checkpoint_sha256"] == origin
    assert bundle.card["preprocessing"] == {**after.describe(), "spacing_mm": [12.0] * 3}
    with torch.inference_mode():
        cells = after.encode(torch.rand(1, 32, 32))
        drawn = after.render(after.predict(cells, after.turns([-45.0]))[0])
    assert drawn.shape == (1, 32, 32)
    assert bool(drawn.isfinite().all())


def test_real_radiographs_are_compared_but_for_their_scale(
    tiny: TinyXray2Xray, thoraces: Cohort, tmp_path: Path
) -> None:
    from PIL import Image

    recipe = tiny(*QUIET)
    episodes = recipe.samplers(thoraces.split("train"))["walks"]
    for k in range(3):
        sample = episodes.sample(np.random.default_rng(k))
        picture = np.clip(sample["frontal"] / sample["frontal"].max(), 0, 1) * 255
        Image.fromarray(picture.astype(np.uint8)).resize((256, 256)).save(tmp_path / f"x{k}.png")
    recipe = tiny(*QUIET, f"radiographs={tmp_path}", "losses.real=0.1", "real_batch=1")
    work = work_of(recipe, thoraces, "real")
    nets = recipe.networks()
    loss = recipe.losses("vision", nets, work)["real"]
    torch.autograd.backward(loss)
    assert moved(nets["vision"]) > 0
    scaled = {**work.batches["real"], "integrals": 3.0 * work.batches["real"]["integrals"] + 1.0}
    again = Work({**work.batches, "real": scaled}, work.now)
    assert float(recipe.losses("vision", nets, again)["real"].detach()) == pytest.approx(
        float(loss.detach()), rel=1e-3
    )


@pytest.mark.parametrize("preset", preset_names("xray2xray"))
def test_every_preset_describes_a_model(preset: str) -> None:
    settings = read_preset("xray2xray", preset)
    recipe = make("xray2xray", settings)
    assert isinstance(recipe, Xray2XrayRecipe)
    parameters = sum(p.numel() for p in outline_network(settings["model"]).parameters())
    low, high = {"tiny": (0, 0.2e6), "demo": (2e6, 6.2e6), "paper": (50e6, 400e6)}[preset]
    assert low < parameters < high  # demo: 12 MiB in bfloat16


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("losses.codes=1", "codebook"),
        ("losses.real=0.1", "radiographs"),
        ("poses.stride=30.0", "stride"),
        ("poses.pitch=5.0", "yaw alone"),
        ("vision_views=9", "vision_views"),
        ("codebook_momentum=1.0", "momentum"),
        ("model._target_=napari_cxr3d.models.codecs.HaarCodec", "cannot be built"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny: TinyXray2Xray, change: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        tiny(change)
