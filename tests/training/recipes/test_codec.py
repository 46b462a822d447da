"""The codec's recipe: it learns, and each term moves what it is meant to move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr3d_training.data import Cohort, Feed
from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.fit import fit
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import preset_names, read_preset
from cxr3d_training.engine.state import evaluation_networks
from cxr3d_training.evaluation.codecs import compare_codecs, haar_bands, resampling
from cxr3d_training.recipes import RECIPES, make
from cxr3d_training.recipes.codec import CodecRecipe
from cxr3d_training.recipes.crops import Crops, centered_crop
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs import PRESETS
from napari_cxr3d.models.codecs.base import Codec

TinyCodec = Callable[..., CodecRecipe]
TERMS = ("l1", "kl", "adversarial", "random_feature", "discriminator")


def work_of(recipe: CodecRecipe, cohort: Cohort, *on: str) -> Work:
    """One step's work with the named terms switched on."""
    sampler = recipe.samplers(cohort.split("train"))["crops"]
    with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
        batch = next(feed)
    return Work({"crops": batch}, Now(0, 1, {term: float(term in on) for term in TERMS}))


@pytest.mark.parametrize("term", ["l1", "kl", "adversarial", "random_feature"])
def test_each_term_moves_the_codec_and_nothing_else(
    term: str, tiny_codec: TinyCodec, cohort: Cohort
) -> None:
    recipe = tiny_codec()
    nets = recipe.networks()
    nets["discriminator"].requires_grad_(False)  # as the engine has it in the codec's turn
    (loss,) = recipe.losses("codec", nets, work_of(recipe, cohort, term)).values()
    loss.backward()
    codec = nets["codec"]
    grads = {
        n: 0 if p.grad is None else float(p.grad.abs().sum()) for n, p in codec.named_parameters()
    }
    encoder = [g for n, g in grads.items() if ".encoder." in n or ".quant_conv_" in n]
    decoder = [g for n, g in grads.items() if ".decoder." in n]
    assert len(encoder) > 4
    assert len(decoder) > 4
    assert sum(encoder) > 0
    # The KL term knows the posterior alone; every other one reaches the last convolution.
    assert (sum(decoder) > 0) == (term != "kl")
    for name in ("discriminator", "features"):
        assert all(p.grad is None for p in nets[name].parameters())


def test_the_discriminators_term_moves_the_discriminator_and_not_the_codec(
    tiny_codec: TinyCodec, cohort: Cohort
) -> None:
    recipe = tiny_codec()
    nets = recipe.networks()
    work = work_of(recipe, cohort, "l1", "discriminator")
    recipe.losses("codec", nets, work)
    recipe.losses("discriminator", nets, work)["discriminator"].backward()
    # The last bias stands still while all logits lie between the hinges: up and down cancel out.
    weights = [p for p in nets["discriminator"].parameters() if p.ndim > 1]
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in weights)
    assert all(p.grad is None for p in nets["codec"].parameters())


def test_it_overfits_a_few_crops(tiny_codec: TinyCodec, cohort: Cohort, tmp_path: Path) -> None:
    recipe = tiny_codec(
        "run.steps=100",
        "run.batch_size=2",
        "run.validate_every=0",
        "run.image_every=0",
        "losses.adversarial=0",
        "losses.discriminator=0",
        "losses.random_feature=0",
    )
    sampler = recipe.samplers(cohort.split("train"))["crops"]
    two = [sampler.sample(np.random.default_rng(k)) for k in range(2)]

    class Overfit(CodecRecipe):
        def samplers(self, cases):
            taken = iter(range(10**9))
            return {"crops": type(sampler)(lambda rng: two[next(taken) % 2], sampler.finish)}

    recipe.__class__ = Overfit
    fit(recipe, tmp_path, hardware=Hardware(accelerator="cpu"), cohort=cohort)
    curve = [line["codec/l1"] for line in read_log(tmp_path / "log.jsonl") if "codec/l1" in line]
    assert curve[-1] < 0.35 * curve[0]


@pytest.fixture(scope="module")
def run(tiny_codec: TinyCodec, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with all terms on."""
    out = tmp_path_factory.mktemp("runs") / "codec"
    recipe = tiny_codec(
        "run.steps=12",
        "run.log_every=2",
        "run.image_every=6",
        "run.validate_every=6",
        "run.checkpoint_every=6",
        "losses.adversarial.start=0.5",
        "losses.discriminator.start=0.5",
    )
    fit(recipe, out, preset="tiny", hardware=Hardware(accelerator="cpu"), cohort=cohort)
    return out


def test_all_terms_are_in_the_log(run: Path) -> None:
    last = [line for line in read_log(run / "log.jsonl") if "codec/total" in line][-1]
    assert {f"codec/{t}" for t in TERMS[:4]} <= last.keys()
    assert "discriminator/discriminator" in last
    expected = sum(
        w * last[f"codec/{t}"]
        for t, w in (("l1", 1.0), ("kl", 1e-6), ("adversarial", 0.02), ("random_feature", 0.05))
    )
    assert last["codec/total"] == pytest.approx(expected, rel=1e-4)


def test_an_interrupted_codec_equals_an_uninterrupted_one(
    run: Path, tiny_codec: TinyCodec, cohort: Cohort, tmp_path: Path
) -> None:
    from napari_cxr3d.progress import CancelToken

    token = CancelToken()
    recipe = tiny_codec(
        "run.steps=12",
        "run.log_every=2",
        "run.image_every=6",
        "run.validate_every=6",
        "run.checkpoint_every=6",
        "losses.adversarial.start=0.5",
        "losses.discriminator.start=0.5",
    )
    options = {"hardware": Hardware(accelerator="cpu"), "cohort": cohort}
    fit(
        recipe,
        tmp_path / "r",
        cancel=token,
        **options,  # type: ignore[arg-type]
        progress=lambda p: token.cancel() if p.done == 7 else None,
    )
    fit(recipe, tmp_path / "r", resume=True, **options)  # type: ignore[arg-type]
    assert (tmp_path / "r" / "log.jsonl").read_text() == (run / "log.jsonl").read_text()
    a, b = (CheckpointFolder(p / "checkpoints").listing()[0].read() for p in (run, tmp_path / "r"))
    for kind in ("networks", "averages", "optimizers"):
        torch.testing.assert_close(a[kind], b[kind], rtol=0, atol=0)


def test_the_scale_makes_latents_of_unit_variance(
    run: Path, tiny_codec: TinyCodec, cohort: Cohort
) -> None:
    recipe = tiny_codec()
    state = CheckpointFolder(run / "checkpoints").listing()[0].read()
    codec = evaluation_networks(recipe, state, torch.device("cpu"))["codec"]
    assert isinstance(codec, Codec)
    assert float(codec.scale) != 1
    sampler = recipe.samplers(cohort.split("train"))["crops"]
    with Feed(sampler.sample, batch_size=32, seed=9, workers=0, finish=sampler.finish) as feed:
        latent = codec.encode(next(feed)["ct"])
    assert float(latent.std()) == pytest.approx(1.0, abs=0.15)


def test_the_evaluation_stands_beside_its_baselines(
    run: Path, tiny_codec: TinyCodec, cohort: Cohort
) -> None:
    recipe = tiny_codec()
    state = CheckpointFolder(run / "checkpoints").listing()[0].read()
    nets = evaluation_networks(recipe, state, torch.device("cpu"))
    report = recipe.evaluate(nets, cohort.split("test"), torch.device("cpu"))
    assert report.methods[0] == "codec"
    assert len(report.methods) == 3
    assert set(report.conventions) == {"psnr3d", "ssim3d", "mae_hu", "slice_psnr"}
    assert {row.patient for row in report.rows} == {"p4"}


def test_the_baselines_keep_as_many_numbers_as_the_codec(cohort: Cohort) -> None:
    recipe_window = make("codec", read_preset("codec", "tiny")).window
    volume = recipe_window.encode(torch.from_numpy(np.array(cohort.split("test")[0].hu)).float())
    x = volume[None, None]
    # 64 numbers a block are all of them: lossless. Fewer cost more.
    torch.testing.assert_close(haar_bands(4, 64)(x), x, atol=1e-5, rtol=0)
    errors = [float((haar_bands(4, n)(x) - x).square().mean()) for n in (1, 4, 8, 32)]
    assert errors == sorted(errors, reverse=True)
    flat = torch.full((1, 1, 9, 10, 11), 0.25)
    for method in (haar_bands(4, 4), resampling(4, 4)):
        assert method(x).shape == x.shape
        torch.testing.assert_close(method(flat), flat, atol=1e-5, rtol=0)


def test_evaluating_nothing_is_said() -> None:
    window = make("codec", read_preset("codec", "tiny")).window
    with pytest.raises(InvalidInputError, match="no case"):
        compare_codecs("nothing", {}, [], window, torch.device("cpu"))


def test_crops_lie_where_they_should(cohort: Cohort) -> None:
    cases = cohort.split("train")
    lungs = Crops(cases, (8, 8, 8), lung_share=1.0)
    rng = np.random.default_rng(0)
    everywhere = Crops(cases, (8, 8, 8), lung_share=0.0)
    aerated = [
        np.mean([-950 < crops.draw(rng)["hu"][0, 4, 4, 4] < -650 for _ in range(200)])
        for crops in (lungs, everywhere)
    ]
    assert aerated[0] > 1.2 * aerated[1] > 0
    crop = lungs.draw(rng)["hu"]
    assert crop.shape == (1, 8, 8, 8)
    assert crop.dtype == np.int16
    first, second = (lungs.draw(np.random.default_rng(4))["hu"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_crop_larger_than_the_volume_is_filled_up_with_air(cohort: Cohort) -> None:
    case = cohort.split("train")[0]
    shape = (case.shape[0] + 10, case.shape[1] - 4, case.shape[2])
    crop = centered_crop(case, shape)
    assert crop.shape == shape
    assert (crop[:5] == -1024).all()
    np.testing.assert_array_equal(crop[5:-5], case.hu[:, 2:-2])


@pytest.mark.parametrize("preset", ["tiny", "demo", "paper"])
def test_every_preset_makes_the_recipe(preset: str) -> None:
    settings = read_preset("codec", preset)
    recipe = make("codec", settings, known=settings)
    assert recipe.config.run.steps > 0
    assert settings["codec"] == PRESETS[preset]


def test_every_recipe_ships_the_three_presets() -> None:
    for name in RECIPES:
        assert preset_names(name)[:3] == ("tiny", "demo", "paper")


def test_losses_that_do_not_fit_are_refused(tiny_codec: TinyCodec) -> None:
    settings = read_preset("codec", "tiny")
    del settings["losses"]["kl"]
    with pytest.raises(InvalidInputError, match="kl is missing"):
        make("codec", settings)
    with pytest.raises(InvalidInputError, match=r"nearest are codec\.channels"):
        tiny_codec("codec.chanels=[8,8]")
