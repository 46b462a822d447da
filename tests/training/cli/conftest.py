"""The commands in this process, with a cache of phantoms of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from cxr3d_training.cli.app import app

# Coarse phantoms and a few steps: the path is what is tested, not the picture.
SMALL = (
    "data=phantom:5",
    "data_options.spacing_mm=8.0",
    "run.steps=6",
    "run.validate_every=3",
    "run.checkpoint_every=2",
    "run.image_every=0",
    "run.log_every=1",
    "scale_batches=1",
)

Command = Callable[..., Result]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small gain nothing from a second one, and lose much on a busy computer."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Phantoms are made once for all tests, and nobody's own cache is touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def command() -> Command:
    """``command("fit", "codec", ...)`` runs cxr3d-train; the exit status is asserted."""
    runner = CliRunner()

    def run(*arguments: object, status: int = 0) -> Result:
        result = runner.invoke(app, [str(a) for a in arguments])
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Settings of a training that takes seconds."""
    return SMALL


@pytest.fixture(scope="session")
def trained(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    out = tmp_path_factory.mktemp("runs") / "codec"
    result = command(
        "fit", "codec", "--preset", "tiny", *SMALL, "--accelerator", "cpu", "--out", out
    )
    assert result.stdout == f"{out}\n"
    return out
