"""The work on one case, the same in this process, in another one, and on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxr3d_training.data.conditioning import Conditioning, Prepared, condition
from cxr3d_training.data.sources import CtSource
from cxr3d_training.data.store import write_case
from napari_cxr3d.errors import ConsentRequiredError, Cxr3dError

__all__ = ["CtTask", "Outcome", "PhantomTask", "Task", "reason_of", "run_task"]


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes
    ----------
    place : str
        The task's.
    case_id : str
        The case that is on disk now; empty where the source could not be used.
    reason : str
        Why it could not; no path, no patient.
    """

    place: str
    case_id: str = ""
    reason: str = ""


@dataclass(frozen=True)
class CtTask:
    """Read, condition and store one CT.

    Attributes
    ----------
    place : str
        Id of the source.
    source : CtSource
        Where it lies.
    settings : Conditioning
        What is done to it.
    allow_gaps, allow_resampling : bool
        Consents, as those of `napari_cxr3d.io.read_ct`.
    """

    place: str
    source: CtSource
    settings: Conditioning
    allow_gaps: bool = False
    allow_resampling: bool = True

    def make(self) -> tuple[str, Prepared]:
        """The case and its name, which its content gives it: what is read twice is one case."""
        volume = self.source.read(
            allow_gaps=self.allow_gaps, allow_resampling=self.allow_resampling
        )
        prepared = condition(volume, self.settings)
        return f"ct-{volume.content_sha256()[:16]}", prepared


@dataclass(frozen=True)
class PhantomTask:
    """Make and store one phantom.

    Attributes
    ----------
    place : str
        Its name, and its case's.
    seed : int
        Its seed.
    settings : Conditioning
        Spacing, window and crop.
    size_mm : tuple of 3 float
        Extent along (I, P, L).
    findings : str or None
        See `phantoms.make_phantom`.
    """

    place: str
    seed: int
    settings: Conditioning
    size_mm: tuple[float, float, float]
    findings: str | None = None

    def make(self) -> tuple[str, Prepared]:
        """The case and its name."""
        from cxr3d_training.data.phantoms import make_phantom

        return self.place, make_phantom(
            self.seed, self.settings, size_mm=self.size_mm, findings=self.findings
        )


Task = CtTask | PhantomTask

# What damaged files draw from the libraries that read them, beside our own errors. A phantom is
# our own code: what it throws is a bug, and is raised.
_EXPECTED = (
    Cxr3dError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def run_task(task: Task, dataset: Path) -> Outcome:
    """Do a task; a source that cannot be used is told, never raised.

    Raises
    ------
    ExportError
        If the dataset cannot be written: that concerns every case.
    """
    expected = _EXPECTED if isinstance(task, CtTask) else (Cxr3dError, MemoryError)
    try:
        case_id, prepared = task.make()
    except expected as error:
        return Outcome(task.place, reason=reason_of(error))
    write_case(dataset, case_id, prepared)
    return Outcome(task.place, case_id)


def reason_of(error: Exception) -> str:
    """Why, without a path and without what a foreign message may quote from a file."""
    if isinstance(error, Cxr3dError):
        reason = f"{error.what}: {error.why}" if error.why else error.what
        if isinstance(error, ConsentRequiredError):
            reason += f" (--{error.consent.replace('_', '-')} allows it)"
        return reason
    if isinstance(error, MemoryError):
        return "It does not fit into memory"
    return f"Unexpected failure ({type(error).__name__})"
