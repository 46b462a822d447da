"""X-ray2CTPA's recipe: every term reaches the U-Net, and the stages follow upon each other."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from cxr3d_training.cli.app import app
from cxr3d_training.data import Cohort, Feed, cohort_of
from cxr3d_training.data.views import ViewRenderer
from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.recipe import Now, Work
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.settings import override, parse_override, read_preset
from cxr3d_training.losses.features import feature_distance
from cxr3d_training.losses.radimagenet import RadImageNetFeatures
from cxr3d_training.recipes import make
from cxr3d_training.recipes.xray2ctpa import Xray2CtpaRecipe
from cxr3d_training.recipes.xray2ctpa_data import UNKNOWN, FrontalPoses, label_of, latent_limits
from napari_cxr3d.errors import Cxr3dError, InvalidInputError, UnreadableFileError
from napari_cxr3d.io.volume_export import write_volume
from napari_cxr3d.models.bundle import open_bundle, write_bundle
from napari_cxr3d.models.latent_classifier import LatentClassifier
from napari_cxr3d.models.network import outline_network
from napari_cxr3d.models.xray2ctpa import PRESETS, Xray2Ctpa
from napari_cxr3d.phantom import make_thorax

Recipe = Callable[..., Xray2CtpaRecipe]
DENOISER = ("l1", "self_feature", "lpips", "adversarial", "classifier")
FINDING = "pulmonary_embolism"


@pytest.fixture(scope="module")
def volumes() -> dict[str, Any]:
    """Phantoms of the tiny grid's spacing."""
    return {f"p{k}": make_thorax(k, spacing_mm=12.0).volume for k in range(4)}


@pytest.fixture(scope="module")
def cases(volumes: dict[str, Any]) -> Cohort:
    """Two to train on, of which one has the finding and the other's is not known."""
    sides = {"p0": "train", "p1": "train", "p2": "validation", "p3": "test"}
    return cohort_of(volumes, sides=sides, labels={"p0": {FINDING: True}, "p1": {FINDING: None}})


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    """``tiny("key=value", ...)`` makes the recipe of the tiny preset."""

    def recipe(*changes: str) -> Xray2CtpaRecipe:
        preset = read_preset("xray2ctpa", "tiny")
        settings = override(preset, dict(parse_override(c) for c in changes))
        made = make("xray2ctpa", settings, known=preset)
        assert isinstance(made, Xray2CtpaRecipe)
        return made

    return recipe


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a small classifier of latents."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("bundles") / "classifier"
    sizes = {"growth": 4, "blocks": [1, 1], "first": 8}
    card = {
        "name": "classifier-tiny", "version": "1", "kind": "classifier", "licence": "none",
        "intended_use": "tests", "limits": "none", "synthetic_training": True,
        "preprocessing": {}, "metrics": {},
        "training": {"command": None, "seed": None, "data": None},
    }  # fmt: skip
    target = "napari_cxr3d.models.latent_classifier.LatentClassifier"
    return write_bundle(
        out, network={"_target_": target, **sizes}, state=LatentClassifier(**sizes).state_dict(),
        card=card, dtype="float32",
    )  # fmt: skip


@pytest.fixture(scope="module")
def radimagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as RadImageNet's authors publish theirs: other names, no head, weights of chance."""
    from monai.networks.nets import resnet50

    torch.manual_seed(0)
    network = resnet50(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False,
        bias_downsample=False,
    )  # fmt: skip
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    state = {}
    for name, tensor in network.state_dict().items():
        first, _, rest = name.partition(".")
        state[f"backbone.{places[first]}.{rest}"] = tensor
    path = tmp_path_factory.mktemp("weights") / "RadImageNet-ResNet50_notop.pt"
    torch.save(state, path)
    return path


def work_of(recipe: Xray2CtpaRecipe, cohort: Cohort, *on: str) -> Work:
    """One step's work, half way into the noise, with the named terms switched on."""
    sampler = recipe.samplers(cohort.split("train"))["volumes"]
    with Feed(sampler.sample, batch_size=2, seed=0, workers=0, finish=sampler.finish) as feed:
        batch = dict(next(feed))
    batch["step"] = torch.full_like(batch["step"], 500)
    weights = {term: float(term in on) for term in (*DENOISER, "discriminator")}
    return Work({"volumes": batch}, Now(0, 1, weights))


def moved(network: nn.Module) -> float:
    """Sum of the magnitudes of a network's gradient."""
    return sum(float(p.grad.abs().sum()) for p in network.parameters() if p.grad is not None)


# --- the terms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("term", DENOISER)
@pytest.mark.parametrize("objective", ["epsilon", "x0"])
def test_each_term_reaches_the_unet_and_the_encoder_and_nothing_else(
    term: str, objective: str, tiny: Recipe, cases: Cohort, classifier: Path, radimagenet: Path
) -> None:
    recipe = tiny(
        "stage=2", "hide=0", f"model.objective={objective}", f"classifier_bundle={classifier}",
        f"radimagenet={radimagenet if term == 'lpips' else 'null'}",
    )  # fmt: skip
    nets = recipe.networks()
    for name in ("discriminator", "codec", "classifier", "features", "range"):
        nets[name].eval().requires_grad_(False)  # as the engine has them in this player's turn
    work = work_of(recipe, cases, term)
    batch = dict(work.batches["volumes"])
    batch["label"] = torch.tensor([1.0, 0.0])
    (loss,) = recipe.losses("denoiser", nets, Work({"volumes": batch}, work.now)).values()
    loss.backward()
    assert moved(nets["unet"]) > 0
    assert moved(nets["encoder"]) > 0
    first = nets["unet"].first.weight.grad
    assert first is not None
    assert float(first.abs().sum()) > 0  # through the whole network
    for name in set(nets) - {"unet", "encoder"}:
        assert all(p.grad is None for p in nets[name].parameters()), name


def test_the_discriminators_term_moves_the_discriminator_alone(tiny: Recipe, cases: Cohort) -> None:
    recipe = tiny("stage=2")
    nets = recipe.networks()
    work = work_of(recipe, cases, "l1", "discriminator")
    recipe.losses("denoiser", nets, work)
    recipe.losses("discriminator", nets, work)["discriminator"].backward()
    assert moved(nets["discriminator"]) > 0
    assert all(p.grad is None for name in ("unet", "encoder") for p in nets[name].parameters())


def test_cases_without_the_label_are_left_out_of_the_classifiers_term(
    tiny: Recipe, cases: Cohort, classifier: Path
) -> None:
    recipe = tiny("stage=1", f"classifier_bundle={classifier}", "positive_weight=3")
    nets = recipe.networks()
    network = nets["classifier"].eval()
    estimate = torch.randn(2, *recipe.outline.latent_shape)
    logit = network(estimate)[:, 0]

    def term(*labels: float) -> Tensor:
        return recipe._classified(nets, estimate, torch.tensor(labels))

    torch.testing.assert_close(term(1.0, UNKNOWN), -3 * nn.functional.logsigmoid(logit[0]))
    torch.testing.assert_close(term(UNKNOWN, 0.0), -nn.functional.logsigmoid(-logit[1]))
    assert float(term(UNKNOWN, UNKNOWN)) == 0
    train = cases.split("train")
    assert sorted(label_of(case, FINDING) for case in train) == [UNKNOWN, 1.0]


def test_it_learns_which_volume_belongs_to_which_x_ray(tiny: Recipe, cases: Cohort) -> None:
    torch.manual_seed(0)
    recipe = tiny("stage=2", "hide=0", "model.objective=x0")
    nets = recipe.networks()
    work = work_of(recipe, cases, "l1")
    batch = dict(work.batches["volumes"])
    assert len(set(batch["key"].tolist())) == 2
    for name, opposite in (("ct", -batch["ct"][0]), ("picture", 1 - batch["picture"][0])):
        batch[name] = torch.stack([batch[name][0], opposite])  # two pairs that differ much
    batch["step"] = torch.full_like(batch["step"], 1000)  # nothing but noise, and the X-ray
    learned = [*nets["unet"].parameters(), *nets["encoder"].parameters()]
    optimizer = torch.optim.Adam(learned, lr=5e-3)
    for _ in range(80):
        batch["noise"] = torch.randn_like(batch["noise"])
        optimizer.zero_grad()
        recipe.losses("denoiser", nets, Work({"volumes": batch}, work.now))["l1"].backward()
        optimizer.step()
    errors = {}
    for name, order in (("own", [0, 1]), ("other", [1, 0])):
        shown = {**batch, "picture": batch["picture"][order]}
        with torch.no_grad():
            output, *_ = recipe._estimate(nets, shown, {})
            clean = recipe._clean(nets, batch)
        for k in range(2):
            to = [float((output[k] - clean[j]).abs().mean()) for j in (k, 1 - k)]
            errors[name, k] = to[0] - to[1]
    assert all(errors["own", k] < 0 < errors["other", k] for k in range(2)), errors


def test_radimagenets_distance_is_that_of_monai(radimagenet: Path, monkeypatch) -> None:
    from monai.losses.perceptual import RadImageNetPerceptualSimilarity

    features = RadImageNetFeatures(radimagenet).train()
    assert not features.training
    a, b = (torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    ours = feature_distance(features(2 * a - 1), features(2 * b - 1))

    class Hub(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            net: Any = features.network
            x = net.maxpool(net.act(net.bn1(net.conv1(x))))
            return net.layer4(net.layer3(net.layer2(net.layer1(x))))

    monkeypatch.setattr(torch.hub, "load", lambda *args, **given: Hub())
    theirs = RadImageNetPerceptualSimilarity()(a, b).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_other_weights_than_a_resnets_are_refused(tmp_path: Path) -> None:
    torch.save({"backbone.0.weight": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name in ("other.pt", "text.pt"):
        with pytest.raises(UnreadableFileError):
            RadImageNetFeatures(tmp_path / name)


# --- data ----------------------------------------------------------------------------------------


def test_the_range_of_latents_is_the_least_and_the_greatest_or_a_share() -> None:
    latents = [torch.arange(0.0, 500), torch.arange(500.0, 1001)]
    assert latent_limits(latents, 1.0) == (0.0, 1000.0)
    assert latent_limits(latents, 0.98) == (10.0, 990.0)


def test_the_range_is_measured_once_over_the_training_side(tiny: Recipe, cases: Cohort) -> None:
    recipe = tiny("range_cases=6")
    nets = recipe.networks()
    assert not nets["range"].measured
    work = work_of(recipe, cases, "l1")
    recipe.losses("denoiser", nets, work)
    low, high = float(nets["range"].low), float(nets["range"].high)
    latent = nets["codec"].encode(work.batches["volumes"]["ct"]).detach()
    assert (low, high) == pytest.approx((float(latent.min()), float(latent.max())), rel=1e-4)
    clean = work.scratch["clean"]
    assert float(clean.min()) == pytest.approx(-1, abs=1e-4)
    assert float(clean.max()) == pytest.approx(1, abs=1e-4)
    nets["range"].set(-100.0, 100.0)
    recipe.losses("denoiser", nets, work)
    assert float(nets["range"].high) == 100


def test_drrs_are_of_the_published_geometry(volumes: dict[str, Any]) -> None:
    poses = FrontalPoses(detector_shape=(64, 64), field_mm=512.0)
    (view,) = poses.draw(np.random.default_rng(0), volumes["p0"].grid)
    assert view.source_to_detector_mm == 1200
    assert view.source_to_isocenter_mm == 850
    assert view.pixel_mm == 8.0
    assert view.isocenter_lps == pytest.approx(volumes["p0"].grid.center_lps)
    with pytest.raises(Cxr3dError):
        FrontalPoses(presets=("sideways",))


def test_settings_that_do_not_go_together_are_refused(tiny: Recipe, cases: Cohort) -> None:
    for changes, told in (
        (["augmentation=light"], "cached_latents"),
        (["losses.lpips=0.01"], "radimagenet"),
        (["losses.classifier=0.08"], "classifier_bundle"),
        (["poses.detector_shape=[32, 32]"], "detector"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            tiny(*changes)
    with pytest.raises(InvalidInputError, match="Adapters need a trained network"):
        tiny("lora.rank=2").samplers(cases.split("train"))
    with pytest.raises(InvalidInputError, match="codec of the latents has no weights"):
        tiny("codec_bundle=null").samplers(cases.split("train"))
    with pytest.raises(InvalidInputError, match="X-ray of its own"):
        tiny("stage=4").samplers(cases.split("train"))


def test_a_training_does_not_begin_without_what_it_is_to_begin_from(
    tiny: Recipe, cases: Cohort, tmp_path: Path
) -> None:
    for setting in ("init", "codec_bundle", "encoder_weights", "classifier_bundle"):
        recipe = tiny(f"{setting}={tmp_path / 'gone'}")
        recipe.networks()  # for a checkpoint, which holds what came from there
        with pytest.raises(UnreadableFileError):
            recipe.samplers(cases.split("train"))
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="Only BiomedCLIP"):
        tiny(f"encoder_weights={tmp_path / 'weights.bin'}").networks()


@pytest.mark.parametrize("name", ["tiny", "demo", "paper"])
def test_a_presets_model_is_the_one_that_the_program_knows(name: str) -> None:
    assert read_preset("xray2ctpa", name)["model"] == PRESETS[name]
    if name != "paper":  # whose tower timm builds
        assert isinstance(outline_network(PRESETS[name]), Xray2Ctpa)


# --- the stages, by the command line -------------------------------------------------------------

DRRS = ("data=phantom:4", "run.image_every=0", "run.validate_every=0", "run.log_every=1")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """``command("fit", ...)`` runs cxr3d-train and gives what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR3D_CACHE", str(tmp_path_factory.mktemp("cache")))

        def run(*words: object) -> str:
            result = CliRunner().invoke(app, [str(w) for w in words])
            assert result.exit_code == 0, (result.output, result.exception)
            return result.stdout

        yield run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., str]) -> Path:
    """Stages 1 and 2; the second was stopped after four of its steps, and went on."""
    root = tmp_path_factory.mktemp("stages")
    fit = ("fit", "xray2ctpa", "--preset", "tiny", *DRRS, "--accelerator", "cpu", "--out")
    command(*fit, root / "1", "run.steps=4")
    settings = ("stage=2", f"init={root / '1'}", "run.steps=6", "run.checkpoint_every=3")
    command(*fit, root / "2", *settings)
    folder = CheckpointFolder(root / "2" / "checkpoints")
    torch.save(folder.listing()[0].read(), root / "uninterrupted.pt")
    folder.drop_after(3)
    command("fit", "xray2ctpa", "--resume", "--accelerator", "cpu", "--out", root / "2")
    return root


def networks_of(run: Path) -> dict[str, Any]:
    return CheckpointFolder(run / "checkpoints").listing()[0].read()


def test_a_resumed_stage_equals_an_uninterrupted_one(runs: Path) -> None:
    again = networks_of(runs / "2")
    before = torch.load(runs / "uninterrupted.pt", weights_only=True)
    for kind in ("networks", "averages", "optimizers"):
        torch.testing.assert_close(again[kind], before[kind], rtol=0, atol=0)


def test_a_stage_begins_from_the_one_before(runs: Path, tiny: Recipe) -> None:
    first = networks_of(runs / "1")
    second = tiny("stage=2", f"init={runs / '1'}").networks()
    average = {
        name.removeprefix("module."): value
        for name, value in first["averages"]["unet_average"].items()
        if name.startswith("module.")
    }
    torch.testing.assert_close(dict(second["unet"].state_dict()), average)
    for name in ("range", "codec", "encoder"):
        torch.testing.assert_close(dict(second[name].state_dict()), first["networks"][name])
    assert bool(second["range"].measured)


def test_an_encoder_learns_only_where_x_rays_are_shown(runs: Path) -> None:
    first, second = networks_of(runs / "1"), networks_of(runs / "2")
    assert "encoder_average" not in first["averages"]
    assert "encoder_average" in second["averages"]
    name = "head.weight"
    begun, ended = (s["networks"]["encoder"][name] for s in (first, second))
    assert float((begun - ended).abs().max()) > 0
    logged = [line for line in read_log(runs / "2" / "log.jsonl") if "denoiser/l1" in line]
    assert {"denoiser/self_feature", "denoiser/adversarial"} <= logged[-1].keys()
    assert "discriminator/discriminator" in logged[-1]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, volumes: dict[str, Any]) -> Path:
    """CTs as files, three of them with an X-ray that a table names."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ct").mkdir()
    rows = []
    poses = FrontalPoses(("pa",), detector_shape=(192, 192))
    renderer = ViewRenderer(poses, domain="drr")
    for k, (name, volume) in enumerate(volumes.items()):
        write_volume(volume, folder / "ct" / f"{name}.nii.gz")
        view = poses.draw(np.random.default_rng(k), volume.grid)
        picture = renderer.render(volume, view).pictures[0]
        Image.fromarray((255 * picture).astype(np.uint8)).save(folder / f"{name}.png")
        side = "validation" if name == "p3" else "train"
        rows.append([f"{name}.nii.gz", name, side, "" if name == "p1" else f"{name}.png"])
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "patient", "split", "xray"], *rows])
    return folder


def own(pairs: Path) -> tuple[str, ...]:
    options = f"{{spacing_mm: 12.0, table: {pairs / 'table.csv'}}}"
    return (f"data={pairs / 'ct'}", f"data_options={options}", f"xrays={pairs}")


def test_adapters_alone_learn_from_own_pairs_and_are_merged_for_export(
    runs: Path, pairs: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    run = tmp_path / "4"
    command(
        "fit", "xray2ctpa", "--preset", "tiny", *DRRS, *own(pairs), "stage=4",
        f"init={runs / '2'}", "lora.rank=2", "lora.scale=1.0", "run.steps=3",
        "--accelerator", "cpu", "--out", run,
    )  # fmt: skip
    before, after = networks_of(runs / "2"), networks_of(run)

    def digest(state: dict[str, Tensor], names: list[str]) -> str:
        return sha256(b"".join(state[n].numpy().tobytes() for n in names)).hexdigest()

    average = before["averages"]["unet_average"]
    adapted = after["networks"]["unet"]
    base = [n for n in sorted(adapted) if n.rpartition(".")[2] not in ("up", "down")]
    begun = {n: average["module." + n.replace(".linear.", ".")] for n in base}
    assert digest(begun, base) == digest(adapted, base)
    ups = [v for n, v in adapted.items() if n.endswith(".up")]
    assert ups
    assert all(float(up.abs().max()) > 0 for up in ups[:4])
    assert set(after["averages"]) == {"unet_average"}  # the encoder stays as it was

    out = tmp_path / "bundle"
    command("export", run, "--out", out, "--licence", "none")
    bundle = open_bundle(out)
    assert bundle.card["stage"] == 4
    assert "SYNTHETIC" in bundle.card["limits"]
    model = bundle.network()
    assert isinstance(model, Xray2Ctpa)
    name = "down.0.block1.modulation.1.weight"
    merged = model.unet.state_dict()[name]
    assert float((merged - average[f"module.{name}"]).abs().max()) > 0


def test_only_cts_with_an_x_ray_are_drawn_and_it_is_prepared_as_in_use(
    pairs: Path, tiny: Recipe
) -> None:
    from napari_cxr3d.inference.xray_input import guess_input, prepare_inputs
    from napari_cxr3d.io import read_cxr
    from napari_cxr3d.models.xray2ctpa.embedding import pictures_of

    preset = read_preset("xray2ctpa", "tiny")
    changes = dict(parse_override(c) for c in (*own(pairs), "stage=4"))
    recipe = make("xray2ctpa", override(preset, changes))
    train = recipe.cohort().split("train")
    assert len(train) == 3
    sampler = recipe.samplers(train)["volumes"]
    with Feed(sampler.sample, batch_size=12, seed=0, workers=0, finish=sampler.finish) as feed:
        batch = next(feed)
    assert set(batch["key"].tolist()) == {0, 1}
    expected = [
        pictures_of(
            prepare_inputs(
                [guess_input(read_cxr(pairs / f"{name}.png")).input],
                detector_shape=(48, 48), field_mm=440.0,
            ).to_batch()
        )[0]
        for name in ("p0", "p2")
    ]  # fmt: skip
    for picture in batch["picture"]:
        assert any(torch.allclose(picture, e, atol=1e-5) for e in expected)
