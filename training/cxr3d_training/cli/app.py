"""The ``cxr3d-train`` command and its subcommands."""

from __future__ import annotations

from cxr3d_training.cli.evaluate import evaluate
from cxr3d_training.cli.export import export
from cxr3d_training.cli.fit import fit
from cxr3d_training.cli.prepare import prepare, verify
from cxr3d_training.cli.probe import probe
from cxr3d_training.cli.recipes import recipes
from cxr3d_training.cli.sweep import sweep
from napari_cxr3d.terminal.application import application

__all__ = ["app", "main"]

app = application(
    "cxr3d-train",
    "Train the models of napari-cxr3d: data, training, evaluation, bundles of weights.",
    (recipes, prepare, verify, fit, evaluate, probe, export, sweep),
)


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    app(prog_name="cxr3d-train")
