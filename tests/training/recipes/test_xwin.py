"""X-WIN's recipe: each term moves its own networks, a run resumes, and it can be shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cxr3d_training.data import Cohort, Feed, open_cohort
from cxr3d_training.engine.fit import fit
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import override, parse_override, preset_names, read_preset
from cxr3d_training.engine.sweep import grid, run_sweep
from cxr3d_training.recipes import make
from cxr3d_training.recipes.xwin import XWinRecipe
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.world_model import XWin
from napari_cxr3d.progress import CancelToken, Progress

WORLD = ("nce", "affinity", "mim", "structure", "domain", "landmark", "render")
MOVES = {
    "nce": ("encoder", "predictor"),
    "affinity": ("encoder", "predictor"),
    "structure": ("encoder", "predictor"),
    "domain": ("encoder", "predictor"),
    "mim": ("encoder", "masker"),
    "landmark": ("encoder",),
    "render": ("encoder", "predictor", "renderer"),
}
CPU = Hardware(accelerator="cpu")
SHORT = (
    "run.steps=6", "run.batch_size=2", "real_batch=2", "run.log_every=2", "run.image_every=3",
    "run.validate_every=3", "run.checkpoint_every=3", "poses.count=2",
)  # fmt: skip
Tiny = Callable[..., XWinRecipe]


@pytest.fixture(scope="module")
def phantoms() -> Cohort:
    """Eight phantoms with their landmarks at the tiny preset's spacing."""
    return open_cohort("phantom:8", spacing_mm=12.0, size_mm=(384, 384, 384))


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    """``tiny("key=value", ...)`` makes the recipe of the tiny preset."""

    def made(*changes: str) -> XWinRecipe:
        preset = read_preset("xwin", "tiny")
        settings = override(preset, dict(parse_override(c) for c in changes))
        recipe = make("xwin", settings, known=preset)
        assert isinstance(recipe, XWinRecipe)
        return recipe

    return made


@pytest.fixture(scope="module")
def batches(tiny: Tiny, phantoms: Cohort) -> dict[str, dict[str, torch.Tensor]]:
    """One batch of each feed."""
    found = {}
    for name, sampler in tiny(*SHORT).samplers(phantoms.split("train")).items():
        with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
            found[name] = next(feed)
    return found


def moved(nets: dict[str, torch.nn.Module]) -> set[str]:
    """The networks that got a gradient."""
    return {
        name for name, net in nets.items()
        if any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in net.parameters())
    }  # fmt: skip


def teachers(recipe: XWinRecipe) -> dict[str, torch.nn.Module]:
    nets = recipe.networks()
    nets["teacher"] = nets["target"]
    nets["target"].requires_grad_(False)
    return nets


@pytest.mark.parametrize("term", WORLD)
def test_each_term_is_switched_by_its_weight_and_moves_its_own_networks(
    tiny: Tiny, batches: Any, term: str
) -> None:
    recipe = tiny(*SHORT)
    nets = teachers(recipe)
    nets["critic"].requires_grad_(False)  # as the engine freezes other players
    work = Work(batches, Now(5, 6, {term: 1.0}))
    losses = recipe.losses("world", nets, work)
    assert set(losses) == {term}
    losses[term].backward()
    assert moved(nets) == set(MOVES[term])


def test_the_critic_learns_by_its_own_term_alone(tiny: Tiny, batches: Any) -> None:
    recipe = tiny(*SHORT)
    nets = teachers(recipe)
    ((name, loss),) = recipe.losses("critic", nets, Work(batches, Now(5, 6, {"cls": 1.0}))).items()
    assert name == "cls"
    loss.backward()
    assert moved(nets) == {"critic"}


def test_a_published_renderer_learns_behind_the_rest(tiny: Tiny, batches: Any) -> None:
    recipe = tiny(*SHORT, "render_detached=true")
    nets = teachers(recipe)
    recipe.losses("world", nets, Work(batches, Now(5, 6, {"render": 1.0})))["render"].backward()
    assert moved(nets) == {"renderer"}


def test_a_sample_shows_what_its_turns_say(tiny: Tiny, batches: Any, phantoms: Cohort) -> None:
    orbits, real = batches["orbits"], batches["real"]
    assert orbits["context"].shape == (2, 32, 32)
    assert orbits["integrals"].shape == (2, 2, 32, 32)
    yaws = orbits["turns"][..., 0]
    assert set(np.unique(yaws % 15)) == {0.0}
    assert (yaws[:, 0] != yaws[:, 1]).all()
    assert real["picture"].shape == (2, 32, 32)
    names = tiny(*SHORT).config.landmarks_held_out
    assert set(names) == {"left_hilum", "T6"}
    marked = orbits["marked"]
    assert marked.shape == orbits["marks"].shape[:-1]
    assert float(marked.float().mean()) > 0.3


@pytest.fixture(scope="module")
def run(tiny: Tiny, phantoms: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with all terms on."""
    out = tmp_path_factory.mktemp("runs") / "xwin"
    fit(tiny(*SHORT), out, preset="tiny", hardware=CPU, cohort=phantoms)
    return out


def test_an_interrupted_run_equals_an_uninterrupted_one(
    run: Path, tiny: Tiny, phantoms: Cohort, tmp_path: Path
) -> None:
    token = CancelToken()

    def watch(progress: Progress) -> None:
        if progress.done == 4:
            token.cancel()

    out = tmp_path / "run"
    stopped = fit(tiny(*SHORT), out, preset="tiny", hardware=CPU, cohort=phantoms,
                  cancel=token, progress=watch)  # fmt: skip
    assert stopped.step == 4
    fit(tiny(*SHORT), out, preset="tiny", hardware=CPU, cohort=phantoms, resume=True)
    whole, again = (
        RunFolder(path).checkpoint("last", higher_is_better=False)[1] for path in (run, out)
    )
    for part in ("networks", "averages"):
        for name, state in whole[part].items():
            for key, value in state.items():
                assert torch.equal(value, again[part][name][key]), (name, key)
    assert (run / "log.jsonl").read_text() == (out / "log.jsonl").read_text()


def test_the_validation_says_what_a_run_is_watched_by(run: Path) -> None:
    figures = [line for line in read_log(run / "log.jsonl") if "validation/latent_ratio" in line]
    last = {key.removeprefix("validation/"): value for key, value in figures[-1].items()}
    assert {"latent_error", "latent_ratio", "retrieval", "view_psnr"} <= set(last)
    assert 0 <= last["retrieval"] <= 1
    assert np.isfinite([v for v in last.values() if isinstance(v, float)]).all()


@pytest.mark.parametrize(
    ("step", "kept"),
    # {value: 0.9, to: 1.0, shape: linear} over 5 steps: at the start, the middle and the end.
    [(0, 0.9), (2, 0.95), (4, 1.0)],
)
def test_the_target_encoder_follows_by_the_momentum_of_the_step(
    tiny: Tiny, step: int, kept: float
) -> None:
    from lightning_fabric import Fabric

    from cxr3d_training.engine.state import TrainingState

    recipe = tiny("run.steps=5")
    assert recipe.network_averages() == {"target": "teacher"}
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    state = TrainingState(recipe, fabric)
    encoder, teacher = state.networks["encoder"], state.networks["teacher"]
    before = {name: p.detach().clone() for name, p in teacher.named_parameters()}
    state.update_averages(0, 5)  # the first update takes the network as it is
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1.0)
    state.update_averages(step, 5)
    for name, p in teacher.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] + (1 - kept), atol=1e-5, rtol=1e-5)


def test_a_bundle_holds_both_encoders(run: Path, tmp_path: Path) -> None:
    from cxr3d_training.export import export_run
    from napari_cxr3d.inference.world_models import load_world_model

    path = export_run(run, tmp_path / "bundle", name="xwin-test", dtype="float32")
    loaded = load_world_model(str(path))
    model = loaded.model
    assert isinstance(model, XWin)
    assert loaded.card["landmarks_held_out"] == ["left_hilum", "T6"]
    assert loaded.card["preprocessing"]["yaw_step"] == 15.0
    _, state = RunFolder(run).checkpoint("best", higher_is_better=False)
    teacher = {k.removeprefix("module."): v for k, v in state["averages"]["teacher"].items()}
    for name, value in model.target_encoder.state_dict().items():
        assert torch.equal(value, teacher[name]), name
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, state["networks"]["encoder"][name]), name
    picture = torch.rand(1, 32, 32)
    assert not torch.equal(model.target(picture), model.encode(picture))
    with torch.no_grad():
        lines = model.render(model.predict(model.encode(picture), model.turns([30.0]))[0])
    assert lines.shape == (1, 32, 32)


def test_losses_and_steps_are_swept(phantoms: Cohort, tmp_path: Path) -> None:
    base = override(read_preset("xwin", "tiny"), dict(parse_override(c) for c in SHORT))
    base = override(base, {"run.steps": 2, "run.validate_every": 2})
    table = run_sweep(
        "xwin", base, grid(["losses.nce=0,1"]), tmp_path, preset="tiny", accelerator="cpu"
    )
    assert [row["state"] for row in table.rows] == ["done", "done"]
    assert all(np.isfinite(row["latent_ratio"]) for row in table.rows)
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["monitor"] == "latent_ratio"


@pytest.mark.parametrize("preset", preset_names("xwin"))
def test_every_preset_describes_a_model(preset: str) -> None:
    recipe = make("xwin", read_preset("xwin", preset))
    assert isinstance(recipe, XWinRecipe)
    assert recipe.outline.renders
    assert recipe.outline.yaws[-1] == 90


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("poses.yaw_step=30", "yaw_step"),
        ("poses.detector_shape=[64,64]", "detector_shape"),
        ("poses.pitch=5", "yaw alone"),
        ("model.renderer=null", "renderer"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tiny: Tiny, change: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        tiny(change)
