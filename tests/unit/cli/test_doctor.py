"""The doctor survives what it finds, and its exit status tells whether basic use works."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_cxr3d.cli import checks
from napari_cxr3d.cli.app import app
from napari_cxr3d.cli.checks import Finding
from napari_cxr3d.cli.probes import ProbeResult


@pytest.fixture
def sections(monkeypatch):
    """Replace the doctor's sections by canned findings."""

    def replace(**findings: list[Finding]) -> None:
        canned = {title: (lambda found=found: found) for title, found in findings.items()}
        monkeypatch.setattr("napari_cxr3d.cli.doctor.SECTIONS", canned)

    return replace


def _doctor(*arguments: str):
    return CliRunner().invoke(app, ["doctor", *arguments])


def _uninstall(monkeypatch, *names: str) -> None:
    real = checks.version

    def version(name: str) -> str:
        if name in names:
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(checks, "version", version)


def test_status_is_0_while_only_parts_are_limited(sections):
    sections(Desktop=[Finding("display", "limited", "none", "log in")])
    result = _doctor()
    assert result.exit_code == 0
    assert "-> log in" in result.stdout


def test_status_is_1_when_something_basic_is_missing(sections):
    sections(Versions=[Finding("numba", "missing", "not installed", "pip install numba")])
    result = _doctor()
    assert result.exit_code == 1
    assert "-> pip install numba" in result.stdout


def test_json_holds_every_finding(sections):
    sections(A=[Finding("x", "ok", "1")], B=[Finding("y", "limited", "2", "mend")])
    report = json.loads(_doctor("--json").stdout)
    assert report["ok"] is True
    assert report["sections"]["B"] == [
        {"name": "y", "state": "limited", "detail": "2", "remedy": "mend"}
    ]


def test_a_missing_library_names_the_command_that_installs_it(monkeypatch):
    _uninstall(monkeypatch, "SimpleITK", "diffdrr")
    found = {f.name: f for f in checks.versions()}
    assert found["SimpleITK"].state == "missing"
    assert found["SimpleITK"].remedy == "python -m pip install SimpleITK"
    assert found["diffdrr"].state == "limited"
    assert found["numpy"].state == "ok"


@pytest.mark.parametrize(
    "check", [checks.torch_and_gpu, checks.dicom_codecs, checks.computing, checks.display]
)
def test_a_crashing_library_becomes_a_finding_with_a_remedy(check, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(
        checks, "run_probe", lambda *_, **__: ProbeResult(failure="the process crashed (SIGSEGV)")
    )
    troubled = [f for f in check() if f.state != "ok"]
    assert any("SIGSEGV" in f.detail and f.remedy for f in troubled)


def test_software_opengl_is_named_and_limits(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    values = {
        "qt": "PyQt6 6.8.0",
        "platform": "xcb",
        "renderer": "llvmpipe (LLVM 15, 256 bits)",
        "version": "4.5",
        "max_3d_texture": 2048,
        "software": True,
    }
    monkeypatch.setattr(checks, "run_probe", lambda *_, **__: ProbeResult(values))
    opengl = {f.name: f for f in checks.display()}["OpenGL"]
    assert opengl.state == "limited"
    assert "llvmpipe" in opengl.detail


@pytest.mark.skipif(checks.sys.platform != "linux", reason="other systems always have a screen")
def test_a_server_without_screen_is_told_that_the_command_line_works(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    (finding,) = checks.display()
    assert finding.state == "limited"
    assert "command line works" in finding.detail


def test_a_syntax_without_decoder_names_the_packages(monkeypatch):
    values = {"RLELossless": ["pydicom"], "HTJ2K": []}
    monkeypatch.setattr(checks, "run_probe", lambda *_, **__: ProbeResult(values))
    found = {f.name: f for f in checks.dicom_codecs()}
    assert found["RLELossless"].state == "ok"
    assert found["HTJ2K"].state == "limited"
    assert "pylibjpeg" in found["HTJ2K"].remedy


def test_little_free_memory_is_told(monkeypatch):
    import psutil

    class Memory:
        available, total = 2**30, 8 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    monkeypatch.setattr(checks, "run_probe", lambda *_, **__: ProbeResult({"cache": "x"}))
    memory = {f.name: f for f in checks.computing()}["memory"]
    assert (memory.state, memory.detail) == ("limited", "1.0 of 8.0 GiB free")


def test_folders_do_not_tell_the_users_name():
    shown = [f.detail for f in checks.folders()]
    assert shown
    assert not any(str(Path.home()) in detail for detail in shown)


def test_the_real_codec_probe_finds_the_uncompressed_syntax():
    found = {f.name: f for f in checks.dicom_codecs()}
    assert found["ExplicitVRLittleEndian"].state == "ok"
