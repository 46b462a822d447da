"""A killed run loses nothing and doubles nothing: here, in processes, and on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cxr3d_training.data.store import case_ids
from cxr3d_training.data.verify import verify
from napari_cxr3d.imaging import Volume
from napari_cxr3d.io import write_volume

COUNT = 12
OPTIONS = ("--public", "--spacing", "3.5")


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
def undisturbed(scans: Path, command, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The manifest of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    done = command("prepare", scans, "--out", out, "--workers", "0", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "manifest.json")
    return (out / "manifest.json").read_bytes()


def wait_for_cases(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(case_ids(out)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


KILL, CTRL_C = signal.SIGKILL, signal.SIGINT


@pytest.mark.parametrize(
    ("workers", "stops"), [("0", [(4, KILL)]), ("2", [(2, KILL), (6, CTRL_C)])]
)
def test_a_run_stopped_again_and_again_ends_like_an_undisturbed_one(
    scans: Path,
    command,
    undisturbed: bytes,
    tmp_path: Path,
    workers: str,
    stops: list[tuple[int, signal.Signals]],
) -> None:
    out = tmp_path / "set"
    line = ("prepare", scans, "--out", out, "--workers", workers, *OPTIONS)
    for target, how in stops:
        process = command.start(*line)
        wait_for_cases(out, target, process)
        process.send_signal(how)
        assert process.wait() == (130 if how == CTRL_C else -signal.SIGKILL)
        assert not (out / "manifest.json").exists()
    kept = len(case_ids(out))
    assert stops[-1][0] <= kept < COUNT
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert f"{COUNT - kept} cases made, {kept} were there already" in done.stderr
    assert (out / "manifest.json").read_bytes() == undisturbed
    assert len(case_ids(out)) == COUNT
    assert verify(out).faults == ()
    assert not list(out.glob(".work/*"))


def test_a_process_that_dies_costs_its_case_and_no_other(
    scans: Path, tmp_path: Path, command, undisturbed: bytes
) -> None:
    """One worker process is killed while the run goes on: its cases are done again."""
    out = tmp_path / "set"
    run = command.start("prepare", scans, "--out", out, "--workers", "2", *OPTIONS)
    wait_for_cases(out, 3, run)
    os.kill(a_worker_of(run.pid), signal.SIGKILL)
    assert run.wait() == 0
    assert (out / "manifest.json").read_bytes() == undisturbed


def a_worker_of(parent: int) -> int:
    import psutil

    for child in psutil.Process(parent).children():
        if "spawn_main" in " ".join(child.cmdline()):
            return child.pid
    raise AssertionError("the run has no worker process")


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
    found = []
    while len(found) < 2:  # the scheduler may still believe in the dead one
        time.sleep(0.1)
        try:
            found = sorted(client.run(pid).values())
        except OSError:
            continue
    print(json.dumps(found), flush=True)
    client.close()
    cluster.close()
"""


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
        after, _ = cluster.communicate("", timeout=60)
        assert workers[0] not in json.loads(after)  # it was dead, and another took its place
    finally:
        cluster.kill()
        cluster.communicate()
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
    usage = command("prepare", scans, "--out", tmp_path / "b", "--spacing", "1,2")
    assert usage.returncode == 2
    assert "--spacing" in usage.stderr
    assert not (tmp_path / "b").exists()
    missing = command("verify", tmp_path / "b")
    assert missing.returncode == 1
