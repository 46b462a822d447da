"""Small CTs with a body and two lungs in them, quick to make and all different."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr3d_training.data import Cohort, cohort_of
from napari_cxr3d.imaging import Volume
from napari_cxr3d.io import write_volume

MakeVolume = Callable[..., Volume]


def small_chest(
    number: int = 0,
    *,
    shape: tuple[int, int, int] = (30, 28, 36),
    spacing_mm: tuple[float, float, float] = (10.0, 10.0, 10.0),
    noise: float = 10.0,
) -> Volume:
    """An elliptic body with two lungs, larger on the right; each number is another patient."""
    rng = np.random.default_rng(number)
    i, p, ell = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(p / 0.8) ** 2 + (ell / 0.85) ** 2 < 1] = 40.0
    for side, size in ((-0.38, 0.36), (0.42, 0.3)):
        hu[(i / 0.8) ** 2 + (p / 0.55) ** 2 + ((ell - side) / size) ** 2 < 1] = -850.0
    hu[((p - 0.5) / 0.12) ** 2 + (ell / 0.1) ** 2 < 1] = 500.0
    hu += rng.normal(0, noise, shape)
    hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return Volume(hu, spacing_mm, (-150.0 + number, -140.0, 200.0))


@pytest.fixture(scope="session")
def make_chest() -> MakeVolume:
    return small_chest


@pytest.fixture(scope="session")
def ten_patients() -> Cohort:
    """Ten volumes of ten patients; each one's label ``odd`` tells its number."""
    volumes = {f"c{k}": small_chest(k) for k in range(10)}
    return cohort_of(volumes, labels={f"c{k}": {"odd": k % 2 == 1} for k in range(10)})


@pytest.fixture(scope="session")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scans of seven patients on different grids, in subfolders and three formats."""
    root = tmp_path_factory.mktemp("scans")
    for k in range(7):
        suffix = (".nii.gz", ".nrrd", ".mha")[k % 3]
        folder = root / ("a" if k < 4 else "b")
        folder.mkdir(exist_ok=True)
        spacing = (10.0 + k % 3, 10.0, 9.0)
        write_volume(small_chest(k, spacing_mm=spacing), folder / f"scan{k}_s1{suffix}")
    write_volume(small_chest(20), root / "b" / "scan0_s2.nrrd")
    return root


class Command:
    """``cxr3d-train prepare`` or ``verify`` in a process of its own."""

    CODE = """
import typer
from napari_cxr3d.terminal.command import as_command
from cxr3d_training.cli.prepare import prepare, verify
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(as_command(prepare))
app.command()(as_command(verify))
if __name__ == "__main__":
    app()
"""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "train.py"
        self._script.write_text(self.CODE)

    def line(self, *arguments: object) -> list[str]:
        return [sys.executable, str(self._script), *map(str, arguments)]

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.line(*arguments), capture_output=True, text=True, check=False)

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.line(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("command"))
