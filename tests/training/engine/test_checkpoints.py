"""Checkpoints: whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.errors import CheckpointError


def saved(folder: Path, figures: list[float | None], **options: object) -> CheckpointFolder:
    store = CheckpointFolder(folder, **options)  # type: ignore[arg-type]
    for step, figure in enumerate(figures, 1):
        store.save({"step": step, "x": torch.full((50,), float(step))}, step=step, figure=figure)
    return store


def flip_a_bit(path: Path) -> None:
    """Damage the tensor's values, where no parser of the file would notice."""
    content = bytearray(path.read_bytes())
    content[content.find(torch.full((2,), 4.0).numpy().tobytes()) + 1] ^= 1
    path.write_bytes(content)


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    store = saved(tmp_path, [3.0, 1.0, 2.0, None, 4.0], keep_last=2)
    assert [c.step for c in store.listing()] == [5, 4, 2]
    best = store.best
    assert best is not None
    assert best.step == 2
    assert store.improves(0.5)
    assert not store.improves(1.5)
    higher = CheckpointFolder(tmp_path, higher_is_better=True)
    assert higher.best is not None
    assert higher.best.step == 5


def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path: Path) -> None:
    store = saved(tmp_path, [None] * 4)
    flip_a_bit(tmp_path / "step-00000004.pt")
    told: list[str] = []
    found = store.newest(told.append)
    assert found is not None
    checkpoint, state = found
    assert checkpoint.step == state["step"] == 3
    assert len(told) == 1
    assert "step-00000004.pt" in told[0]
    assert "damaged" in told[0]


@pytest.mark.parametrize("damage", ["cut", "empty", "no record", "bad record", "other"])
def test_every_kind_of_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    store = saved(tmp_path, [None, None])
    path = tmp_path / "step-00000002.pt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    elif damage == "bad record":
        path.with_suffix(".json").write_text("{")
    else:
        path.write_bytes((tmp_path / "step-00000001.pt").read_bytes())
    found = store.newest(lambda message: None)
    assert found is not None
    assert found[0].step == 1


def test_when_all_are_damaged_that_is_an_error(tmp_path: Path) -> None:
    store = saved(tmp_path, [None])
    (tmp_path / "step-00000001.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="whole"):
        store.newest(lambda message: None)


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    store = CheckpointFolder(tmp_path / "absent")
    assert store.newest(lambda message: None) is None
    assert store.best is None


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    store = saved(tmp_path, [None])
    (checkpoint,) = store.listing()
    torch.save({"evil": Path}, checkpoint.path)
    record = json.loads(checkpoint.path.with_suffix(".json").read_text())
    content = checkpoint.path.read_bytes()
    import hashlib

    record |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    checkpoint.path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"[Ww]eights"):
        store.listing()[0].read()


def test_a_failed_save_leaves_the_old_ones_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = saved(tmp_path, [None, None])
    before = sorted(p.name for p in tmp_path.iterdir())

    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        store.save({}, step=3, figure=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    store = saved(tmp_path, [None] * 3)
    (tmp_path / ".0123456789ab.part").write_bytes(b"half")
    store.drop_after(2)
    assert [c.step for c in store.listing()] == [2, 1]
    assert not list(tmp_path.glob(".*"))
