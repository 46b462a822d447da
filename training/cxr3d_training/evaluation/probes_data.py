"""What probes read: one frontal X-ray of every patient, and what is known of the patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr3d_training.data import CohortCase
from cxr3d_training.evaluation.world_model_plan import WorldModelPlan
from cxr3d_training.evaluation.world_model_scenes import OrbitStage, _seed
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["FIVE", "LOOKS", "RISK", "ProbeSet", "probe_set", "usable_labels"]

LOOKS = ("realistic", "drr")
"""What the X-rays look like: developed as a clinic's, or line integrals."""

FIVE = ("atelectasis", "cardiomegaly", "consolidation", "oedema", "pleural_effusion")
"""The five findings that CheXpert's competition is scored by (Irvin et al., AAAI 2019)."""

RISK = "cardiovascular_risk"


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """One side of a split.

    Attributes
    ----------
    cases, patients : tuple of str
        As the cohort names them.
    labels : tuple of str
        Names of the columns of `truth`.
    pictures : ndarray of float32, shape (n, rows, cols)
        Frontal X-rays, bone bright.
    truth : ndarray of bool, shape (n, len(labels))
        What the patients have.
    risk : ndarray of float64, shape (n,)
        Probability of a cardiovascular event in ten years; NaN where it is not known.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    labels: tuple[str, ...]
    pictures: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    risk: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.cases)


def usable_labels(sides: Mapping[str, Sequence[CohortCase]], least: int) -> tuple[str, ...]:
    """Labels that are known of every case, with enough of both kinds on every side.

    Parameters
    ----------
    sides : mapping
        Cases by the side's name: ``train``, ``validation``, ``test``.
    least : int
        Positives, and negatives, of the sides ``train`` and ``test``; of ``validation`` half as
        many.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    tables = {
        side: [{n: v for n, v in case.labels.items() if isinstance(v, bool)} for case in cases]
        for side, cases in sides.items()
    }
    known = [set(table) for tables_of in tables.values() for table in tables_of]
    names = sorted(set.intersection(*known)) if known else []

    def enough(name: str) -> bool:
        for side, rows in tables.items():
            positives = sum(row[name] for row in rows)
            needed = (least + 1) // 2 if side == "validation" else least
            if min(positives, len(rows) - positives) < max(1, needed):
                return False
        return True

    found = tuple(name for name in names if enough(name))
    if not found:
        raise InvalidInputError(
            "No label has enough of both kinds on every side",
            why=f"{least} with and without it are needed for training and test; "
            f"{len(names)} labels are known of all cases",
            remedy="probe phantoms with findings (phantom:N:S:random), give more patients, or "
            "ask for fewer with --least",
        )
    return found


def probe_set(
    cases: Sequence[CohortCase],
    model: OrbitModel,
    labels: Sequence[str],
    look: str = "realistic",
    *,
    step: Callable[[], None] = lambda: None,
) -> ProbeSet:
    """X-rays of cases on a model's detector, with their labels.

    Parameters
    ----------
    cases : sequence of CohortCase
        At least one, all of one spacing.
    model : OrbitModel
        From where, and on what detector.
    labels : sequence of str
        Which; see `usable_labels`.
    look : str
        One of `LOOKS`.
    step : callable
        Called after every case.

    Raises
    ------
    InvalidInputError
        If there is no such look.
    """
    if look not in LOOKS:
        raise InvalidInputError(f"There is no look {look!r}", remedy=f"choose {' or '.join(LOOKS)}")
    plan = WorldModelPlan().on_grid_of(cases[0])
    assert plan.volume_shape is not None  # it was resolved
    assert plan.spacing_mm is not None
    stage = OrbitStage.of(model, volume_shape=plan.volume_shape, spacing_mm=plan.spacing_mm)
    view = stage.base
    pictures = []
    for case in cases:
        volume = stage.scene(case).volume
        if look == "drr":
            seen = stage.renderer.render(volume, [view]).integrals
        else:
            developed = stage.developer.render(volume, [view], [_seed(case.id)]).pictures
            assert developed is not None  # the developer makes them
            seen = developed
        pictures.append(seen[0])
        step()
    return ProbeSet(
        cases=tuple(case.id for case in cases),
        patients=tuple(case.patient for case in cases),
        labels=tuple(labels),
        pictures=np.stack(pictures).astype(np.float32),
        truth=np.array([[bool(case.labels[n]) for n in labels] for case in cases], bool),
        risk=np.array([case.measures.get(RISK, np.nan) for case in cases], np.float64),
    )
