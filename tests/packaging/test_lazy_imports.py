"""napari starts fast: the heavy libraries load when work starts, not when we are imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "monai", "diffdrr", "nanodrr", "SimpleITK", "numba")
GUI = ("qtpy", "PyQt6", "PySide6", "vispy", "magicgui", "superqt")
HEADLESS = (
    "napari_cxr3d",
    "napari_cxr3d.imaging",
    "napari_cxr3d.io",
    "napari_cxr3d.xray",
    "napari_cxr3d.phantom",
    "napari_cxr3d.models",
    "napari_cxr3d.models.codecs",
    "napari_cxr3d.metrics",
    "napari_cxr3d.inference",
    "napari_cxr3d.inference.reconstruct",
    "napari_cxr3d.inference.reconstruct_report",
    "napari_cxr3d.inference.reconstruct_types",
    "napari_cxr3d.inference.world_model_tasks",
    "napari_cxr3d.inference.xray_input",
    "napari_cxr3d.readers",
    "napari_cxr3d.writers",
    "napari_cxr3d.sample_data",
    "napari_cxr3d.cli",
    "cxr3d_training",
    "cxr3d_training.engine",
    "cxr3d_training.losses",
    "cxr3d_training.evaluation",
    "cxr3d_training.recipes",
    "cxr3d_training.cli",
)
PANELS = (
    "napari_cxr3d.widgets.study",
    "napari_cxr3d.widgets.xray",
    "napari_cxr3d.widgets.reconstruct",
    "napari_cxr3d.widgets.world_model",
)

# In a fresh interpreter, one after the other: which watched libraries are loaded by then.
SCRIPT = """
import importlib, json, sys
entry_points, watched = json.loads(sys.argv[1])
found = {}
for name in entry_points:
    importlib.import_module(name)
    found[name] = sorted(set(watched).intersection(sys.modules))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Watched libraries that are loaded after the import of each entry point."""
    arguments = json.dumps([[*HEADLESS, *PANELS], [*HEAVY, *GUI]])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("entry_point", [*HEADLESS, *PANELS])
def test_importing_an_entry_point_loads_no_heavy_library(
    entry_point: str, loaded: dict[str, list[str]]
) -> None:
    assert [name for name in loaded[entry_point] if name in HEAVY] == []


@pytest.mark.parametrize("entry_point", HEADLESS)
def test_a_headless_entry_point_loads_no_gui_library(
    entry_point: str, loaded: dict[str, list[str]]
) -> None:
    assert [name for name in loaded[entry_point] if name in GUI] == []


def test_the_panels_are_what_loads_qt(loaded: dict[str, list[str]]) -> None:
    assert "qtpy" in loaded[PANELS[0]]
