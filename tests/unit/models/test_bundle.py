"""A bundle comes back as it was written, the same on every day and in every form."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from napari_cxr3d.errors import BundleError, ExportError, InvalidInputError
from napari_cxr3d.models import HuWindow, open_bundle, write_bundle
from napari_cxr3d.models import weights as weights_module

HAAR = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_bundle_comes_back_as_it_was_written(write, card, name) -> None:
    bundle = open_bundle(write(name))
    assert bundle.card == card
    assert bundle.description == HAAR
    assert (bundle.name, bundle.version, bundle.kind) == ("codec-test", "1.2.0", "codec")
    assert bundle.hu_window == HuWindow(-1000, 1000)
    network = bundle.network()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    x = torch.randn(1, 1, 4, 4, 4)
    torch.testing.assert_close(network.decode(network.encode(x)), x)
    assert float(network.scale) == pytest.approx(0.3, abs=1e-7)


def test_the_same_arguments_give_the_same_bytes(write) -> None:
    first, second = write("a.zip"), write("b.zip")
    assert first.read_bytes() == second.read_bytes()


def test_the_order_of_the_card_does_not_change_the_bundle(write, card) -> None:
    reversed_card = dict(reversed(card.items()))
    assert open_bundle(write("a")).sha256 == open_bundle(write("b", card=reversed_card)).sha256


def test_a_folder_and_its_zip_are_the_same_bundle(write, tmp_path) -> None:
    folder, packed = write("folder"), write("packed.zip")
    by_hand = tmp_path / "by-hand.zip"
    with zipfile.ZipFile(by_hand, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"my-codec/{path.name}")
    identities = {open_bundle(p).sha256 for p in (folder, folder / "bundle.yaml", packed, by_hand)}
    assert len(identities) == 1
    assert float(open_bundle(by_hand).network().scale) == pytest.approx(0.3)


def test_other_weights_are_another_bundle(write) -> None:
    other = {"scale": torch.tensor(0.4)}
    assert open_bundle(write("a")).sha256 != open_bundle(write("b", state=other)).sha256


def test_the_published_hash_is_asked_for(write) -> None:
    path = write()
    identity = open_bundle(path).sha256
    assert open_bundle(path, sha256=identity.upper()).sha256 == identity
    with pytest.raises(BundleError, match=f"another bundle.*{identity}"):
        open_bundle(path, sha256="0" * 64)


def test_a_bundle_is_opened_without_torch(write) -> None:
    program = (
        "import sys; from napari_cxr3d.models import open_bundle\n"
        f"open_bundle({str(write())!r}).describe()\n"
        "sys.exit(','.join({'torch', 'monai', 'scipy', 'numba'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_building_a_network_leaves_the_random_state_alone() -> None:
    from napari_cxr3d.models.codecs import PRESETS
    from napari_cxr3d.models.network import build_network

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = build_network(PRESETS["tiny"])  # its weights are drawn
    assert torch.equal(torch.rand(2), expected)
    assert any(p.std() > 0 for p in first.parameters() if p.numel() > 1)


def test_weights_are_rounded_to_the_asked_type_and_the_scale_is_not() -> None:
    state = {"w": torch.full((3,), 1 / 3), "scale": torch.tensor(1 / 3), "n": torch.tensor([7])}
    _, stored = weights_module.pack(state, "bfloat16")
    assert stored["w"].dtype == torch.bfloat16
    assert stored["scale"].dtype == torch.float32
    assert float(stored["scale"]) == pytest.approx(1 / 3, abs=1e-7)
    assert stored["n"].dtype == torch.int64
    _, as_they_are = weights_module.pack(state, None)
    assert as_they_are["w"].dtype == torch.float32


def test_large_weights_are_divided_into_files_of_bounded_size(monkeypatch) -> None:
    monkeypatch.setattr(weights_module, "SHARD_BYTES", 20_000)
    state = {f"layer{k}.weight": torch.randn(2000) for k in range(5)}
    state["large"] = torch.randn(9000)
    files, _ = weights_module.pack(state, "float32")
    assert next(iter(files)) == "weights-00001-of-00004.safetensors"
    loaded: dict[str, torch.Tensor] = {}
    for name, content in files.items():
        tensors = weights_module.unpack(content, name, Path("x"))
        assert len(content) <= 20_000 or list(tensors) == ["large"]
        loaded |= tensors
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_bundle_of_several_files_is_put_together_again(write, monkeypatch) -> None:
    monkeypatch.setattr(weights_module, "SHARD_BYTES", 3000)
    network = {
        "_target_": "monai.networks.nets.ResNet",
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [2, 2, 2, 2],
        "n_input_channels": 1,
        "num_classes": 2,
    }
    from napari_cxr3d.models.network import build_network

    state = build_network(network).state_dict()
    bundle = open_bundle(write("several.zip", network=network, state=state, dtype="float32"))
    assert len(bundle.files) > 2
    loaded = bundle.network().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_tied_weights_are_written_out(write, tmp_path) -> None:
    shared = torch.randn(4)
    files, _ = weights_module.pack({"a": shared, "b": shared, "c": shared[:2]}, None)
    (content,) = files.values()
    loaded = weights_module.unpack(content, "weights", tmp_path)
    assert torch.equal(loaded["a"], loaded["b"])
    assert torch.equal(loaded["c"], shared[:2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_not_written(write, tmp_path, value) -> None:
    with pytest.raises(InvalidInputError, match="not numbers"):
        write(state={"scale": torch.tensor(value)})
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_open_is_not_written(write, tmp_path) -> None:
    with pytest.raises(InvalidInputError, match="unknown: extra"):
        write(state={"scale": torch.ones(()), "extra": torch.ones(2)})
    with pytest.raises(InvalidInputError, match="levels"):
        write(network=HAAR | {"levels": 77})
    with pytest.raises(InvalidInputError, match="licence should be a text"):
        write(card={"licence": ""})
    with pytest.raises(InvalidInputError, match="plain data"):
        write(card={"note": object()})
    with pytest.raises(InvalidInputError, match="float16"):
        write(dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_a_licence_can_be_attached(write) -> None:
    path = write(attachments={"LICENSE.txt": "Be kind."})
    assert (path / "LICENSE.txt").read_text() == "Be kind."
    assert {file.name for file in open_bundle(path).files} >= {"LICENSE.txt"}
    with pytest.raises(InvalidInputError, match="attached"):
        write("other", attachments={"run.py": "print()"})


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_nothing_is_written_over_without_being_asked(write, name) -> None:
    path = write(name)
    before = open_bundle(path).sha256
    with pytest.raises(ExportError, match="exists"):
        write(name, card={"version": "2.0"})
    assert open_bundle(path).sha256 == before
    write(name, card={"version": "2.0"}, overwrite=True)
    assert open_bundle(path).version == "2.0"
    assert sorted(p.name for p in path.parent.iterdir()) == [name]


def test_a_folder_of_something_else_is_never_replaced(write, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(ExportError, match="Only a bundle"):
        write("precious", overwrite=True)
    assert (precious / "thesis.txt").read_text() == "years"
    with pytest.raises(ExportError, match="Make it first"):
        write("absent/bundle")


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(write, monkeypatch) -> None:
    path = write()
    before = open_bundle(path).sha256

    def full(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left"):
        write(card={"version": "2.0"}, overwrite=True)
    monkeypatch.undo()
    assert [p.name for p in path.parent.iterdir()] == ["bundle"]
    assert open_bundle(path).sha256 == before


def test_the_description_for_people_tells_what_matters(write) -> None:
    text = open_bundle(write()).describe()
    for told in ("codec-test", "1.2.0", "BSD-3-Clause", "Not for patients.", "31.5", "2000 HU"):
        assert told in text
    assert "synthetic training: yes" in text


def test_a_bundle_of_an_unwritable_place_says_so(write, card) -> None:
    with pytest.raises(InvalidInputError, match="no weights"):
        write_bundle("unused", network=HAAR, state={}, card=card)
