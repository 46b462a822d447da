"""Published networks load from files as their own libraries write them, and never by surprise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cxr3d.errors import (
    BackendUnavailableError,
    ConsentRequiredError,
    InvalidInputError,
    UnreadableFileError,
)
from napari_cxr3d.models import hub, hub_networks, zoo


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv(zoo.ENVIRONMENT, str(folder))
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory) -> Path:
    """A tiny random model of RAD-DINO's kind, as transformers saves it."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("rad-dino")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    Dinov2Model(config).save_pretrained(folder)
    shown = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(shown))
    return folder


def test_importing_the_loaders_loads_no_library() -> None:
    program = (
        "import sys, napari_cxr3d.models.hub\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'huggingface_hub', 'timm', 'monai'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["rad-dino", "sd-vae-ft-mse"])
def test_nothing_is_fetched_without_consent(name, mine, monkeypatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("it was fetched")
    )
    load = {"rad-dino": hub.load_rad_dino, "sd-vae-ft-mse": hub.load_sd_vae}[name]
    for call in (load, lambda: hub.fetch(name)):
        with pytest.raises(ConsentRequiredError) as caught:
            call()
        assert caught.value.consent == "consent"
        for told in ("MB", "MIT", f"cxr3d models fetch {name} --consent"):
            assert told in str(caught.value)
    assert not mine.exists()


def test_with_consent_one_revision_of_safetensors_is_fetched_once(
    mine, monkeypatch, dino_folder
) -> None:
    import huggingface_hub

    calls = []

    def download(repository: str, **settings) -> None:
        calls.append((repository, settings))
        target = Path(settings["local_dir"])
        (target / ".cache").mkdir()
        for name in settings["allow_patterns"]:
            (target / name).write_bytes((dino_folder / name).read_bytes())

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = hub.load_rad_dino(consent=True)
    assert hub.load_rad_dino().weights_sha256 == loaded.weights_sha256
    ((repository, settings),) = calls
    assert repository == "microsoft/rad-dino"
    assert settings["token"] is False
    assert len(settings["revision"]) == 40
    assert set(settings["allow_patterns"]) == set(hub.HUB["rad-dino"].files)
    record = json.loads((mine / "hub" / "rad-dino" / "source.json").read_text())
    assert record["revision"] == settings["revision"]
    assert record["files"]["model.safetensors"] == loaded.weights_sha256
    assert sorted(p.name for p in (mine / "hub").iterdir()) == ["rad-dino"]
    assert all(entry.place == "bundled" for entry in zoo.listing())  # they are no bundles


def test_a_download_that_fails_leaves_nothing_behind(mine, monkeypatch) -> None:
    import huggingface_hub

    def breaks(repository: str, **settings) -> None:
        (Path(settings["local_dir"]) / "config.json").write_text("{}")
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaks)
    with pytest.raises(UnreadableFileError, match=r"no route.*Check the connection"):
        hub.fetch("rad-dino", consent=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: None)
    with pytest.raises(UnreadableFileError, match="did not come"):
        hub.fetch("rad-dino", consent=True)
    assert list((mine / "hub").iterdir()) == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BackendUnavailableError, match=r"napari-cxr3d\[hub\]"):
        hub.fetch("rad-dino", consent=True)


def test_every_fetched_model_has_one_revision_and_no_pickle() -> None:
    for model in hub.HUB.values():
        assert model.licence
        if model.repository:
            assert len(model.revision) == 40
            assert int(model.revision, 16)
            assert {Path(f).suffix for f in model.files} == {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["biomedclip", "maisi"])
def test_what_is_published_as_a_pickle_is_not_fetched(name, mine) -> None:
    with pytest.raises(InvalidInputError, match=r"safetensors.*Get its file"):
        hub.fetch(name, consent=True)
    with pytest.raises(InvalidInputError, match="Choose one of"):
        hub.fetch("gpt", consent=True)


def test_rad_dino_gives_a_vector_and_a_grid_of_vectors(dino_folder) -> None:
    loaded = hub.load_rad_dino(dino_folder)
    assert isinstance(loaded.network, hub_networks.ImageTower)
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    pictures = torch.rand(2, 1, 50, 40, generator=torch.Generator().manual_seed(0))
    out = loaded.network(pictures)
    assert out.embedding.shape == (2, 12)
    assert out.patches.shape == (2, 12, 4, 4)
    assert len(loaded.weights_sha256) == 64
    colour = loaded.network(pictures.expand(-1, 3, -1, -1))
    torch.testing.assert_close(colour.embedding, out.embedding)


def test_rad_dino_sees_what_transformers_would_show_it(dino_folder) -> None:
    from transformers import Dinov2Model

    tower = hub.load_rad_dino(dino_folder).network
    pictures = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    reference = Dinov2Model.from_pretrained(dino_folder).eval()
    with torch.no_grad():
        expected = reference(pixel_values=(pictures - 0.5) / 0.25)
        found = tower(pictures)
    torch.testing.assert_close(found.embedding, expected.pooler_output, rtol=1e-4, atol=1e-5)
    patch = expected.last_hidden_state[0, 1 + 4 * 1 + 2]  # row 1, column 2
    torch.testing.assert_close(found.patches[0, :, 1, 2], patch, rtol=1e-4, atol=1e-5)


def test_another_kind_of_model_is_not_loaded(dino_folder, tmp_path) -> None:
    def copy(**changes) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for path in dino_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    with pytest.raises(UnreadableFileError, match="another kind"):
        hub.load_rad_dino(copy(model_type="llama"))
    with pytest.raises(UnreadableFileError, match="code of its own"):
        hub.load_rad_dino(copy(auto_map={"AutoModel": "evil.Model"}))
    with pytest.raises(UnreadableFileError, match="not those of the model"):
        hub.load_rad_dino(copy(num_hidden_layers=3))
    folder = copy()
    (folder / "config.json").write_text("[")
    with pytest.raises(UnreadableFileError, match="configuration"):
        hub.load_rad_dino(folder)
    folder = copy()
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UnreadableFileError, match="preprocessing"):
        hub.load_rad_dino(folder)
    folder = copy()
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UnreadableFileError, match="cannot be loaded"):
        hub.load_rad_dino(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnreadableFileError, match="no such file"):
        hub.load_rad_dino(folder)


def test_an_encoder_takes_pictures(dino_folder) -> None:
    tower = hub.load_rad_dino(dino_folder).network
    for shape in ((28, 28), (1, 2, 28, 28)):
        with pytest.raises(InvalidInputError, match="pictures"):
            tower(torch.zeros(shape))


def test_the_slice_autoencoder_is_the_one_that_diffusers_saved(tmp_path) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    saved = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()
    saved.save_pretrained(tmp_path)
    loaded = hub.load_sd_vae(tmp_path)
    pictures = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = saved.encode(pictures).latent_dist.mean
        found = loaded.network.encode(pictures).latent_dist.mean
    assert torch.equal(found, expected)
    assert found.shape == (1, 4, 8, 8)
    assert not any(p.requires_grad for p in loaded.network.parameters())


MAISI = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "num_channels": [8, 16, 16],
    "num_res_blocks": [2, 2, 2],
    "norm_num_groups": 8,
    "attention_levels": [False] * 3,
    "save_mem": False,
    "num_splits": 1,
}


@pytest.fixture
def small_maisi(monkeypatch) -> torch.nn.Module:
    """MAISI's own class with small random weights, and the preset that fits it."""
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    small = {"channels": [8, 16, 16], "norm_num_groups": 8}
    monkeypatch.setitem(hub_networks.PRESETS, "paper", hub_networks.PRESETS["paper"] | small)
    torch.manual_seed(0)
    return AutoencoderKlMaisi(**MAISI).eval()


@pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped.pt"])
def test_maisis_weights_compute_the_same_in_our_codec(small_maisi, tmp_path, form) -> None:
    from safetensors.torch import save_file

    file = tmp_path / f"autoencoder.{form}"
    state = small_maisi.state_dict()
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save({"unet_state_dict": state} if "wrapped" in form else state, file)
    codec = hub.load_maisi(file, scale=1.5).network
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        mean, sigma = small_maisi.encode(x)
        torch.testing.assert_close(codec.encode(x), 1.5 * mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(codec.posterior(x)[1], sigma, rtol=1e-3, atol=1e-4)
        expected = small_maisi.decode(mean)
        torch.testing.assert_close(codec.decode(1.5 * mean), expected, rtol=1e-3, atol=1e-4)


def test_the_paper_preset_has_the_names_of_maisis_published_sizes() -> None:
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    from napari_cxr3d.models.network import outline_network

    with torch.device("meta"):
        published = AutoencoderKlMaisi(
            **MAISI | {"num_channels": [64, 128, 256], "norm_num_groups": 32}
        )
    ours = outline_network(hub_networks.PRESETS["paper"]).state_dict()
    shapes = {
        f"autoencoder.{hub_networks._plain_name(name)}": tensor.shape
        for name, tensor in published.state_dict().items()
    }
    assert shapes == {name: t.shape for name, t in ours.items() if name != "scale"}


def test_maisis_window_is_half_the_usual_range() -> None:
    hu = np.array([-1000, 0, 1000], np.int16)
    np.testing.assert_allclose(hub.MAISI_WINDOW.encode(hu), [0, 0.5, 1])


def test_files_of_something_else_are_refused(tmp_path, small_maisi) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"conv.weight": torch.zeros(3)}, file)
    with pytest.raises(UnreadableFileError, match="not those of MAISI's autoencoder"):
        hub.load_maisi(file)
    torch.save([1, 2, 3], file)
    with pytest.raises(UnreadableFileError, match="does not hold a network's weights"):
        hub.load_maisi(file)
    file.write_bytes(b"damaged")
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        hub.load_maisi(file)
    with pytest.raises(UnreadableFileError, match="no weights that are known"):
        hub.load_maisi(tmp_path)


class Evil:
    """What a hostile pickle holds: a call that runs when it is read."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran-from-a-file"),))


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    for load in (hub.load_maisi, hub.load_biomedclip):
        with pytest.raises(UnreadableFileError, match="more than weights"):
            load(tmp_path / "evil.pt")
    assert not Path("ran-from-a-file").exists()


def test_biomedclips_image_tower_is_the_vit_of_timm(tmp_path, monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    small = {
        "model_name": "vit_tiny_patch16_224",
        "num_classes": 0,
        "img_size": 32,
        "embed_dim": 12,
        "num_heads": 2,
        "depth": 2,
    }
    monkeypatch.setattr(hub_networks, "_BIOMEDCLIP_TRUNK", small)
    torch.manual_seed(0)
    trunk = timm.create_model(pretrained=False, **small).eval()
    head = torch.randn(512, 12)
    state = {f"visual.trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}
    state |= {"visual.head.proj.weight": head, "text.other": torch.zeros(3)}
    state |= {"logit_scale": torch.zeros(())}
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    loaded = hub.load_biomedclip(tmp_path)
    pictures = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        x = (pictures.expand(-1, 3, -1, -1) - loaded.network.mean) / loaded.network.std
        expected = torch.nn.functional.normalize(trunk(x) @ head.T, dim=-1)
        found = loaded.network(pictures)
    torch.testing.assert_close(found.embedding, expected, rtol=1e-4, atol=1e-5)
    assert found.patches.shape == (2, 12, 2, 2)
    del state["visual.trunk.cls_token"]
    torch.save(state, tmp_path / "other.bin")
    with pytest.raises(UnreadableFileError, match=r"missing: trunk\.cls_token"):
        hub.load_biomedclip(tmp_path / "other.bin")


def test_a_library_that_is_missing_is_named_with_what_to_type(
    tmp_path, monkeypatch, dino_folder
) -> None:
    torch.save({"visual.x": torch.zeros(1)}, tmp_path / "open_clip_pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BackendUnavailableError, match=r'pip install "timm"'):
        hub.load_biomedclip(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackendUnavailableError, match=r"napari-cxr3d\[hub\]"):
        hub.load_rad_dino(dino_folder)
