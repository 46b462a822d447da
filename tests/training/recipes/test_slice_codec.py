"""The recipe of the codec of slices: what it trains, what it measures, what it exports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cxr3d_training.data import Cohort, Feed
from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.fit import fit
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import override, parse_override, read_preset
from cxr3d_training.engine.state import evaluation_networks
from cxr3d_training.evaluation.codecs import as_a_cube
from cxr3d_training.recipes import make
from cxr3d_training.recipes.slice_codec import SliceCodecRecipe
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs import SLICE_PRESETS, SliceCodec


def slice_codec(*changes: str) -> SliceCodecRecipe:
    preset = read_preset("slice-codec", "tiny")
    settings = override(preset, dict(parse_override(c) for c in changes))
    recipe = make("slice-codec", settings, known=preset)
    assert isinstance(recipe, SliceCodecRecipe)
    return recipe


@pytest.mark.parametrize("term", ["l1", "kl", "adversarial", "random_feature"])
def test_each_term_moves_the_codec_and_nothing_else(term: str, cohort: Cohort) -> None:
    recipe = slice_codec()
    nets = recipe.networks()
    nets["discriminator"].requires_grad_(False)
    sampler = recipe.samplers(cohort.split("train"))["crops"]
    with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
        batch = next(feed)
    assert batch["ct"].shape == (2, 1, 2, 32, 32)
    assert batch["noise"].shape == (2, 4, 2, 8, 8)
    work = Work({"crops": batch}, Now(0, 1, {t: float(t == term) for t in recipe.config.losses}))
    (loss,) = recipe.losses("codec", nets, work).values()
    loss.backward()
    moved = {
        n: p.grad is not None and bool(p.grad.any()) for n, p in nets["codec"].named_parameters()
    }
    assert any(m for n, m in moved.items() if n.startswith("encoder."))
    assert any(m for n, m in moved.items() if n.startswith("decoder.")) == (term != "kl")
    assert all(p.grad is None for p in nets["features"].parameters())
    # Discriminator and feature term see slices one by one.
    assert recipe.look_at(batch["ct"]).shape == (4, 1, 32, 32)


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "slice-codec"
    recipe = slice_codec(
        "run.steps=30",
        "run.image_every=15",
        "run.validate_every=15",
        "run.checkpoint_every=30",
    )
    fit(recipe, out, preset="tiny", hardware=Hardware(accelerator="cpu"), cohort=cohort)
    return out


def test_it_learns(run: Path) -> None:
    lines = [line for line in read_log(run / "log.jsonl") if "codec/l1" in line]
    assert lines[-1]["codec/l1"] < 0.8 * lines[0]["codec/l1"]
    assert {"codec/adversarial", "codec/random_feature", "discriminator/discriminator"} <= {
        key for line in lines for key in line
    }


def test_whole_volumes_are_measured_beside_baselines_of_as_many_numbers(
    run: Path, cohort: Cohort
) -> None:
    recipe = slice_codec()
    state = CheckpointFolder(run / "checkpoints").listing()[0].read()
    nets = evaluation_networks(recipe, state, torch.device("cpu"))
    report = recipe.evaluate(nets, cohort.split("test"), torch.device("cpu"))
    assert report.methods[0] == "codec"
    assert len(report.methods) == 3
    codec = nets["codec"]
    assert isinstance(codec, SliceCodec)
    assert as_a_cube(codec) == (4, 16)  # 4 of 16 numbers a slice, 16 of 64 a cube
    parts = recipe.bundle(nets)
    assert parts.card["latent"]["factors"] == [1, 4, 4]
    assert float(codec.scale) != 1


@pytest.mark.parametrize("preset", ["tiny", "demo", "paper"])
def test_every_preset_makes_the_recipe(preset: str) -> None:
    settings = read_preset("slice-codec", preset)
    assert make("slice-codec", settings, known=settings).config.run.steps > 0
    assert settings["codec"] == SLICE_PRESETS[preset]


def test_codecs_that_it_cannot_train_are_refused(cohort: Cohort) -> None:
    with pytest.raises(InvalidInputError, match="cannot be trained"):
        settings = read_preset("slice-codec", "tiny")
        settings["codec"]["frozen"] = True
        make("slice-codec", settings).networks()
    with pytest.raises(InvalidInputError, match="codec of slices"):
        settings = read_preset("slice-codec", "tiny")
        settings["codec"] = read_preset("codec", "tiny")["codec"]
        make("slice-codec", settings).networks()
