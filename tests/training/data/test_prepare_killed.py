"""A killed run loses nothing and doubles nothing: here, in processes, and on a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr3d_training.data.conditioning import Conditioning
from cxr3d_training.data.prepare import prepare
from cxr3d_training.data.runners import in_processes
from cxr3d_training.data.sources import CtSource
from cxr3d_training.data.store import case_ids
from cxr3d_training.data.tasks import CtTask
from cxr3d_training.data.verify import verify
from napari_cxr3d.imaging import Volume
from napari_cxr3d.io import write_volume
from napari_cxr3d.progress import CancelToken, Progress

COUNT = 12
OPTIONS = ("--public", "--spacing-mm", "3.5")
SETTINGS = Conditioning(spacing_mm=(3.5, 3.5, 3.5))


@pytest.fixture(scope="module")
def scans(make_chest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans that take some tenths of a second each."""
    root = tmp_path_factory.mktemp("many")
    for k in range(COUNT):
        small: Volume = make_chest(k)
        hu = np.kron(small.hu, np.ones((3, 4, 3), np.int16))
        write_volume(Volume(hu, (3.3, 2.5, 3.3), small.origin_lps), root / f"patient{k}.nrrd")
    return root


@pytest.fixture(scope="module")
def undisturbed(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The manifest of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    prepare(scans, out, settings=SETTINGS)
    return (out / "manifest.json").read_bytes()


def wait_for_cases(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(case_ids(out)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_stopped_again_and_again_ends_like_an_undisturbed_one(
    scans: Path, command, undisturbed: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "set"

    def line(workers: int) -> tuple[object, ...]:
        return ("prepare", scans, "--out", out, "--workers", workers, *OPTIONS)

    for workers, target, how, status in (
        (0, 2, signal.SIGKILL, -signal.SIGKILL),
        (2, 4, signal.SIGKILL, -signal.SIGKILL),
        (2, 7, signal.SIGINT, 130),
    ):
        process = command.start(*line(workers))
        wait_for_cases(out, target, process)
        process.send_signal(how)
        assert process.wait() == status
        assert not (out / "manifest.json").exists()
        assert target <= len(case_ids(out)) < COUNT
    kept = len(case_ids(out))
    done = command(*line(0))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "manifest.json")
    assert f"{COUNT - kept} cases made, {kept} were there already" in done.stderr
    assert (out / "manifest.json").read_bytes() == undisturbed
    assert len(case_ids(out)) == COUNT
    assert verify(out).faults == ()
    assert not list(out.glob(".work/*"))


def test_a_process_that_dies_costs_no_case(scans: Path, tmp_path: Path, undisturbed: bytes) -> None:
    """One of two worker processes is killed while the run goes on."""
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.message.startswith("case 3 ") and not killed:
            worker = multiprocessing.active_children()[0]
            os.kill(worker.pid or 0, signal.SIGKILL)
            killed.append(worker.pid or 0)

    out = tmp_path / "set"
    summary = prepare(scans, out, settings=SETTINGS, runner=in_processes(2), progress=kill_one)
    assert killed
    assert (summary.broken, sum(summary.cases.values())) == (0, COUNT)
    assert (out / "manifest.json").read_bytes() == undisturbed
    assert multiprocessing.active_children() == []


class DeadlyTask:
    """Takes down the process that receives it, as a fault in a decoder's C code does."""

    place = "deadly"

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (11,)


def test_a_source_that_kills_its_process_is_told_and_the_others_are_read(
    scans: Path, tmp_path: Path
) -> None:
    tasks: list[Any] = [
        CtTask(f"t{k}", CtSource(path, path.name, (path,)), SETTINGS)
        for k, path in enumerate(sorted(scans.iterdir())[:3])
    ]
    tasks.insert(1, DeadlyTask())
    outcomes = list(in_processes(2)(tasks, tmp_path, CancelToken()))
    told = {outcome.place: outcome.reason for outcome in outcomes}
    assert sorted(told) == ["deadly", "t0", "t1", "t2"]
    assert "killed" in told.pop("deadly")
    assert set(told.values()) == {""}
    assert len(case_ids(tmp_path)) == 3


CLUSTER = """
import json, os, signal, sys, time
from distributed import Client, LocalCluster

def pid(): return os.getpid()

if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
        worker_dashboard_address=None, host="127.0.0.1",
    )
    client = Client(cluster)
    print(json.dumps([cluster.scheduler_address, sorted(client.run(pid).values())]), flush=True)
    sys.stdin.read()
    client.close()
    cluster.close()
"""


def close(cluster: subprocess.Popen[str]) -> None:
    """End a cluster in order; by force, with all its processes, where that takes too long."""
    import psutil

    family = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children(recursive=True)]
    try:
        cluster.communicate("", timeout=20)
    except subprocess.TimeoutExpired:
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        cluster.communicate()


def test_a_cluster_that_loses_a_worker_half_way_loses_no_case(
    scans: Path, tmp_path: Path, command, undisturbed: bytes
) -> None:
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    cluster = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address, workers = json.loads(cluster.stdout.readline())
        assert len(workers) == 2
        out = tmp_path / "set"
        run = command.start("prepare", scans, "--out", out, "--scheduler", address, *OPTIONS)
        wait_for_cases(out, COUNT // 2, run)
        assert len(case_ids(out)) < COUNT
        os.kill(workers[0], signal.SIGKILL)
        assert run.wait() == 0
    finally:
        close(cluster)
    assert (out / "manifest.json").read_bytes() == undisturbed
    assert len(case_ids(out)) == COUNT
    assert verify(out).faults == ()


def test_a_scheduler_that_is_not_there_is_told(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from cxr3d_training.data.runners import on_cluster
from napari_cxr3d.progress import CancelToken
list(on_cluster("tcp://127.0.0.1:9", connect_s=1)([], Path("."), CancelToken()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "BackendUnavailableError: The scheduler at tcp://127.0.0.1:9 does not answer" in done.stderr
    )


def test_the_command_says_what_it_did(scans: Path, tmp_path: Path, command) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.nrrd").write_bytes(b"NRRD0004\n")
    failed = command("prepare", tmp_path / "in", "--out", tmp_path / "a", "--public")
    assert failed.returncode == 1
    assert "broken.nrrd" in failed.stderr
    assert "Nothing could be read" in failed.stderr
    usage = command("prepare", scans, "--out", tmp_path / "b", "--spacing-mm", "1,2")
    assert usage.returncode == 2
    assert "--spacing-mm" in usage.stderr
    assert not (tmp_path / "b").exists()
    missing = command("verify", tmp_path / "b")
    assert missing.returncode == 1
