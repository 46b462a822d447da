"""The promises of the repository's own pages."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml

import napari_cxr3d

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PATIENT_DATA = {".dcm", ".nii", ".gz", ".nrrd", ".mha", ".mhd", ".raw"}
# Folders of one machine, and files on it, never belong in a public page or program.
LOCAL = re.compile(r"(?<![\w.~/-])/(?:work|opt|root|home|Users)/\w|\bfile://")


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """Files that git tracks, or would if they were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nothing is tracked")
    paths = [repository / name for name in done.stdout.splitlines()]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    return dict(tomllib.loads((repository / "pyproject.toml").read_text())["project"])


def _pages(repository: Path) -> Iterator[Path]:
    yield from repository.glob("*.md")
    yield from (p for p in (repository / "docs").rglob("*.md") if "_build" not in p.parts)
    yield from (repository / "training").glob("*.md")


def test_the_make_commands_of_the_readme_exist(repository: Path) -> None:
    commands = set(re.findall(r"\bmake ([a-z-]+)", (repository / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= commands
    assert commands <= targets


def test_every_relative_link_of_the_pages_leads_to_a_file(repository: Path) -> None:
    broken = []
    for page in _pages(repository):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path = target.partition("#")[0]
            if "://" in target or target.startswith("mailto:") or not path:
                continue
            if not (page.parent / path).exists():
                broken.append(f"{page.relative_to(repository)} -> {target}")
    assert broken == []


def test_no_file_names_a_folder_of_one_machine(repository: Path, tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(repository)}: {m.group()}" for m in LOCAL.finditer(text)]
    assert [f for f in found if not f.startswith("tests/packaging/test_repository.py")] == []


def test_no_patient_image_is_tracked(repository: Path, tracked: list[Path]) -> None:
    images = [p for p in tracked if p.suffix.lower() in PATIENT_DATA]
    assert [p.relative_to(repository).as_posix() for p in images] == []


def test_constraints_hold_names_and_versions_only(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    odd = [p for p in pins if not re.fullmatch(r"[a-z0-9.-]+==[\w.+!]+( ; [^/@]+)?", p)]
    assert odd == []


def test_every_requirement_is_pinned_and_told(repository: Path, project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(r for extra in extras.values() for r in extra)]
    names = {re.split(r"[\[<>=; ]", r)[0].lower() for r in requirements} - {"napari-cxr3d"}
    pinned = (repository / "constraints.txt").read_text()
    page = (repository / "docs" / "dependencies.md").read_text().lower()
    assert [n for n in sorted(names) if f"\n{n}==" not in pinned] == []
    assert [n for n in sorted(names) if f"`{n}`" not in page] == []


def test_the_version_is_told_from_one_place(repository: Path, project: dict[str, Any]) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert napari_cxr3d.__version__ == project["version"]
    assert citation["version"] == project["version"]
    assert f"## {project['version']}" in (repository / "CHANGELOG.md").read_text()


def test_the_installed_requirements_are_those_of_the_checkout(project: dict[str, Any]) -> None:
    installed = [r for r in requires("napari-cxr3d") or [] if "extra ==" not in r]
    assert len(installed) == len(project["dependencies"])


def test_no_module_outgrows_500_lines(repository: Path) -> None:
    folders = ("napari_cxr3d", "training", "tests", "scripts", "benchmarks")
    files = [path for folder in folders for path in (repository / folder).rglob("*.py")]
    long = {p.relative_to(repository).as_posix() for p in files if p.read_text().count("\n") > 500}
    assert long == set()
