"""``cxr3d-train evaluate reconstruct`` measures bundles without their runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxr3d_training.cli.app import app
from napari_cxr3d.models.bundle import write_bundle
from napari_cxr3d.models.network import build_network

from .conftest import DETECTOR, GRID, SPACING  # noqa: TID252  (tests is no package)

UNET = {"channels": [8, 8], "norm_num_groups": 8, "num_head_channels": 8}
NETWORK: dict[str, Any] = {
    "_target_": "napari_cxr3d.models.reconstructor.FlowReconstructor",
    "codec": {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1},
    "volume_shape": list(GRID),
    "spacing_mm": list(SPACING),
    "detector_shape": list(DETECTOR),
    "hu_window": [-1000, 1000],
    "lift": {"encoder_channels": [8, 8], "picture_features": 4, "features": 8},
    "coarse": UNET,
    "flow": UNET,
}
CARD = {
    "version": "1.0.0",
    "licence": "BSD-3-Clause",
    "intended_use": "Tests.",
    "limits": "It has learned nothing.",
    "synthetic_training": True,
    "preprocessing": {},
    "training": {"command": "", "seed": 0, "data": None, "checkpoint_sha256": "abc"},
    "metrics": {},
}


def bundle(path: Path, network: dict[str, Any], **card: str) -> Path:
    state = build_network(network).state_dict()
    return write_bundle(path, network=network, state=state, card={**CARD, **card})


@pytest.fixture(scope="module")
def reconstructor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained bundle."""
    path = tmp_path_factory.mktemp("bundles") / "untrained"
    return bundle(path, NETWORK, name="untrained", kind="reconstructor")


def command(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["evaluate", *(str(a) for a in arguments)])
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result


def test_a_bundle_is_measured_beside_baselines_and_goes_on_from_what_is_kept(
    reconstructor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR3D_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "report"
    arguments = (
        "reconstruct", "--bundle", reconstructor, "--data", "phantom:5", "--out", out,
        "--tables", "none", "--device", "cpu",
    )  # fmt: skip
    printed = command(*arguments).stdout
    assert printed.startswith("# X-ray to CT on held-out patients\n\n## Targets")
    assert "| ours, 8 steps, consistent, 1 view |" in printed
    record = json.loads((out / "report.json").read_text())
    assert record["context"]["bundle"].startswith("untrained 1.0.0, sha256 ")
    assert record["context"]["checkpoint_sha256"] == "abc"  # what export looks for
    assert record["context"]["model"] == "ours, 8 steps, consistent, 1 view"
    assert len({row["case"] for row in record["rows"]}) == 1  # the only one on the side "test"
    assert "inverse crime" in record["context"]["X-rays"]
    assert record["parts"] == {}
    assert str(tmp_path) not in json.dumps({**record, "context": {**record["context"],
                                                                 "command": ""}})  # fmt: skip
    assert "exists already" in command(*arguments, status=1).stderr
    seconds = [row["seconds"] for row in record["rows"]]
    again = json.loads(command(*arguments, "--overwrite", "--json").stdout)
    assert [row["seconds"] for row in again["rows"]] == seconds  # nothing was drawn again


def test_what_a_bundle_cannot_be_measured_by_is_said(reconstructor: Path, tmp_path: Path) -> None:
    codec = {"_target_": "napari_cxr3d.models.codecs.HaarCodec", "levels": 1}
    haar = bundle(tmp_path / "haar", codec, name="haar", kind="codec")
    data = ("--data", "phantom:5", "--out", tmp_path / "report")
    begin = ("reconstruct", "--bundle", reconstructor)
    wrong = command("reconstruct", "--bundle", haar, *data, status=1)
    assert "haar makes no CT from X-rays" in wrong.stderr
    assert "codec" in command("codec", "--bundle", reconstructor, *data, status=2).stderr
    assert "--data" in command(*begin, status=2).stderr
    assert "NAME=BUNDLE" in command(*begin, *data, "--peer", haar.name, status=2).stderr
    assert "colours" in command(*begin, *data, "--tables", "colours", status=2).stderr
    assert "--bundle" in command(tmp_path, "--cases", "3", status=2).stderr
    seen = command(*begin, *data, "--split", "all", "--train-data", "phantom:3", status=1)
    assert "has seen" in seen.stderr
    assert not (tmp_path / "report").exists()
