"""The recipe of the quantised codec: its codebook follows, is used, and can be interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from cxr3d_training.recipes import make
from cxr3d_training.recipes.vq_codec import VQCodecRecipe
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs import VQ_PRESETS
from napari_cxr3d.progress import CancelToken

SHORT = (
    "run.steps=16",
    "run.log_every=2",
    "run.image_every=0",
    "run.validate_every=8",
    "run.checkpoint_every=8",
)


def vq_codec(*changes: str) -> VQCodecRecipe:
    preset = read_preset("vq-codec", "tiny")
    settings = override(preset, dict(parse_override(c) for c in changes))
    recipe = make("vq-codec", settings, known=preset)
    assert isinstance(recipe, VQCodecRecipe)
    return recipe


def batch_of(recipe: VQCodecRecipe, cohort: Cohort) -> dict[str, torch.Tensor]:
    sampler = recipe.samplers(cohort.split("train"))["crops"]
    with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
        return next(feed)


@pytest.mark.parametrize("term", ["l1", "commitment", "adversarial", "random_feature"])
def test_each_term_moves_the_encoder(term: str, cohort: Cohort) -> None:
    recipe = vq_codec()
    nets = recipe.networks()
    batches = {"crops": batch_of(recipe, cohort)}
    work = Work(batches, Now(0, 1, {t: float(t == term) for t in recipe.config.losses}))
    (loss,) = recipe.losses("codec", nets, work).values()
    loss.backward()
    codec: Any = nets["codec"]
    encoder = [p.grad for p in codec.autoencoder.encoder.parameters()]
    assert all(g is not None for g in encoder)
    assert sum(float(g.abs().sum()) for g in encoder if g is not None) > 0
    decoder = [p.grad for p in codec.autoencoder.decoder.parameters()]
    assert any(g is not None and g.any() for g in decoder) == (term != "commitment")


def test_the_codebook_follows_each_step(cohort: Cohort) -> None:
    recipe = vq_codec()
    nets = recipe.networks()
    batches = {"crops": batch_of(recipe, cohort)}
    work = Work(batches, Now(0, 1, {t: float(t == "l1") for t in recipe.config.losses}))
    codec: Any = nets["codec"]
    distances = []
    for _ in range(6):
        recipe.losses("codec", nets, work)
        latent = work.scratch["latent"]
        distances.append(float((codec.nearest(latent).codes - latent).square().mean()))
        recipe.after_step(nets, work)
    assert distances[-1] < 0.1 * distances[0]
    assert int(codec.codebook.updates) == 6


@pytest.fixture(scope="module")
def run(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "vq-codec"
    fit(vq_codec(*SHORT), out, preset="tiny", hardware=Hardware(accelerator="cpu"), cohort=cohort)
    return out


def test_the_log_tells_how_the_codes_are_used(run: Path) -> None:
    lines = read_log(run / "log.jsonl")
    figures = [line for line in lines if "validation/perplexity" in line][-1]
    assert 4 < figures["validation/perplexity"] <= figures["validation/codes_used"] <= 256
    assert "codec/commitment" in [line for line in lines if "codec/total" in line][-1]


def test_an_interrupted_run_equals_an_uninterrupted_one(
    run: Path, cohort: Cohort, tmp_path: Path
) -> None:
    token = CancelToken()
    options: dict[str, Any] = {"hardware": Hardware(accelerator="cpu"), "cohort": cohort}
    fit(
        vq_codec(*SHORT), tmp_path / "r", cancel=token, **options,
        progress=lambda p: token.cancel() if p.done == 9 else None,
    )  # fmt: skip
    fit(vq_codec(*SHORT), tmp_path / "r", resume=True, **options)
    a, b = (CheckpointFolder(p / "checkpoints").listing()[0].read() for p in (run, tmp_path / "r"))
    for kind in ("networks", "averages"):
        torch.testing.assert_close(a[kind], b[kind], rtol=0, atol=0)


def test_what_is_exported_has_the_codebook_of_the_training(run: Path, cohort: Cohort) -> None:
    recipe = vq_codec()
    state = CheckpointFolder(run / "checkpoints").listing()[0].read()
    nets = evaluation_networks(recipe, state, torch.device("cpu"))
    parts = recipe.bundle(nets)
    assert parts.card["latent"]["codes"] == 256
    assert parts.card["latent"]["bits_per_voxel"] == pytest.approx(8 / 64)
    assert parts.state["codebook.uses"].sum() > 0
    report = recipe.evaluate(nets, cohort.split("test"), torch.device("cpu"))
    assert report.methods[0] == "codec"


@pytest.mark.parametrize("preset", ["tiny", "demo", "paper"])
def test_every_preset_makes_the_recipe(preset: str) -> None:
    settings = read_preset("vq-codec", preset)
    assert make("vq-codec", settings, known=settings).config.run.steps > 0
    assert settings["codec"] == VQ_PRESETS[preset]


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        vq_codec("codebook_momentum=1.0")
    settings = read_preset("vq-codec", "tiny")
    settings["codec"] = read_preset("codec", "tiny")["codec"]
    with pytest.raises(InvalidInputError, match="with a codebook"):
        make("vq-codec", settings).networks()
