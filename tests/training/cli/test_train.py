"""``cxr3d-train`` from the settings to a bundle that decodes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from napari_cxr3d.errors import InvalidInputError

from .conftest import Command  # noqa: TID252  (tests is no package)


def test_help_loads_no_torch() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from cxr3d_training.cli.app import app\n"
        "for words in (['--help'], ['fit', '--help'], ['sweep', '-h'], ['recipes']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "heavy = {'torch', 'monai', 'lightning_fabric', 'SimpleITK', 'numba', 'scipy', 'zarr'}\n"
        "print(sorted(heavy.intersection(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cxr3d_training", "--version"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("cxr3d-train ")


def test_every_command_has_a_help_and_the_options_too(command: Command) -> None:
    listed = command("--help").stdout
    for name in ("recipes", "prepare", "verify", "fit", "evaluate", "export", "sweep"):
        assert name in listed
        assert "--debug" in command(name, "--help").stdout


def test_recipes_lists_and_prints_a_preset_that_config_takes(
    command: Command, tmp_path: Path, small: tuple[str, ...]
) -> None:
    record = json.loads(command("recipes", "--json").stdout)
    assert record["codec"]["presets"] == ["tiny", "demo", "paper"]
    assert "codec" in command("recipes").stdout
    text = command("recipes", "codec", "--preset", "tiny").stdout
    own = tmp_path / "own.yaml"
    own.write_text(text)
    out = tmp_path / "run"
    command("fit", "codec", "--config", own, *small, "run.steps=1", "--accelerator", "cpu",
            "--out", out)  # fmt: skip
    assert "preset: own" in (out / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no recipe"),
        (["codec", "--preset", "huge"], "no preset"),
        (["codec", "run.stepz=3"], "run.steps"),
        (["codec", "run.steps"], "key=value"),
        (["codec", "run.steps=none"], "whole number"),
        (["codec", "--preset", "tiny", "--config", "x.yaml"], "give one of them"),
        (["codec", "--devices", "0"], "devices"),
        (["codec", "codec.channels=[8,9,16]", "--preset", "tiny"], "norm_num_groups"),
    ],
)
def test_wrong_usage_is_said_and_leaves_no_folder(
    command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    out = tmp_path / "run"
    status = 1 if "norm_num_groups" in said else 2
    result = command("fit", *arguments, "--accelerator", "cpu", "--out", out, status=status)
    assert said in result.stderr
    assert not (out / "checkpoints").exists()


def test_a_run_goes_on_with_its_own_settings(
    command: Command, trained: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    start = ("fit", "codec", "--accelerator", "cpu", "--out", out)
    stopped = command(*start, "--preset", "tiny", *small, "--max-minutes", "0.000001")
    assert "Stopped after step 1 of 6 (time)" in stopped.stderr
    other = command(*start, "--resume", "losses.kl=1", status=1)
    assert "losses.kl was 1e-06 and is 1.0" in other.stderr
    assert "not empty" in command(*start, "--preset", "tiny", *small, status=1).stderr
    done = command(*start, "--resume")
    assert "Going on from step 1 of 6" in done.stderr
    assert (out / "log.jsonl").read_text() == (trained / "log.jsonl").read_text()


def test_evaluate_prints_and_writes_the_report(command: Command, trained: Path) -> None:
    folder = trained / "evaluation"
    printed = command("evaluate", trained, "--device", "cpu").stdout
    assert "| codec |" in printed
    assert "data range 2000 HU" in printed
    assert (folder / "report.md").read_text().rstrip() == printed.rstrip()
    record = json.loads((folder / "report.json").read_text())
    assert record["context"]["model"] == "codec"
    assert record["context"]["side"] == "test"
    # A second time it is not written over unless that is allowed.
    assert "exists already" in command("evaluate", trained, "--device", "cpu", status=1).stderr
    again = command("evaluate", trained, "--device", "cpu", "--overwrite", "--json")
    assert json.loads(again.stdout)["rows"] == record["rows"]


def test_evaluation_refuses_patients_of_the_training(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    options = ("--device", "cpu", "--out", tmp_path / "report")
    seen = command("evaluate", trained, "--data", "phantom:5", "--split", "all", *options, status=1)
    assert "has seen 3 of the 5 cases in training" in seen.stderr
    assert not (tmp_path / "report").exists()
    command("evaluate", trained, "--data", "phantom:1:7", "--split", "all", *options)


def test_evaluating_without_a_run_is_said(command: Command, tmp_path: Path) -> None:
    assert "no training run here" in command("evaluate", tmp_path, status=1).stderr


def test_export_writes_a_bundle_that_opens_and_decodes(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    import torch

    from napari_cxr3d.models.bundle import open_bundle

    command("evaluate", trained, "--device", "cpu", "--overwrite")
    out = tmp_path / "codec.zip"
    assert command("export", trained, "--out", out).stdout == f"{out}\n"
    bundle = open_bundle(out)
    card = bundle.card
    assert (card["name"], card["kind"], card["version"]) == ("codec-tiny", "codec", "1.0.0")
    assert card["synthetic_training"] is True
    assert card["training"]["seed"] == 0
    assert card["training"]["command"].startswith("cxr3d-train fit codec --preset tiny ")
    assert "run.steps=6" in card["training"]["command"]
    assert card["preprocessing"]["spacing_mm"] == [8.0, 8.0, 8.0]
    # The numbers on the card are the model's own, not those of a baseline beside it.
    report = json.loads((trained / "evaluation" / "report.json").read_text())
    for name, entry in card["metrics"].items():
        assert entry["value"] == report["summary"]["codec"][name]["mean"]
    codec = bundle.network()
    latent = codec.encode(torch.zeros(1, 1, 16, 16, 16))
    assert latent.shape == (1, 4, 4, 4, 4)
    assert codec.decode(latent).shape == (1, 1, 16, 16, 16)
    assert float(codec.scale) == pytest.approx(card["latent"]["scale"], rel=1e-2)
    # Nothing of this computer's folders is in it.
    import zipfile

    with zipfile.ZipFile(out) as archive:
        texts = [archive.read(n) for n in archive.namelist() if not n.endswith(".safetensors")]
        log = json.loads(archive.read("training-log.json"))
    assert [line["step"] for line in log if "codec/total" in line] == [1, 2, 3, 4, 5, 6]
    assert not any(str(tmp_path.parent).encode() in text for text in texts)
    assert "exists" in command("export", trained, "--out", out, status=1).stderr


def test_a_bundle_without_an_evaluation_says_so(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    report = trained / "evaluation" / "report.json"
    kept = report.read_text() if report.exists() else None
    report.unlink(missing_ok=True)
    result = command(
        "export", trained, "--out", tmp_path / "b", "--name", "mine", "--dtype", "float32"
    )
    assert "no metrics" in result.stderr
    if kept is not None:
        report.write_text(kept)


def test_weights_of_patients_need_a_licence(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = json.loads((run / "provenance.json").read_text())
    record |= {"synthetic": False, "data": record["data"] | {"licences": ["CC BY-NC 4.0"]}}
    (run / "provenance.json").write_text(json.dumps(record))
    refused = command("export", run, "--out", tmp_path / "b", status=1)
    assert "CC BY-NC 4.0" in refused.stderr
    command("export", run, "--out", tmp_path / "b", "--licence", "CC BY-NC 4.0")


def test_a_sweep_fills_a_table_that_resumes(
    command: Command, tmp_path: Path, small: tuple[str, ...]
) -> None:
    out = tmp_path / "sweep"
    options = ("--preset", "tiny", "--accelerator", "cpu", "--out", out)
    settings = [s for s in small if not s.startswith("run.steps")]

    def swept(*values: str, status: int = 0) -> dict[str, dict[str, str]]:
        command("sweep", "codec", *settings, *values, *options, status=status)
        with (out / "sweep.csv").open() as file:
            return {row["losses.kl"]: row for row in csv.DictReader(file)}

    first = swept("run.steps=2", "losses.kl=0,1e-3")
    assert {row["state"] for row in first.values()} == {"done"}
    assert all(float(row["l1"]) > 0 for row in first.values())
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.pt")}
    # One value more: the two that are finished are not run again; the third cannot be trained.
    second = swept("run.steps=2", "losses.kl=0,1e-3,1e38", status=1)
    assert {k: second[k]["state"] for k in ("0", "0.001")} == {"0": "done", "0.001": "done"}
    assert second["0"]["l1"] == first["0"]["l1"]
    assert second["1e+38"]["state"] == "failed"
    assert "codec/" in second["1e+38"]["error"]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    ranked = json.loads((out / "sweep.json").read_text())
    assert ranked["monitor"] == "l1"


def test_an_ablation_changes_one_setting_at_a_time() -> None:
    from cxr3d_training.engine.sweep import one_at_a_time

    base = {"losses": {"a": 1.0, "b": 2.0}, "steps": 3}
    assert one_at_a_time(["losses.a=0", "losses.b+steps=0,3"], base) == [
        {"losses.a": 1.0, "losses.b": 2.0, "steps": 3},
        {"losses.a": 0, "losses.b": 2.0, "steps": 3},
        {"losses.a": 1.0, "losses.b": 0, "steps": 0},
        {"losses.a": 1.0, "losses.b": 3, "steps": 3},
    ]
    with pytest.raises(InvalidInputError, match=r"losses\.c"):
        one_at_a_time(["losses.c=0"], base)


def test_a_sweep_reads_lists_and_refuses_what_it_cannot_use(
    command: Command, tmp_path: Path
) -> None:
    from cxr3d_training.engine.sweep import grid

    assert grid(["a+b=1,2"]) == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]
    with pytest.raises(InvalidInputError, match="twice"):
        grid(["a+b=1", "b=2"])
    assert grid(["a=[1,2],[3,4]", "b=x"]) == [{"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": "x"}]
    options = ("--preset", "tiny", "--accelerator", "cpu", "--out", tmp_path / "sweep")
    assert "twice" in command("sweep", "codec", "a=1", "a=2", *options, status=2).stderr
    assert "losses.kl" in command("sweep", "codec", "losses.k=1,2", *options, status=1).stderr
