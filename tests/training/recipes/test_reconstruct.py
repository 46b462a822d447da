"""The reconstruction's recipe: it learns, each term moves its own stage, and it can be shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr3d_training.data import Cohort, Feed, cohort_of
from cxr3d_training.engine.fit import fit
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import override, parse_override, preset_names, read_preset
from cxr3d_training.recipes import make
from cxr3d_training.recipes.reconstruct import ReconstructRecipe
from cxr3d_training.recipes.xray_batches import XrayAppearance, clinical_batch
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.network import outline_network
from napari_cxr3d.models.reconstruction import ViewBatch
from napari_cxr3d.models.reconstructor import FlowReconstructor
from napari_cxr3d.phantom import make_thorax

TERMS = ("coarse", "spread", "flow")
TinyReconstruct = Callable[..., ReconstructRecipe]


@pytest.fixture(scope="module")
def thoraces() -> Cohort:
    """Four phantoms at the tiny preset's spacing."""
    volumes = {f"p{k}": make_thorax(k, spacing_mm=12.0).volume for k in range(4)}
    sides = {"p0": "train", "p1": "train", "p2": "validation", "p3": "test"}
    return cohort_of(volumes, sides=sides)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny() -> TinyReconstruct:
    """``tiny("key=value", ...)`` makes the recipe of the tiny preset."""

    def made(*changes: str) -> ReconstructRecipe:
        preset = read_preset("reconstruct", "tiny")
        settings = override(preset, dict(parse_override(c) for c in changes))
        recipe = make("reconstruct", settings, known=preset)
        assert isinstance(recipe, ReconstructRecipe)
        return recipe

    return made


def work_of(recipe: ReconstructRecipe, cohort: Cohort, *on: str) -> Work:
    """One step's work with the named terms switched on."""
    sampler = recipe.samplers(cohort.split("train"))["volumes"]
    with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
        batch = next(feed)
    return Work({"volumes": batch}, Now(0, 1, {term: float(term in on) for term in TERMS}))


def moved(module: torch.nn.Module) -> float:
    """Size of all gradients of a module."""
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_each_term_moves_its_own_stage(tiny: TinyReconstruct, thoraces: Cohort) -> None:
    recipe = tiny()
    for term in ("coarse", "spread"):
        nets = recipe.networks()
        (loss,) = recipe.losses("lift", nets, work_of(recipe, thoraces, term)).values()
        loss.backward()
        assert moved(nets["lift"]) > 0
        assert moved(nets["flow"]) == 0
    nets = recipe.networks()
    work = work_of(recipe, thoraces, *TERMS)
    recipe.losses("lift", nets, work)
    recipe.losses("flow", nets, work)["flow"].backward()
    assert moved(nets["flow"]) > 0
    assert moved(nets["lift"]) == 0


def test_the_spread_is_learned_without_pulling_at_the_mean(
    tiny: TinyReconstruct, thoraces: Cohort
) -> None:
    recipe = tiny()
    nets = recipe.networks()
    recipe.losses("lift", nets, work_of(recipe, thoraces, "spread"))["spread"].backward()
    last = nets["lift"].network.out[-1].conv.weight  # type: ignore[union-attr,index]
    mean, log_spread = last.grad.flatten(1).abs().sum(1).chunk(2)  # type: ignore[union-attr]
    assert float(mean.sum()) == 0
    assert float(log_spread.sum()) > 0


def test_views_that_are_not_exact_are_read_from_grey_pictures(
    tiny: TinyReconstruct, thoraces: Cohort
) -> None:
    recipe = tiny()
    sampler = recipe.samplers(thoraces.split("train"))["volumes"]
    with Feed(sampler.sample, batch_size=4, seed=3, workers=0) as feed:
        batch = next(feed)
    batch["exact"] = torch.tensor([[1.0, 0.0]] * 4)
    batch["known"] = torch.ones(4, 2)
    views = clinical_batch(batch)
    covered = views.valid > 0
    assert torch.equal(
        views.integrals[:, 0][covered[:, 0]], batch["integrals"][:, 0][covered[:, 0]]
    )
    for read, true, seen in zip(
        views.integrals[:, 1], batch["integrals"][:, 1], covered[:, 1], strict=True
    ):
        assert not torch.allclose(read[seen], true[seen], atol=1e-2)
        both = torch.stack([read[seen], true[seen]])
        assert float(torch.corrcoef(both)[0, 1]) > 0.6
    assert float(views.integrals[~covered].abs().sum()) == 0


def test_an_appearance_with_impossible_shares_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="shares"):
        XrayAppearance(exact=1.2)


def test_it_learns_two_patients(tiny: TinyReconstruct, thoraces: Cohort, tmp_path: Path) -> None:
    recipe = tiny(
        "run.steps=40", "run.batch_size=2", "run.validate_every=0", "run.image_every=0",
        "run.log_every=5", "augmentation=none", "appearance.exact=1.0",
    )  # fmt: skip
    fit(recipe, tmp_path / "run", hardware=Hardware(accelerator="cpu"), cohort=thoraces)
    curve = [line for line in read_log(tmp_path / "run" / "log.jsonl") if "lift/coarse" in line]
    flow = [line["flow/flow"] for line in curve if "flow/flow" in line]
    assert curve[-1]["lift/coarse"] < 0.35 * curve[0]["lift/coarse"]
    assert flow[-1] < flow[0]


@pytest.fixture(scope="module")
def run(tiny: TinyReconstruct, thoraces: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with all terms on."""
    out = tmp_path_factory.mktemp("runs") / "reconstruct"
    recipe = tiny(
        "run.steps=8", "run.batch_size=2", "run.log_every=2", "run.image_every=4",
        "run.validate_every=4", "run.checkpoint_every=4",
    )  # fmt: skip
    fit(recipe, out, preset="tiny", hardware=Hardware(accelerator="cpu"), cohort=thoraces)
    return out


def test_one_view_and_two_are_validated(run: Path) -> None:
    lines = read_log(run / "log.jsonl")
    figures = [line for line in lines if "validation/coarse_mse" in line][-1]
    assert 0 < figures["validation/coarse_mse_two_views"] < 1
    one, two = (figures[f"validation/coarse_mse{n}"] for n in ("", "_two_views"))
    expected = 10.0 * (one + two) / 2 + figures["validation/velocity_mse"]
    assert figures["validation/objective"] == pytest.approx(expected)


def test_the_flow_can_be_trained_alone_on_the_lift_of_a_bundle(
    run: Path, tiny: TinyReconstruct, thoraces: Cohort, tmp_path: Path
) -> None:
    from cxr3d_training.engine.state import evaluation_networks
    from cxr3d_training.export import export_run
    from napari_cxr3d.models.bundle import open_bundle

    first = export_run(run, tmp_path / "first", name="first", dtype="float32")
    recipe = tiny(
        f"begin_from={first}", "losses.coarse=0", "losses.spread=0", "losses.flow=1",
        "run.steps=2", "run.batch_size=2", "run.validate_every=0", "run.image_every=0",
    )  # fmt: skip
    fit(recipe, tmp_path / "second", hardware=Hardware(accelerator="cpu"), cohort=thoraces)
    _, state = RunFolder(tmp_path / "second").checkpoint("last", higher_is_better=False)
    nets = evaluation_networks(recipe, state, torch.device("cpu"))
    before = open_bundle(first).network("cpu")
    assert isinstance(before, FlowReconstructor)
    for name, value in before.lift_stage.state_dict().items():
        assert torch.equal(nets["lift"].state_dict()[name], value), name
    ours, theirs = nets["flow"].state_dict(), before.flow_stage.state_dict()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    told = (export_run(tmp_path / "second", tmp_path / "third") / "bundle.yaml").read_text()
    assert "begin_from=first" in told
    assert "losses.flow=1.0" in told
    assert "losses.flow." not in told.replace("losses.flow=1.0", "")
    assert str(tmp_path) not in told


def test_a_bundle_holds_the_whole_model(run: Path, tmp_path: Path) -> None:
    from cxr3d_training.export import export_run
    from napari_cxr3d.models.bundle import open_bundle

    path = export_run(run, tmp_path / "bundle", name="reconstruct-test")
    bundle = open_bundle(path)
    model = bundle.network("cpu")
    assert bundle.kind == "reconstructor"
    assert isinstance(model, FlowReconstructor)
    assert float(model.lift_stage.latent_std.std()) > 0  # measured, not the ones it began with
    integrals = torch.rand(1, 1, *model.detector_shape) * 4
    cameras = torch.tensor([[[0, 1600, 0, -220, -200, 220, 0, 0, -9, 9, 0, 0]]]).float()
    one = torch.ones(1, 1)
    views = ViewBatch(integrals, torch.ones_like(integrals), cameras, one, one)
    with torch.inference_mode():
        coarse = model.condition(views).coarse
    assert coarse is not None
    assert coarse.shape == (1, 1, *model.volume_shape)
    assert np.isfinite(coarse.numpy()).all()


def test_figures_that_were_measured_on_a_bundle_come_into_the_card(
    run: Path, tmp_path: Path
) -> None:
    from cxr3d_training.export import export_run
    from napari_cxr3d.models.bundle import open_bundle

    first = open_bundle(export_run(run, tmp_path / "first"))
    record = {
        "context": {
            "checkpoint_sha256": first.card["training"]["checkpoint_sha256"],
            "model": "ours", "data": "phantoms", "side": "test", "command": "",
        },
        "metrics": {"psnr3d": {"unit": "dB", "convention": "in the body"}},
        "summary": {"ours": {"psnr3d": {"mean": 20.5, "interval": [20.0, 21.0], "patients": 8}}},
        "uncertainty": {"scale": 1.25},
    }  # fmt: skip
    report = tmp_path / "report.json"
    report.write_text(json.dumps(record))
    second = open_bundle(export_run(run, tmp_path / "second", report=report))
    assert second.card["metrics"]["psnr3d"]["value"] == 20.5
    assert second.card["uncertainty"] == {"scale": 1.25}

    record["context"]["checkpoint_sha256"] = "0" * 64  # type: ignore[index]
    report.write_text(json.dumps(record))
    with pytest.raises(InvalidInputError, match="other weights"):
        export_run(run, tmp_path / "third", report=report)


@pytest.mark.parametrize("preset", preset_names("reconstruct"))
def test_every_preset_describes_a_model(preset: str) -> None:
    settings = read_preset("reconstruct", preset)
    recipe = make("reconstruct", settings)
    assert isinstance(recipe, ReconstructRecipe)
    parameters = sum(p.numel() for p in outline_network(settings["model"]).parameters())
    low, high = {"tiny": (0, 0.6e6), "demo": (6e6, 8.38e6), "paper": (30e6, 400e6)}[preset]
    assert low < parameters < high  # demo: 16 MiB in bfloat16


def test_a_detector_that_is_not_the_models_is_refused() -> None:
    settings = read_preset("reconstruct", "tiny")
    with pytest.raises(InvalidInputError, match="detector"):
        make("reconstruct", override(settings, {"poses.detector_shape": [64, 64]}))
