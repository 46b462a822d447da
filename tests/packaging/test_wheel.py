"""What a user's `pip install` puts on the disk."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path, PurePosixPath

import pytest

QT_BINDINGS = ("pyqt5", "pyqt6", "pyside2", "pyside6")


def _read(wheel: zipfile.ZipFile, name: str) -> str:
    (member,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(member).decode()


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    (info,) = (name for name in top if name.endswith(".dist-info"))
    assert top == {"napari_cxr3d", "cxr3d_training", info}


@pytest.mark.parametrize(
    ("source", "package"), [("", "napari_cxr3d"), ("training", "cxr3d_training")]
)
def test_every_module_of_the_checkout_is_in_the_wheel(
    wheel: zipfile.ZipFile, repository: Path, source: str, package: str
) -> None:
    root = repository / source
    modules = {p.relative_to(root).as_posix() for p in (root / package).rglob("*.py")}
    assert modules
    assert modules <= set(wheel.namelist())


def test_the_wheel_carries_the_manifest_the_tables_and_the_type_marker(
    wheel: zipfile.ZipFile, repository: Path
) -> None:
    tables = (repository / "napari_cxr3d" / "xray" / "tables").iterdir()
    expected = {"napari_cxr3d/napari.yaml", "napari_cxr3d/py.typed"}
    expected |= {f"napari_cxr3d/xray/tables/{table.name}" for table in tables}
    assert expected <= set(wheel.namelist())


def test_every_preset_of_the_checkout_is_in_the_wheel(
    wheel: zipfile.ZipFile, repository: Path
) -> None:
    folder = repository / "training" / "configs"
    presets = {p.relative_to(folder).as_posix() for p in folder.rglob("*.yaml")}
    assert {"codec/tiny.yaml", "codec/demo.yaml", "codec/paper.yaml"} <= presets
    assert {f"cxr3d_training/configs/{name}" for name in presets} <= set(wheel.namelist())


def test_the_wheel_holds_code_small_tables_and_weights_only(wheel: zipfile.ZipFile) -> None:
    allowed = {".py", ".yaml", ".typed", ".csv", ".npz", ".json"}
    members = [m for m in wheel.infolist() if ".dist-info/" not in m.filename]
    weights = [m for m in members if m.filename.endswith(".safetensors")]
    others = [m for m in members if m not in weights]
    assert all(m.filename.startswith("napari_cxr3d/models/weights/") for m in weights)
    assert [m.filename for m in others if PurePosixPath(m.filename).suffix not in allowed] == []
    beside = [m for m in others if m.filename.startswith("napari_cxr3d/models/weights/")]
    assert max(m.file_size for m in others if m not in beside) < 500_000
    assert max(m.file_size for m in beside) < 1_000_000  # figures of every patient
    assert max(m.file_size for m in weights) <= 16 * 2**20
    assert sum(m.file_size for m in weights) <= 64 * 2**20


def test_every_bundled_model_is_in_the_wheel(wheel: zipfile.ZipFile, repository: Path) -> None:
    folder = repository / "napari_cxr3d" / "models" / "weights"
    files = {p.relative_to(repository).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name in ("reconstruct-demo", "xray2xray-demo", "xwin-demo"):
        assert f"napari_cxr3d/models/weights/{name}/weights.safetensors" in files
    assert files <= set(wheel.namelist())


def test_the_base_install_leaves_the_choice_of_qt_to_the_user(wheel: zipfile.ZipFile) -> None:
    requirements = email.message_from_string(_read(wheel, "METADATA")).get_all("Requires-Dist", [])
    base = [r.lower() for r in requirements if "extra ==" not in r]
    assert any(r.startswith("napari>=") for r in base)
    assert not any(binding in r for r in base for binding in (*QT_BINDINGS, "napari["))


def test_the_metadata_names_the_licence_and_the_framework(wheel: zipfile.ZipFile) -> None:
    metadata = email.message_from_string(_read(wheel, "METADATA"))
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert "BSD 3-Clause License" in _read(wheel, "licenses/LICENSE")


def test_the_entry_points_are_the_commands_and_the_manifest(wheel: zipfile.ZipFile) -> None:
    entries = ConfigParser()
    entries.read_string(_read(wheel, "entry_points.txt"))
    assert entries["console_scripts"]["cxr3d"] == "napari_cxr3d.cli:main"
    assert entries["console_scripts"]["cxr3d-train"] == "cxr3d_training.cli:main"
    assert entries["napari.manifest"]["napari-cxr3d"] == "napari_cxr3d:napari.yaml"


def test_an_installed_wheel_imports_and_npe2_finds_its_manifest(
    wheel_path: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel_path) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import napari_cxr3d, cxr3d_training\n"
        "from cxr3d_training.engine.settings import preset_names\n"
        "assert 'tiny' in preset_names('codec')\n"
        "from npe2 import PluginManifest\n"
        "manifest = PluginManifest.from_distribution('napari-cxr3d')\n"
        "print(napari_cxr3d.__file__, cxr3d_training.__file__, manifest.name, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    package, training, name = done.stdout.split("\n")[:3]
    assert Path(package).is_relative_to(tmp_path)
    assert Path(training).is_relative_to(tmp_path)
    assert name == "napari-cxr3d"
