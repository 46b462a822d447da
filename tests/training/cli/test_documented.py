"""What the how-to guide tells people to type works as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxr3d_training.cli.app import app as train
from napari_cxr3d.cli.app import app as plugin

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "train-a-model.md"


@pytest.mark.slow
def test_from_nothing_to_weights_as_the_guide_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^\$ (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["recipes", "fit", "evaluate", "export", "models"]
    for line in lines:
        program, *arguments = shlex.split(line)
        result = CliRunner().invoke({"cxr3d-train": train, "cxr3d": plugin}[program], arguments)
        assert result.exit_code == 0, f"{line}: {result.stderr}"
    assert (tmp_path / "codec-tiny.zip").stat().st_size > 100_000


def test_the_settings_that_the_guide_names_exist() -> None:
    from cxr3d_training.engine.settings import override, parse_override, read_preset
    from cxr3d_training.recipes import RECIPES, make

    tried = 0
    for part in PAGE.read_text(encoding="utf-8").split("```"):
        recipe = re.search(r"cxr3d-train (?:fit|sweep) (\S+)", part)
        name = recipe[1] if recipe and recipe[1] in RECIPES else "codec"
        preset = read_preset(name, "demo")
        named = re.findall(r"((?:run|losses|optimizers)\.[a-z_.]+=(?:\{[^}]*\}|[^\s`]+))", part)
        for setting in named:
            key, value = parse_override(setting.split(",")[0] if "{" not in setting else setting)
            make(name, override(preset, {key: value}), known=preset)
        tried += len(named)
    assert tried >= 8
