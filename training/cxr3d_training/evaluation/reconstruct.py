"""How well X-rays are turned into volumes, beside baselines and another model, with targets.

`evaluate_reconstruction` measures every method of a `Plan` on held-out patients: the main table on
all of them, and on the first few the dear ones: many steps, many samples, a thousand steps of
X-ray2CTPA. The X-rays are rendered from the very volumes that are looked for, with the projector
that the data step works with (the "inverse crime"): the tables say how much of the patient is
settled by exact X-rays, and the table of realistic pictures what is lost with real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cxr3d_training.data import CohortCase
from cxr3d_training.evaluation.reconstruct_figures import (
    UNCERTAINTY,
    figures,
    spread_of,
    uncertainty_figures,
)
from cxr3d_training.evaluation.reconstruct_methods import (
    MeanVolume,
    Method,
)
from cxr3d_training.evaluation.reconstruct_network import Network, Shared
from cxr3d_training.evaluation.reconstruct_report import ReconstructionReport
from cxr3d_training.evaluation.reconstruct_scenes import Scene, Stage
from cxr3d_training.evaluation.reconstruct_store import Store
from cxr3d_training.evaluation.reconstruct_tables import Plan, Table, named, tables_of
from cxr3d_training.evaluation.reconstruct_targets import targets
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import Metric, Report, Row
from napari_cxr3d.metrics.uncertainty import fit_scale
from napari_cxr3d.models.reconstruction import ReconstructionModel
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["Plan", "evaluate_reconstruction"]

_CODE = (
    "cxr3d_training.evaluation.reconstruct_figures",
    "cxr3d_training.evaluation.reconstruct_methods",
    "cxr3d_training.evaluation.reconstruct_network",
    "cxr3d_training.evaluation.reconstruct_scenes",
    "napari_cxr3d.inference.consistency",
    "napari_cxr3d.inference.sampler",
    "napari_cxr3d.metrics.projection",
    "napari_cxr3d.metrics.uncertainty",
    "napari_cxr3d.models.diffusion",
    "napari_cxr3d.xray.conjugate_gradients",
)
"""Modules that figures depend on: what was measured by other code is measured again."""


def evaluate_reconstruction(
    model: ReconstructionModel,
    cases: Sequence[CohortCase],
    *,
    train_cases: Sequence[CohortCase],
    validation_cases: Sequence[CohortCase] = (),
    device: torch.device,
    peers: Mapping[str, ReconstructionModel] | None = None,
    plan: Plan | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ReconstructionReport:
    """All tables of a plan.

    Parameters
    ----------
    model : ReconstructionModel
        The one that is evaluated; its window sets the data range of all figures.
    cases : sequence of CohortCase
        Held-out ones, of the model's spacing.
    train_cases : sequence of CohortCase
        Those whose mean is a baseline.
    validation_cases : sequence of CohortCase
        Those on which the spread of samples is calibrated; without any it is not.
    device : torch.device
        Where the networks work.
    peers : mapping of str to ReconstructionModel, optional
        Other models by name, on the same grid; they are shown the frontal view.
    plan : Plan, optional
        What is measured.
    progress, cancel : optional
        Told of every case; looked at within every method.

    Returns
    -------
    ReconstructionReport
        The first method is the model with its default steps, one exact view, and the data step.

    Raises
    ------
    InvalidInputError
        If there is no case, or a model or case is not of the grid.
    Cancelled
        If the token was cancelled; what was measured is kept where the plan says so.
    """
    plan = plan or Plan()
    if not len(cases) or not len(train_cases):
        raise InvalidInputError(
            "A reconstruction is evaluated on cases, beside the mean of training cases",
            why=f"there are {len(cases)} and {len(train_cases)}",
            remedy="name data with more patients by --data, or another --split",
        )
    for name, peer in (peers or {}).items():
        if (peer.volume_shape, peer.spacing_mm) != (model.volume_shape, model.spacing_mm):
            raise InvalidInputError(
                f"{name} reconstructs on another grid",
                why=f"{peer.volume_shape} voxels of {peer.spacing_mm} mm, and the model "
                f"{model.volume_shape} of {model.spacing_mm} mm",
            )
    for network in (model, *(peers or {}).values()):
        network.to(device).eval()
    work = _Work(model, cases, validation_cases, plan, progress, cancel or CancelToken())
    tables = tables_of(
        model, peers or {}, MeanVolume(work.mean_of(train_cases)), plan,
        cases=len(cases), coarse_stage=work.has_coarse(device), shared=work.shared,
    )  # fmt: skip
    reports = work.measure(tables)
    main = reports.pop("main")
    return ReconstructionReport(
        "X-ray to CT on held-out patients",
        main.rows,
        parts=reports,
        targets=targets(main, reports, named(model, peers or {}, plan)),
        uncertainty=work.calibration,
    )


class _Work:
    """Scenes, figures that are there already, and how far the whole has come."""

    def __init__(
        self,
        model: ReconstructionModel,
        cases: Sequence[CohortCase],
        validation: Sequence[CohortCase],
        plan: Plan,
        progress: ProgressCallback | None,
        cancel: CancelToken,
    ) -> None:
        self.plan, self.window, self.model = plan, model.window, model
        self.stage = Stage.of(model, plan.field_mm)
        self.calibration: dict[str, Any] = {}
        self.shared = Shared()
        self._cases, self._validation = cases, validation[: plan.calibration_cases]
        self._scenes: dict[int, Scene] = {}
        self._store = Store(plan.keep)
        self._code = _code()
        self._progress, self._cancel = progress, cancel
        self._done = self._total = 0

    def scene(self, index: int) -> Scene:
        """A held-out case on the stage; kept, for many methods see it."""
        if index not in self._scenes:
            self._scenes[index] = self.stage.scene(self._cases[index])
        return self._scenes[index]

    def has_coarse(self, device: torch.device) -> bool:
        """Whether the model's one pass gives a volume."""
        with torch.no_grad():
            return self.model.condition(self.scene(0).shown(1).to(device)).coarse is not None

    def mean_of(self, cases: Sequence[CohortCase]) -> npt.NDArray[np.float32]:
        """Mean of the volumes on the stage, within the window."""
        total = np.zeros(self.stage.volume_shape, np.float64)
        for done, case in enumerate(cases):
            self._cancel.raise_if_cancelled()
            total += np.clip(self.stage.scene(case).truth.hu, *self.window.limits)
            if self._progress is not None:
                told = f"mean of the training volumes, {done + 1} of {len(cases)}"
                self._progress(Progress(0, 0, told))
        return (total / len(cases)).astype(np.float32)

    def measure(self, tables: Mapping[str, Table]) -> dict[str, Report]:
        """Every method on as many cases as any table asks for, then the tables."""
        methods: dict[str, Method] = {}
        counts: dict[str, int] = {}
        for table in tables.values():
            methods |= table.methods
            for name in table.methods:
                counts[name] = max(counts.get(name, 0), min(table.cases, len(self._cases)))
        measured = self._measured(methods, counts)
        reports = {}
        for key, table in tables.items():
            count = min(table.cases, len(self._cases))
            rows = [
                Row(scene.case, scene.patient, name, _chosen(measured[name][k], table.uncertainty))
                for name in table.methods
                for k, scene in enumerate(self.scene(k) for k in range(count))
            ]
            title = table.title
            if key != "main":
                title += f": the first {count} cases" if count < len(self._cases) else ": all cases"
            reports[key] = Report(title, tuple(rows))
        return reports

    def _measured(
        self, methods: Mapping[str, Method], counts: Mapping[str, int]
    ) -> dict[str, list[tuple[Metric, ...]]]:
        """Figures by method and case: a few cases by all methods, then the next few."""
        self._total = sum(counts.values())
        common = {"code": self._code, "field_mm": self.plan.field_mm, "batch": self.plan.batch,
                  "window": self.window.to_dict()}  # fmt: skip
        depends: dict[str, dict[str, Any]] = {}
        scales: dict[str, float | None] = {}
        for name, method in methods.items():
            depends[name] = {**method.identity(), **common}
            scales[name] = None
            if isinstance(method, Network) and method.samples > 1:
                scales[name] = self._scale(name, method, depends[name])
                depends[name]["scale"] = scales[name]
        found: dict[str, list[tuple[Metric, ...]]] = {name: [] for name in methods}
        for start in range(0, max(counts.values()), self.plan.batch):
            self.shared.clear()
            for name, method in methods.items():
                indices = range(start, min(start + self.plan.batch, counts[name]))
                kept = {k: self._store.get(name, depends[name], self._key(k)) for k in indices}
                missing = [k for k, metrics in kept.items() if metrics is None]
                scenes = [self.scene(k) for k in missing]
                estimates = method(scenes, self._cancel) if scenes else []
                for k, scene, estimate in zip(missing, scenes, estimates, strict=True):
                    metrics = figures(estimate, scene, self.window, method.given(self.stage))
                    if estimate.samples is not None:
                        metrics += uncertainty_figures(estimate, scene, self.window, scales[name])
                    kept[k] = metrics
                    self._store.put(name, depends[name], self._key(k), metrics)
                found[name] += [metrics for metrics in kept.values() if metrics is not None]
                self._tell(name, len(indices))
        return found

    def _scale(self, name: str, method: Network, depends: Mapping[str, Any]) -> float | None:
        """The factor of the spread, fitted on the validation cases."""
        if not len(self._validation):
            return None
        scenes = [self.stage.scene(case) for case in self._validation]
        key = sha256("".join(scene.sha256 for scene in scenes).encode()).hexdigest()
        told = f"{name}, calibration"
        kept = self._store.get(told, depends, key)
        if kept is None:
            drawn = []
            for scene in scenes:
                self.shared.clear()
                (estimate,) = method([scene], self._cancel)
                _, mean, spread, truth = spread_of(estimate, scene, self.window)
                drawn.append((mean, spread, truth, scene.body))
            kept = (Metric("scale", fit_scale(drawn), "factor of the standard deviation"),)
            self._store.put(told, depends, key, kept)
        scale = kept[0].value
        self.calibration = self.calibration or {
            "scale": scale,
            "method": name,
            "fitted_on": f"{len(scenes)} validation cases",
            "samples": method.samples,
            "steps": method.steps,
            "consistency": method.consistency,
            "covers": "2 standard deviations cover 95.45 % of the body's voxels there",
        }
        return scale

    def _key(self, index: int) -> str:
        scene = self.scene(index)
        return f"{scene.case} {scene.sha256}"

    def _tell(self, name: str, cases: int) -> None:
        self._done += cases
        if self._progress is not None and cases:
            self._progress(Progress(self._done, self._total, name))


def _chosen(metrics: tuple[Metric, ...], uncertainty: bool) -> tuple[Metric, ...]:
    """The figures of the uncertainty, or all others."""
    return tuple(m for m in metrics if (m.name in UNCERTAINTY) == uncertainty)


def _code() -> str:
    """Hash of the code that makes the figures."""
    digest = sha256()
    for name in _CODE:
        found = find_spec(name)
        if found is not None and found.origin is not None:
            digest.update(Path(found.origin).read_bytes())
    return digest.hexdigest()[:16]
