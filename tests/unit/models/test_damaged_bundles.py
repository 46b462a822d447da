"""A damaged, altered or hostile bundle is refused, and the message names the file."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from napari_cxr3d.errors import BundleError, UnreadableFileError
from napari_cxr3d.models import open_bundle

WEIGHTS = "weights.safetensors"


def rewrite(folder: Path, content: bytes, edit) -> None:
    """Other weights, with a description whose sizes and hashes agree with them."""
    (folder / WEIGHTS).write_bytes(content)
    digits = hashlib.sha256(content).hexdigest()
    edit(folder, files=[{"name": WEIGHTS, "bytes": len(content), "sha256": digits}])


def repack(source: Path, target: Path, change) -> Path:
    """A zip with a member's entry and content changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            change(new, member, old.read(member))
    return target


def test_nothing_there_or_something_else_is_told(tmp_path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file"):
        open_bundle(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"holds no bundle\.yaml"):
        open_bundle(tmp_path / "empty")
    (tmp_path / "model.pt").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(BundleError, match=r"model\.pt: The file is not a whole zip"):
        open_bundle(tmp_path / "model.pt")


def test_altered_weights_are_refused(write) -> None:
    folder = write()
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"{WEIGHTS} was altered"):
        open_bundle(folder)
    with pytest.raises(BundleError, match=f"{WEIGHTS} was altered"):
        open_bundle(folder, check_content=False).network()


def test_weights_altered_after_opening_are_refused(write) -> None:
    folder = write()
    bundle = open_bundle(folder)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-1] + b"\x00")
    with pytest.raises(BundleError, match="altered"):
        bundle.network()


@pytest.mark.parametrize(("cut", "word"), [(-10, "cut off"), (0, "too long")])
def test_weights_of_another_size_are_refused(write, cut, word) -> None:
    folder = write()
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:cut] if cut else content + b"more")
    with pytest.raises(BundleError, match=f"{WEIGHTS} is {word}"):
        open_bundle(folder)


def test_a_file_that_is_missing_or_too_much_is_named(write) -> None:
    folder = write()
    (folder / "setup.py").write_text("print('hello')")
    with pytest.raises(BundleError, match=r"setup\.py does not belong.*Remove it"):
        open_bundle(folder)
    (folder / "setup.py").unlink()
    (folder / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=f"{WEIGHTS} is missing"):
        open_bundle(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_and_folders_are_refused(write, tmp_path) -> None:
    folder = write()
    (tmp_path / "elsewhere").write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="a link, a folder or a device"):
        open_bundle(folder)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(BundleError, match="a link, a folder or a device"):
        open_bundle(folder)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system has no such flag")
def test_a_link_put_there_after_listing_is_not_followed(write, tmp_path) -> None:
    folder = write()
    bundle = open_bundle(folder)
    (folder / WEIGHTS).rename(tmp_path / "moved")
    (folder / WEIGHTS).symlink_to(tmp_path / "moved")
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.network()


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "deep/evil.txt", ".hidden", "a\\b", "evil\x01.txt", "x."]
)
def test_a_zip_that_reaches_out_of_itself_is_refused(write, tmp_path, name) -> None:
    path = write("good.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "evil")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match="must not be in a bundle"):
        open_bundle(path)
    assert set(tmp_path.rglob("*")) == before


def test_a_zip_of_a_link_is_refused(write, tmp_path) -> None:
    def as_link(archive, member, content) -> None:
        if member.filename == WEIGHTS:
            member.external_attr = 0o120777 << 16
            content = b"/etc/passwd"
        archive.writestr(member, content)

    path = repack(write("good.zip"), tmp_path / "link.zip", as_link)
    with pytest.raises(BundleError, match="a link"):
        open_bundle(path)


def test_a_zip_that_would_explode_is_refused_before_it_does(write, tmp_path) -> None:
    def explode(archive, member, content) -> None:
        if member.filename == WEIGHTS:
            archive.writestr(member.filename, bytes(50_000_000), zipfile.ZIP_DEFLATED)
        else:
            archive.writestr(member, content)

    path = repack(write("good.zip"), tmp_path / "bomb.zip", explode)
    assert path.stat().st_size < 100_000
    with pytest.raises(BundleError, match="would grow to 50000000"):
        open_bundle(path)


def test_a_zip_that_lies_of_its_sizes_is_refused(write, tmp_path) -> None:
    path = write("good.zip")
    content = bytearray(path.read_bytes())
    size = zipfile.ZipFile(path).getinfo(WEIGHTS).file_size
    for at in range(len(content) - 4):  # in the local header and in the directory
        if content[at : at + 4] == struct.pack("<I", size):
            content[at : at + 4] = struct.pack("<I", size - 8)
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        open_bundle(path)


def test_a_zip_with_a_file_twice_or_odd_compression_is_refused(write, tmp_path) -> None:
    path = write("twice.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(WEIGHTS, b"other")
    with pytest.raises(BundleError, match="twice"):
        open_bundle(path)

    def squeeze(archive, member, content) -> None:
        archive.writestr(member.filename, content, zipfile.ZIP_LZMA)

    path = repack(write("good.zip"), tmp_path / "lzma.zip", squeeze)
    with pytest.raises(BundleError, match="unusual way"):
        open_bundle(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_zip_that_is_cut_off_is_refused(write, part) -> None:
    path = write("good.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(BundleError, match="not a whole zip"):
        open_bundle(path)


def test_damage_at_any_byte_of_a_zip_is_never_overlooked(write) -> None:
    path = write("good.zip")
    good = path.read_bytes()
    identity = open_bundle(path).sha256
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        try:
            bundle = open_bundle(path)
            bundle.network()
        except BundleError:
            continue
        assert bundle.sha256 == identity, f"byte {at}"  # of a date or another idle field


def test_a_later_format_asks_for_an_update(write, edit) -> None:
    folder = write()
    edit(folder, format_version=2)
    with pytest.raises(BundleError, match=r"later version.*up to 1.*pip install --upgrade"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "MONAI bundle"}, "not a model bundle of napari-cxr3d"),
        ({"format_version": "1"}, "not a model bundle of napari-cxr3d"),
        ({"licence": None}, "licence should be a text"),
        ({"metrics": {"psnr": {"value": 30}}}, "convention of psnr"),
        ({"preprocessing": {"hu_window": [1000, -1000]}}, "rising"),
        ({"files": []}, "lists no files"),
        ({"files": [{"name": "../x.safetensors", "bytes": 1, "sha256": "0" * 64}]}, "list of"),
        ({"files": [{"name": "README.md", "bytes": 1, "sha256": "0" * 64}]}, "no weights"),
        ({"weights": None}, "weights"),
        ({"network": None}, "_target_"),
        ({"network": {"_target_": "os.system", "command": "true"}}, "not a network of"),
        ({"network": {"_target_": "torch.load", "f": "x"}}, "not a network of"),
        (
            {"network": {"_target_": "monai.networks.nets.EfficientNetBN", "model_name": "x"}},
            "none of the MONAI networks",
        ),
        (
            {"network": {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": "$1+1"}},
            "evaluated",
        ),
    ],
)
def test_an_unusable_description_is_refused(write, edit, changes, told) -> None:
    folder = write()
    edit(folder, **changes)
    with pytest.raises(BundleError, match=told) as caught:
        open_bundle(folder)
    assert str(folder) in str(caught.value)


def test_a_field_that_is_missing_is_named(write) -> None:
    folder = write()
    description = folder / "bundle.yaml"
    record = yaml.safe_load(description.read_text())
    del record["limits"], record["training"]
    description.write_text(yaml.safe_dump(record))
    with pytest.raises(BundleError, match="limits, training missing"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({}, "missing: scale"),
        ({"scale": torch.ones(3)}, r"scale is \(3,\) and should be \(\)"),
        ({"scale": torch.tensor(1)}, "not of the same kind of number: scale"),
        ({"scale": torch.ones(()), "bias": torch.ones(1)}, "unknown: bias"),
    ],
)
def test_weights_of_another_network_are_refused(write, edit, state, told) -> None:
    from safetensors.torch import save

    folder = write()
    rewrite(folder, save(state), edit)
    with pytest.raises(BundleError, match=told):
        open_bundle(folder).network()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 4,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b"not json",
        (lambda header: struct.pack("<Q", len(header)) + header)(
            json.dumps({"scale": {"dtype": "F32", "shape": [], "data_offsets": [0, 400]}}).encode()
        ),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_weights_that_are_no_safetensors_are_refused(write, edit, content) -> None:
    folder = write()
    rewrite(folder, content, edit)
    with pytest.raises(BundleError, match="not a whole safetensors file"):
        open_bundle(folder).network()


def test_two_files_with_one_name_in_them_are_refused(write, edit) -> None:
    folder = write()
    content = (folder / WEIGHTS).read_bytes()
    (folder / "more.safetensors").write_bytes(content)
    digits = hashlib.sha256(content).hexdigest()
    names = (WEIGHTS, "more.safetensors")
    edit(folder, files=[{"name": n, "bytes": len(content), "sha256": digits} for n in names])
    with pytest.raises(BundleError, match=r"one name: scale"):
        open_bundle(folder).network()
