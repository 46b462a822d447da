"""What the guide tells people to type works as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cxr3d_training.cli.app import app
from napari_cxr3d.io import write_volume

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "prepare-a-dataset.md"


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_chest) -> Path:
    """Scans, their table as the guide shows it, and some radiographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    site = tmp_path / "scans" / "site-a"
    (site / "0002").mkdir(parents=True)
    write_volume(make_chest(0), site / "0001.nii.gz")
    write_volume(make_chest(1), site / "0002" / "ct.nrrd")
    for k in range(2, 5):
        write_volume(make_chest(k), tmp_path / "scans" / f"p{k}.mha")
    (tmp_path / "table.csv").write_text(next(b for b in blocks("text") if "path,patient" in b))
    (tmp_path / "radiographs").mkdir()
    rows = ["path,patient,view"]
    for k in range(5):
        pixels = np.random.default_rng(k).integers(0, 255, (80, 64)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "radiographs" / f"{k}.png")
        rows.append(f"{k}.png,p{k},PA")
    (tmp_path / "radiographs.csv").write_text("\n".join(rows))
    return tmp_path


def test_the_guide_works_from_top_to_bottom(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [line[2:] for b in blocks("console") for line in b.splitlines() if line[:1] == "$"]
    assert len(commands) == 4
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "cxr3d-train"
        if arguments[0] == "prepare":  # coarse, and in this process, to be quick
            arguments = [*arguments, "--workers", "0"]
            arguments = ["12" if a in ("2", "8") else a for a in arguments]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}: {result.stderr}"
    labelled = (workplace / "labelled" / "manifest.json").read_text()
    assert '"report": "Clear lungs."' in labelled

    (workplace / "phantoms").rename(workplace / "phantoms-of-the-same-spacing")
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, PAGE.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "(2, 2, 32, 32) (2, 2, 12)" in printed
    assert "(64, 64)" in printed
