"""How well a world model of the chest X-ray predicts, beside copying, means and other models.

`evaluate_world_model` measures a model on held-out patients. The X-ray is given as an exact DRR
and as a realistic picture; what would be seen from elsewhere is compared with the true projections
of the same volume. Landmarks are looked for by the functions that the program itself uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxr3d_training.data import CohortCase
from cxr3d_training.data.radiographs import RadiographCase
from cxr3d_training.evaluation.reconstruct_store import network_sha256
from cxr3d_training.evaluation.world_model_domains import domain_rows
from cxr3d_training.evaluation.world_model_landmarks import (
    Landmarks,
    Lens,
    RawLens,
    TokenLens,
    common_landmarks,
    landmark_rows,
    self_match_rows,
    tracking_rows,
)
from cxr3d_training.evaluation.world_model_plan import TABLES, WorldModelPlan
from cxr3d_training.evaluation.world_model_predictions import (
    Drawer,
    measure_predictions,
    method_name,
    retrieval_rows,
)
from cxr3d_training.evaluation.world_model_report import WorldModelReport, targets
from cxr3d_training.evaluation.world_model_scenes import CONTEXTS, OrbitScene, OrbitStage
from cxr3d_training.evaluation.world_model_store import Rows, TableStore
from cxr3d_training.evaluation.world_model_volumes import Reconstructor, volume_rows
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import Report, Row
from napari_cxr3d.models.orbit_model import OrbitModel
from napari_cxr3d.models.reconstruction import ReconstructionModel
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["TABLES", "WorldModelPlan", "evaluate_world_model"]

RAW = "raw patches"

_TITLES = {
    "latents": "World model on held-out patients: error of predicted tokens",
    "retrieval": "Whether a prediction is nearest to what it predicts",
    "views": "Rendered views",
    "landmarks": "Landmarks clicked on another patient's picture",
    "landmark_each": "Each landmark",
    "self_match": "A click on its own picture",
    "tracking": "Landmarks of the frontal DRR on the patient's other views",
    "domains": "Real X-rays beside simulated ones",
    "volumes": "Volumes from predicted views",
}

_CODE = (
    "cxr3d_training.evaluation.world_model_domains",
    "cxr3d_training.evaluation.world_model_landmarks",
    "cxr3d_training.evaluation.world_model_predictions",
    "cxr3d_training.evaluation.world_model_scenes",
    "cxr3d_training.evaluation.world_model_volumes",
    "napari_cxr3d.inference.similarity",
    "napari_cxr3d.inference.similarity_epipolar",
    "napari_cxr3d.inference.similarity_features",
    "napari_cxr3d.metrics.image_quality",
    "napari_cxr3d.models.orbit_model",
    "napari_cxr3d.xray.conjugate_gradients",
    "napari_cxr3d.xray.fdk",
)
"""Modules that figures depend on: what was measured by other code is measured again."""


def evaluate_world_model(
    model: OrbitModel,
    cases: Sequence[CohortCase],
    *,
    radiographs: Sequence[RadiographCase] = (),
    device: torch.device,
    peers: Mapping[str, OrbitModel | ReconstructionModel] | None = None,
    plan: WorldModelPlan | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> WorldModelReport:
    """All tables of a plan.

    Parameters
    ----------
    model : OrbitModel
        The one that is evaluated.
    cases : sequence of CohortCase
        Held-out ones, of the plan's spacing.
    radiographs : sequence of RadiographCase
        Real X-rays that no training saw; without two of them domains are not compared.
    device : torch.device
        Where the networks work.
    peers : mapping of str to model, optional
        Other models by name: world models with the same detector and angles, such as the same
        encoder trained without prediction; and models that make a CT of an X-ray, whose
        projections are beside the predicted views.
    plan : WorldModelPlan, optional
        What is measured.
    progress, cancel : optional
        Told of every part of the work; looked at between them.

    Returns
    -------
    WorldModelReport
        Its first method is the model's prediction from a DRR.

    Raises
    ------
    InvalidInputError
        If there is no case, or a peer does not fit beside the model.
    Cancelled
        If the token was cancelled; tables that are done are kept where the plan says so.
    """
    plan = plan or WorldModelPlan()
    if not len(cases):
        raise InvalidInputError(
            "There is no case to evaluate on",
            remedy="name data with more patients by --data, or another --split",
        )
    plan = plan.on_grid_of(cases[0])
    others = {n: p for n, p in (peers or {}).items() if isinstance(p, OrbitModel)}
    for name, peer in others.items():
        if (peer.base_view, peer.yaws) != (model.base_view, model.yaws):
            raise InvalidInputError(
                f"{name} sees other pictures than the model",
                why="its detector, distances or angles differ",
                remedy="evaluate it by itself",
            )
    for network in (model, *(peers or {}).values()):
        network.to(device).eval()
    makers = [
        Reconstructor(p, n) for n, p in (peers or {}).items() if isinstance(p, ReconstructionModel)
    ]
    work = _Work(model, others, makers, cases, radiographs, plan, progress, cancel)
    reports = work.measure()
    latents = reports.pop("latents")
    return WorldModelReport(
        _TITLES["latents"],
        latents.rows,
        parts=reports,
        targets=targets(latents, reports, label=plan.label, peers=tuple(others)),
        notes=tuple(work.notes),
    )


class _Work:
    """Scenes, tables that are there already, and how far the whole has come."""

    def __init__(
        self,
        model: OrbitModel,
        peers: Mapping[str, OrbitModel],
        makers: Sequence[Reconstructor],
        cases: Sequence[CohortCase],
        radiographs: Sequence[RadiographCase],
        plan: WorldModelPlan,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self.plan, self.radiographs = plan, radiographs
        self.models: dict[str, OrbitModel] = {plan.label: model, **peers}
        self.notes: list[str] = []
        self._progress, self._cancel = progress, cancel or CancelToken()
        self._done, self._doing = 0, ""
        assert plan.volume_shape is not None  # it was resolved
        assert plan.spacing_mm is not None
        stage = OrbitStage.of(
            model, volume_shape=plan.volume_shape, spacing_mm=plan.spacing_mm, domain=plan.domain
        )
        self.scenes: list[OrbitScene] = []
        for case in cases:
            self._step()
            self.scenes.append(stage.scene(case))
        self.makers = [maker for maker in makers if maker.fits(self.scenes[0])]
        for maker in makers:
            if maker not in self.makers:
                self.notes.append(f"{maker.name} makes volumes on another grid and is left out.")
        self.landmarks = self._landmarks()
        self._store = TableStore(plan.keep)
        self._depends = {
            "code": _code(),
            "models": {name: network_sha256(m) for name, m in self.models.items()},
            "makers": {maker.name: network_sha256(maker.model) for maker in self.makers},
            "cases": sha256("".join(s.sha256 for s in self.scenes).encode()).hexdigest(),
            "radiographs": [case.id for case in radiographs],
            "stage": repr(stage),
            "torch": torch.__version__,
        }

    def measure(self) -> dict[str, Report]:
        """Every table that the plan names and the data allows."""
        plan, few = self.plan, len(self.scenes) < 2
        rows: dict[str, Rows] = self._predictions()
        if few:
            self.notes.append("With one patient there is nothing to compare patients by.")
        if "landmarks" in plan.tables and not few and self.landmarks.names:
            rows |= self._kept(
                "landmarks", ("landmarks", "landmark_each"), [plan.queries, plan.held_out,
                                                              plan.hit_mm],
                lambda: dict(zip(
                    ("landmarks", "landmark_each"),
                    landmark_rows(self._lenses(), self.scenes, self.landmarks, plan.queries,
                                  step=self._step),
                    strict=True,
                )),
            )  # fmt: skip
            first = self.scenes[: plan.self_match_cases]
            rows |= self._kept("self_match", ("self_match",), [len(first)], lambda: {
                "self_match": self_match_rows(
                    {n: lens for n, lens in self._lenses().items() if n != RAW},
                    first, self.landmarks, step=self._step,
                )
            })  # fmt: skip
        if "tracking" in plan.tables and self.landmarks.names:
            first = self.scenes[: plan.track_cases]
            tokens = {n: lens for n, lens in self._lenses().items() if n != RAW}
            rows |= self._kept("tracking", ("tracking",), [
                plan.tracked, len(first), plan.held_out, plan.hit_mm
            ], lambda: {
                "tracking": tracking_rows(tokens, first, self._seen_from(first), plan.tracked,
                                          step=self._step)
            })  # fmt: skip
        if "domains" in plan.tables and len(self.radiographs) > 1:
            rows |= self._kept("domains", ("domains",), [], lambda: {
                "domains": domain_rows(self.models, self.scenes, self.radiographs, step=self._step)
            })  # fmt: skip
        elif "domains" in plan.tables:
            self.notes.append("Without two real X-rays or more the domains are not compared.")
        if "volumes" in plan.tables and self._model.renders:
            first = self.scenes[: plan.volume_cases]
            rows |= self._kept("volumes", ("volumes",), [len(first)], lambda: {
                "volumes": volume_rows(
                    self._model, first, plan.label, reconstructors=self.makers,
                    mean=self._mean_volume(len(first)), cancel=self._cancel, step=self._step,
                )
            })  # fmt: skip
        return {name: self._report(name, table) for name, table in rows.items()}

    def _predictions(self) -> dict[str, Rows]:
        """Tables of tokens, retrieval and views, which one pass of every model gives."""
        plan = self.plan
        wanted = ["latents"]
        wanted += ["retrieval"] * ("retrieval" in plan.tables and len(self.scenes) > 1)
        wanted += ["views"] * ("views" in plan.tables and self._model.renders)

        def made() -> dict[str, Rows]:
            tables: dict[str, Rows] = {name: {} for name in wanted}
            for label, model in self.models.items():
                self._doing = f"predictions of {label}"
                own = label == plan.label
                drawers: dict[str, Drawer] = {
                    method_name(maker.name, "coarse volume projected", context): maker.draw(context)
                    for maker in self.makers for context in CONTEXTS
                }  # fmt: skip
                found = measure_predictions(
                    model, self.scenes, label, views="views" in wanted,
                    drawers=drawers if own else None, step=self._step,
                )  # fmt: skip
                _add(tables["latents"], found.latents)
                if "views" in wanted:
                    _add(tables["views"], found.views)
                if "retrieval" in wanted:
                    chance = tables["retrieval"].pop("chance", None)
                    tables["retrieval"] |= retrieval_rows(found.means, self.scenes)
                    if chance is not None:  # last, and once
                        tables["retrieval"]["chance"] = tables["retrieval"].pop("chance")
            return tables

        return self._kept("predictions", tuple(wanted), [], made)

    @property
    def _model(self) -> OrbitModel:
        return self.models[self.plan.label]

    def _lenses(self) -> dict[str, Lens]:
        tokens = {name: TokenLens.of(name, model) for name, model in self.models.items()}
        return {**tokens, RAW: RawLens()}

    def _landmarks(self) -> Landmarks:
        plan = self.plan
        found = common_landmarks(self.scenes, plan.held_out, plan.hit_mm)
        if found.left_out:
            self.notes.append(
                "Landmarks that are not on the frontal detector of all patients, or that not all "
                f"have, are left out: {', '.join(found.left_out)}."
            )
        if not all(scene.known for scene in self.scenes):
            self.notes.append(
                "Patients without marked landmarks have apex, dome and costophrenic angle of both "
                "lungs instead, read off a mask of the lungs: right within about 10 mm, but a dome "
                "under consolidated lung or beside a large heart may be far off."
            )
        return found

    def _seen_from(self, scenes: Sequence[OrbitScene]) -> Landmarks:
        """The landmarks that lie on the detector at every angle too."""
        names = self.landmarks.names
        seen = np.ones(len(names), bool)
        for scene in scenes:
            for view in scene.stage.views:
                seen &= scene.on_detector(names, view, margin=1.0)
        kept = {name for name, inside in zip(names, seen, strict=True) if inside}
        return replace(
            self.landmarks,
            used=tuple(n for n in self.landmarks.used if n in kept),
            held_out=tuple(n for n in self.landmarks.held_out if n in kept),
        )

    def _mean_volume(self, first: int) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        """Of the patients whose volumes are not reconstructed."""
        rest = self.scenes[first:]
        if not rest:
            return None
        total = sum(np.clip(scene.volume.hu, -1000, 1000).astype(np.float64) for scene in rest)
        return np.asarray(total / len(rest), np.float32)

    def _kept(
        self,
        name: str,
        tables: tuple[str, ...],
        settings: list[Any],
        make: Callable[[], dict[str, Rows]],
    ) -> dict[str, Rows]:
        """Tables as they were measured before, or measured now."""
        self._doing = name
        depends = {**self._depends, "settings": settings, "tables": tables}
        found = self._store.get(name, depends)
        if found is None:
            found = make()
            self._store.put(name, depends, found)
        return found

    def _report(self, name: str, table: Rows) -> Report:
        rows = tuple(row for by_method in table.values() for row in by_method)
        count = len({row.case for row in rows})
        title = _TITLES[name]
        if name not in ("latents", "domains"):
            every = count == len(self.scenes)
            title += ": all cases" if every else f": the first {count} cases"
        return Report(title, rows)

    def _step(self) -> None:
        self._cancel.raise_if_cancelled()
        self._done += 1
        if self._progress is not None:
            self._progress(Progress(self._done, 0, self._doing or "patients"))


def _add(table: Rows, rows: Sequence[Row]) -> None:
    """Rows by their method; baselines that every model gives alike are taken once."""
    fresh = {row.method for row in rows} - set(table)
    for row in rows:
        if row.method in fresh:
            table.setdefault(row.method, []).append(row)


def _code() -> str:
    """Hash of the code that makes the figures."""
    digest = sha256()
    for name in _CODE:
        found = find_spec(name)
        if found is not None and found.origin is not None:
            digest.update(Path(found.origin).read_bytes())
    return digest.hexdigest()[:16]
