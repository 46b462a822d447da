"""One uninterrupted run, which many tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .toys import fit_toy  # noqa: TID252  (tests is no package)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """The toys are too small for more, and the processes beside them have one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit_toy(out)
    return out
