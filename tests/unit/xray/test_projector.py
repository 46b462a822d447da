"""The choice of a projector, and what every projector promises."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import napari_cxr3d.xray
from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError
from napari_cxr3d.xray import Projector, available_backends, projector

MODULE = sys.modules["napari_cxr3d.xray.projector"]  # the package's name is the function's


def test_the_package_offers_the_function_not_the_module() -> None:
    importlib.import_module("napari_cxr3d.xray.projector")
    assert napari_cxr3d.xray.projector is projector


def test_a_cpu_projector_is_a_projector() -> None:
    ours = projector("cpu", "exact", energy_kev=60.0)
    assert isinstance(ours, Projector)
    assert (ours.name, ours.quality, ours.energy_kev) == ("cpu", "exact", 60.0)


def test_an_unknown_backend_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="auto, cpu, nanodrr, diffdrr"):
        projector("gpu")


def test_an_unknown_quality_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="full, exact, preview"):
        projector("cpu", "best")


def test_an_energy_off_the_tables_is_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match="keV"):
        projector("cpu", energy_kev=5.0)


def test_a_missing_backend_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "find_spec", lambda name: None)
    assert "pip install nanodrr" in available_backends()["nanodrr"]
    with pytest.raises(BackendUnavailableError, match="pip install diffdrr"):
        projector("diffdrr")


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_has_accelerator", lambda: False)
    assert projector("auto").name == "cpu"


def test_choosing_loads_no_heavy_library() -> None:
    code = (
        "import sys, napari_cxr3d.xray as x; x.available_backends(); "
        "print(sorted({'numba', 'torch', 'diffdrr', 'nanodrr', 'scipy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
