"""What a run writes down of where it came from."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from cxr3d_training.data import Cohort
from cxr3d_training.engine.folder import RunFolder
from cxr3d_training.engine.recipe import Recipe
from cxr3d_training.engine.settings import digest, to_plain
from napari_cxr3d.provenance import Provenance

__all__ = ["SessionRecord", "cohort_sha256"]


def cohort_sha256(cohort: Cohort) -> str:
    """One hash of all cases and of the side that each is on."""
    sides = {
        side: [case.id for case in cohort.split(side)] for side in ("train", "validation", "test")
    }
    return digest({"sides": sides, "shares": list(cohort.split("train").shares)})


class SessionRecord:
    """One call of `fit` in ``provenance.json``, from its begin to its end.

    Parameters
    ----------
    folder : RunFolder
        The run's.
    recipe, cohort : Recipe, Cohort
        What is trained, and on what.
    session : dict
        What is known of the call: command, device, strategy, processes.
    step : int
        The step that it begins with.
    """

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        cohort: Cohort,
        session: dict[str, Any],
        step: int,
    ) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._session = {**session, "from_step": step}
        self._record = folder.read_provenance() or _origin(recipe, cohort, session)
        self._before = list(self._record.get("sessions", []))
        self.write("running", step, 0.0)

    def write(self, reason: str, step: int, waited_s: float) -> None:
        """Replace this call's entry.

        Parameters
        ----------
        reason : str
            Why it ended, or that it runs.
        step : int
            Steps done.
        waited_s : float
            Seconds spent waiting for data.
        """
        seconds = time.monotonic() - self._began
        session = {
            **self._session,
            "to_step": step,
            "reason": reason,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "waiting_for_data": round(waited_s / max(seconds, 1e-9), 4),
        }
        self._folder.write_provenance({**self._record, "sessions": [*self._before, session]})


def _origin(recipe: Recipe, cohort: Cohort, session: dict[str, Any]) -> dict[str, Any]:
    """What holds for all sessions of a run."""
    run = recipe.config.run
    made = Provenance(
        operation="fit",
        parameters={
            "recipe": recipe.name,
            "settings_sha256": digest(to_plain(recipe.config)),
            "command": session["command"],
        },
        inputs=(cohort_sha256(cohort),),
        synthetic=all(case.synthetic for case in cohort.cases),
        backend="lightning-fabric",
        device=session["device"],
        dtype=run.precision,
        seed=run.seed,
    ).to_dict()
    made["versions"]["lightning-fabric"] = version("lightning-fabric")
    spacing = list(next(iter(cohort.split("train"))).spacing_mm)
    return {**made, "data": {**cohort.describe(), "spacing_mm": spacing}}
