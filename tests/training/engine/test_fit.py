"""The loop: what a run does and leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.errors import DivergedError, TrainingError
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.hardware import Hardware
from cxr3d_training.engine.runlog import read_log
from cxr3d_training.engine.state import evaluation_networks
from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.progress import Progress

from .toys import ToyRecipe, fit_toy, toy, toy_cohort  # noqa: TID252  (tests is no package)


def last_state(out: Path) -> dict[str, Any]:
    return CheckpointFolder(out / "checkpoints").listing()[0].read()


def test_a_run_leaves_its_settings_curve_checkpoints_and_provenance(whole_run: Path) -> None:
    names = {path.name for path in whole_run.iterdir()}
    assert names == {"config.yaml", "log.jsonl", "tensorboard", "checkpoints", "provenance.json"}
    provenance = json.loads((whole_run / "provenance.json").read_text())
    assert provenance["seed"] == 0
    assert provenance["synthetic"] is True
    assert {"torch", "lightning-fabric", "napari-cxr3d"} <= provenance["versions"].keys()
    (session,) = provenance["sessions"]
    assert (session["from_step"], session["to_step"], session["reason"]) == (0, 24, "done")
    assert RunFolder(whole_run).read().recipe == "toy"


def test_the_loss_falls(whole_run: Path) -> None:
    curve = [
        line["mapper/distance"]
        for line in read_log(whole_run / "log.jsonl")
        if "mapper/distance" in line
    ]
    assert curve[-1] < 0.6 * curve[0]


def test_every_term_is_logged_from_the_step_that_switches_it_on(whole_run: Path) -> None:
    lines = [line for line in read_log(whole_run / "log.jsonl") if "mapper/total" in line]
    assert [line["step"] for line in lines] == list(range(2, 25, 2))
    assert all(("mapper/fool" in line) == (line["step"] > 6) for line in lines)
    assert all(("critic/tell_apart" in line) == (line["step"] > 6) for line in lines)
    assert lines[-1]["weight/fool"] == 0.1


def test_tensorboard_has_the_curve_and_the_pictures(whole_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(whole_run / "tensorboard"))
    board.Reload()
    assert [e.step for e in board.Scalars("mapper/distance")] == list(range(2, 25, 2))
    assert [e.step for e in board.Images("x")] == [12, 24]
    assert board.Scalars("speed/steps_per_second")


def test_one_seed_makes_one_curve_and_another_seed_another(whole_run: Path, tmp_path: Path) -> None:
    fit_toy(tmp_path / "same", "run.workers=3", "run.image_every=0", "run.keep_last=1")
    fit_toy(tmp_path / "other", "run.seed=1")
    curve = (whole_run / "log.jsonl").read_bytes()
    assert (tmp_path / "same" / "log.jsonl").read_bytes() == curve
    assert (tmp_path / "other" / "log.jsonl").read_bytes() != curve


def test_the_average_follows_its_network(tmp_path: Path) -> None:
    fit_toy(tmp_path, "run.steps=2", "momentum=0.75", "run.checkpoint_every=1")
    first, second = (
        c.read() for c in reversed(CheckpointFolder(tmp_path / "checkpoints").listing())
    )
    key = "inner.0.weight"
    expected = 0.75 * first["networks"]["mapper"][key] + 0.25 * second["networks"]["mapper"][key]
    torch.testing.assert_close(second["averages"]["mapper_average"][f"module.{key}"], expected)


def test_every_checkpoint_can_be_exported_as_it_is(whole_run: Path) -> None:
    # Also the best one, from the middle of a run: what an export needs was measured for it too.
    for checkpoint in CheckpointFolder(whole_run / "checkpoints").listing():
        state = checkpoint.read()
        assert state["averages"]["mapper_average"]["module.scale"] > 0.5


def test_what_a_checkpoint_measures_is_in_the_average_alone(whole_run: Path) -> None:
    state = last_state(whole_run)
    assert state["networks"]["mapper"]["scale"] == 0
    assert state["averages"]["mapper_average"]["module.scale"] > 0.5
    nets = evaluation_networks(toy(), state, torch.device("cpu"))
    assert set(nets) == {"mapper", "critic"}
    assert nets["mapper"].scale > 0.5
    torch.testing.assert_close(
        nets["mapper"].inner[0].weight,
        state["averages"]["mapper_average"]["module.inner.0.weight"],
    )


def test_accumulation_changes_the_memory_and_not_the_curve(tmp_path: Path) -> None:
    fit_toy(tmp_path / "whole", "noise=0")
    fit_toy(tmp_path / "parts", "noise=0", "run.accumulate=4")
    one, four = (read_log(tmp_path / name / "log.jsonl") for name in ("whole", "parts"))
    for a, b in zip(one, four, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_no_player_moves_what_belongs_to_another(tmp_path: Path) -> None:
    # The critic joins at step 6: until then its weights are those that it was made with.
    fit_toy(tmp_path, "run.steps=24", "run.checkpoint_every=1", "run.keep_last=30")
    states = {c.step: c.read() for c in CheckpointFolder(tmp_path / "checkpoints").listing()}
    critic = {step: s["networks"]["critic"]["0.weight"] for step, s in states.items()}
    assert torch.equal(critic[1], critic[6])
    assert not torch.equal(critic[6], critic[7])


def test_the_networks_of_the_others_are_frozen_while_one_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning: dict[str, set[str]] = {}
    whole = ToyRecipe.losses

    def watched(self: ToyRecipe, player: str, nets: Any, work: Any) -> Any:
        moved = {
            name for name, net in nets.items() if any(p.requires_grad for p in net.parameters())
        }
        learning.setdefault(player, set()).update(moved)
        return whole(self, player, nets, work)

    monkeypatch.setattr(ToyRecipe, "losses", watched)
    fit_toy(tmp_path)
    assert learning == {"mapper": {"mapper"}, "critic": {"critic"}}


def test_a_gradient_is_clipped_to_the_norm(tmp_path: Path) -> None:
    # With plain SGD a step is at most lr times the norm.
    fit_toy(
        tmp_path,
        "optimizers.mapper={lr: 1.0, kind: sgd, betas: [0.0, 0.0]}",
        "run.clip_norm=0.01",
        "run.steps=1",
        "losses.fool=0",
        "losses.tell_apart=0",
        "run.batch_size=4",
    )
    torch.manual_seed(0)
    moved = last_state(tmp_path)["networks"]["mapper"]
    assert read_log(tmp_path / "log.jsonl")[0]["mapper/gradient_norm"] > 0.1
    again = tmp_path / "unmoved"
    fit_toy(
        again,
        "optimizers.mapper={lr: 1.0e-9, kind: sgd, betas: [0.0, 0.0]}",
        "run.steps=1",
        "losses.fool=0",
        "losses.tell_apart=0",
        "run.batch_size=4",
    )
    before = last_state(again)["networks"]["mapper"]
    distance = sum(float((moved[k] - before[k]).square().sum()) for k in moved) ** 0.5
    assert distance == pytest.approx(0.01, rel=1e-3)


def test_a_term_of_weight_zero_is_not_computed(tmp_path: Path) -> None:
    fit_toy(tmp_path, "losses.fool=0", "losses.tell_apart=0", "run.steps=8")
    names = {key for line in read_log(tmp_path / "log.jsonl") for key in line}
    assert not {"mapper/fool", "critic/tell_apart", "critic/total", "critic/lr"} & names


def test_a_term_that_the_recipe_forgets_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ToyRecipe.losses
    monkeypatch.setattr(
        ToyRecipe,
        "losses",
        lambda self, player, nets, work: {
            k: v for k, v in whole(self, player, nets, work).items() if k != "fool"
        },
    )
    with pytest.raises(TrainingError, match="fool"):
        fit_toy(tmp_path)


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    fit_toy(tmp_path, "run.precision=bf16-mixed")
    curve = [
        line["mapper/distance"]
        for line in read_log(tmp_path / "log.jsonl")
        if "mapper/distance" in line
    ]
    assert curve[-1] < 0.7 * curve[0]


def test_a_loss_that_is_no_number_ends_the_run_and_spoils_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"mapper/(distance|fool) is (nan|inf)"):
        fit_toy(
            tmp_path,
            "optimizers.mapper={lr: 1.0e30, kind: sgd}",
            "run.clip_norm=null",
            "run.checkpoint_every=1",
            "run.log_every=24",
        )
    for checkpoint in CheckpointFolder(tmp_path / "checkpoints").listing():
        assert checkpoint.step < 24
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["sessions"][-1]["reason"] == "failed"


def test_validation_keeps_the_best_checkpoint(tmp_path: Path) -> None:
    fit_toy(tmp_path, "run.keep_last=1", "run.validate_every=4", "run.checkpoint_every=0")
    best = CheckpointFolder(tmp_path / "checkpoints").best
    assert best is not None
    figures = {
        line["step"]: line["validation/distance"]
        for line in read_log(tmp_path / "log.jsonl")
        if "validation/distance" in line
    }
    assert best.figure == min(figures.values())
    assert figures[best.step] == best.figure


def test_progress_counts_the_steps(tmp_path: Path) -> None:
    seen: list[Progress] = []
    fit_toy(tmp_path, "run.steps=5", progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(k, 5) for k in range(1, 6)]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ExportError, match="not empty"):
        fit_toy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="multiple"):
        fit_toy(tmp_path, "run.accumulate=3")


def test_devices_that_are_not_there_are_said(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(TrainingError, match="devices"):
        fit_toy(tmp_path, hardware=Hardware(accelerator="cuda"))


def test_a_recipe_refuses_losses_that_it_does_not_have() -> None:
    with pytest.raises(InvalidInputError, match=r"no setting 'losses\.kl'"):
        toy("losses.kl=1")


def test_the_data_has_one_hash() -> None:
    from cxr3d_training.engine.records import cohort_sha256

    assert cohort_sha256(toy_cohort(3)) == cohort_sha256(toy_cohort(3))
    assert cohort_sha256(toy_cohort(3)) != cohort_sha256(toy_cohort(6))
