"""Real processes: a bar on a terminal, plain text in a pipe, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

CXR3D = [sys.executable, "-m", "napari_cxr3d"]
ESCAPE = "\x1b"

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty module")


class Terminal:
    """A command whose stderr is a terminal; ended and closed with the block."""

    def __init__(self, *arguments: object) -> None:
        import pty

        self._terminal, other_end = pty.openpty()
        self.process = subprocess.Popen(
            [*CXR3D, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=other_end,
            text=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(other_end)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._terminal)

    def read(self, until: str | None = None, seconds: float = 120.0) -> str:
        """What the terminal shows, up to and including `until`, or to the command's end."""
        import select

        shown = ""
        end = time.monotonic() + seconds
        while (until is None or until not in shown) and time.monotonic() < end:
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    shown += os.read(self._terminal, 4096).decode(errors="replace")
                except OSError:  # the command closed its end
                    break
        return shown


def test_a_pipe_gets_paths_on_stdout_and_no_control_characters(ct_file, tmp_path):
    out = tmp_path / "view.png"
    result = subprocess.run(
        [*CXR3D, "drr", ct_file, "--size", "40", "--out", out],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0
    assert result.stdout == f"{out}\n"
    assert result.stderr.startswith("Note: ")
    assert not any(c < " " and c != "\n" for c in result.stdout + result.stderr)


@needs_pty
def test_a_terminal_gets_a_progress_bar(ct_file, tmp_path):
    with Terminal("drr", ct_file, "--size", "40", "--out", tmp_path / "view.npy") as terminal:
        shown = terminal.read()
        stdout, _ = terminal.process.communicate(timeout=120)
    assert terminal.process.returncode == 0
    assert "Reading" in shown
    assert ESCAPE in shown
    assert ESCAPE not in stdout


@needs_pty
def test_ctrl_c_ends_with_status_130_without_traceback_or_files(ct_file, tmp_path):
    views = ["--yaw", "0:359:0.1", "--size", "400", "--pixel-mm", "1", "--quality", "exact"]
    with Terminal("sweep", ct_file, *views, "--out", tmp_path / "sweep.npy") as terminal:
        shown = terminal.read("view")
        terminal.process.send_signal(signal.SIGINT)
        shown += terminal.read("Error: Cancelled.")
        terminal.process.wait(timeout=60)
    assert "Error: Cancelled." in shown
    assert terminal.process.returncode == 130
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())
