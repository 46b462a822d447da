"""Several processes train what one would: real ones, over the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cxr3d_training.engine.checkpoints import CheckpointFolder
from cxr3d_training.engine.runlog import read_log

from .toys import fit_toy  # noqa: TID252  (tests is no package)

TOY = str(Path(__file__).with_name("toys.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "127.0.0.1:0"]
TOLERANCE = 1e-5  # float32 sums in another order


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, which sees the whole batch."""
    out = tmp_path_factory.mktemp("runs") / "one"
    fit_toy(out, "noise=0")
    return out


def assert_same_curve(one: Path, other: Path) -> None:
    for a, b in zip(read_log(one / "log.jsonl"), read_log(other / "log.jsonl"), strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE)


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = (CheckpointFolder(p / "checkpoints").listing()[0].read() for p in (one, other))
    for kind in ("networks", "averages", "optimizers"):
        torch.testing.assert_close(a[kind], b[kind], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_train_what_one_does(one_process: Path, tmp_path: Path) -> None:
    # Each has half of the batch of 8: its 4 samples are the ones that one process sees.
    ddp = start([TOY, str(tmp_path / "ddp"), "noise=0", "--devices", "2"])
    assert finish(ddp) == "done 24 1.0\n"
    assert_same_curve(one_process, tmp_path / "ddp")
    assert_same_weights(one_process, tmp_path / "ddp")


@pytest.mark.slow
def test_torchrun_shards_and_is_stopped_and_one_process_goes_on(
    one_process: Path, tmp_path: Path
) -> None:
    # Under fsdp each of torchrun's two processes holds a half of every weight, average and
    # moment; the signal reaches only the process that reports; the checkpoint is whole.
    out = tmp_path / "fsdp"
    arguments = [TOY, str(out), "noise=0", "--strategy", "fsdp", "--signal-at", "11"]
    assert finish(start([*TORCHRUN, *arguments])) == "terminated 11 0.5\n"
    told: list[str] = []
    fit_toy(out, "noise=0", resume=True, notify=told.append)
    assert any("2 processes and goes on on 1" in message for message in told)
    # The sums of the second process since the last line are lost with it.
    lines = [line for line in read_log(out / "log.jsonl") if line["step"] != 12]
    expected = [line for line in read_log(one_process / "log.jsonl") if line["step"] != 12]
    for a, b in zip(expected, lines, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE)
    assert_same_weights(one_process, out)
