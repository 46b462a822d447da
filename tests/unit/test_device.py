"""Device discovery: what is listed, what auto takes, and what is said of the absent."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from napari_cxr3d.device import Device, devices, resolve_device
from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError

GIB = 2**30


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer with two CUDA devices, the second with more free memory."""
    memory = {0: (4 * GIB, 24 * GIB), 1: (20 * GIB, 24 * GIB)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU model {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_is_always_listed_first() -> None:
    assert devices()[0].name == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_listed_with_name_and_free_memory() -> None:
    assert [str(device) for device in devices()[1:]] == [
        "cuda:0 (GPU model 0, 4.0 of 24.0 GiB free)",
        "cuda:1 (GPU model 1, 20.0 of 24.0 GiB free)",
    ]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("wanted", "resolved"),
    [("auto", "cuda:1"), (None, "cuda:1"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu",) * 2],
)
def test_auto_takes_the_gpu_with_most_free_memory(wanted: str | None, resolved: str) -> None:
    assert resolve_device(wanted) == resolved


@pytest.mark.usefixtures("no_gpu")
def test_auto_falls_back_to_the_cpu() -> None:
    assert resolve_device("auto") == "cpu"


def test_auto_takes_the_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device(None) == "mps"
    assert devices()[1] == Device("mps", "Apple GPU")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_device_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(BackendUnavailableError, match="Choose one of cpu") as refusal:
        resolve_device(name)
    assert repr(name) in str(refusal.value)


@pytest.mark.usefixtures("two_gpus")
def test_gpu_number_beyond_the_last_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="torch sees 2 CUDA device"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", ""])
def test_name_that_torch_does_not_spell_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="There is no device called"):
        resolve_device(name)


def test_missing_torch_is_said_with_the_remedy() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from napari_cxr3d.device import devices\n"
        "from napari_cxr3d.errors import BackendUnavailableError\n"
        "try: devices()\n"
        "except BackendUnavailableError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "Type pip install torch" in done.stdout


def test_importing_the_module_leaves_torch_alone() -> None:
    script = "import sys, napari_cxr3d.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
