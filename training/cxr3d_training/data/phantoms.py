"""Phantoms as cases: endless, labelled, of nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

from cxr3d_training.data.conditioning import Conditioning, Prepared, condition
from napari_cxr3d.errors import InvalidInputError

__all__ = [
    "PHANTOM_SIZE_MM",
    "STREAM",
    "make_phantom",
    "parse_phantoms",
    "phantom_code",
    "phantom_findings",
    "phantom_name",
    "phantom_seeds",
]

PHANTOM_SIZE_MM = (340.0, 260.0, 340.0)
"""Extent along (I, P, L): a chest with its arms."""

STREAM = 1_000_000
"""Phantoms of one stream: ``phantom:N:S`` has the seeds S * STREAM + 0 ... N - 1."""


_NAMED = re.compile(r"phantom:(\d+)(?::(\d+)(?::(random))?)?")


def phantom_seeds(count: int, stream: int = 0) -> list[int]:
    """The seeds of ``phantom:COUNT:STREAM``: those of a shorter cohort come first.

    Raises
    ------
    InvalidInputError
        If there is no phantom, or more than a stream holds.
    """
    if not 1 <= count <= STREAM or stream < 0:
        raise InvalidInputError(
            f"A cohort has between 1 and {STREAM} phantoms, of a stream of 0 or more",
            why=f"it is asked for {count} of stream {stream}",
        )
    return [stream * STREAM + k for k in range(count)]


def parse_phantoms(source: str) -> list[int] | None:
    """The seeds that ``phantom:N[:STREAM[:random]]`` names; None for anything else."""
    match = _NAMED.fullmatch(source)
    if match is None:
        return None
    return phantom_seeds(int(match[1]), int(match[2] or 0))


def phantom_findings(source: str) -> str | None:
    """``random`` for ``phantom:N:STREAM:random``, None for phantoms that are well."""
    match = _NAMED.fullmatch(source)
    return None if match is None else match[3]


def phantom_name(seed: int, findings: str | None = None) -> str:
    """Name of a phantom's case; the same body, well and ill, is two cases of one patient."""
    return f"phantom-{seed}" if findings is None else f"phantom-{seed}-{findings}"


def make_phantom(
    seed: int,
    settings: Conditioning,
    *,
    size_mm: tuple[float, float, float] = PHANTOM_SIZE_MM,
    findings: str | None = None,
) -> Prepared:
    """One phantom, conditioned like a CT, with its truth.

    Parameters
    ----------
    seed : int
        Its seed.
    settings : Conditioning
        Its spacing is the phantom's own: nothing is resampled. 2 mm where it says None.
    size_mm : tuple of 3 float
        Extent along (I, P, L) in mm.
    findings : {None, "random"}
        None is well; ``random`` draws findings by the seed, as `make_thorax` does.

    Returns
    -------
    Prepared
        With ``anatomy`` and ``findings`` among the arrays, and labels, report, findings,
        landmarks and measures among the facts.
    """
    from napari_cxr3d.phantom import make_thorax

    spacing = settings.spacing_mm or (2.0, 2.0, 2.0)
    if len(set(spacing)) > 1:
        raise InvalidInputError(
            "Phantoms have the same spacing along all axes", why=f"it is {spacing} mm"
        )
    case = make_thorax(seed, size_mm=size_mm, spacing_mm=spacing[0], findings=findings)
    prepared = condition(
        case.volume,
        replace(settings, spacing_mm=None, least_length_mm=0.0),
        {"anatomy": case.labels, "findings": case.finding_bits},
    )
    facts = {
        "synthetic": True,
        "notes": list(prepared.facts["notes"]),
        "source": {"kind": "phantom"},
        "lung_ml": prepared.facts["lung_ml"],
        "labels": {name: bool(v) for name, v in case.label_vector.items()},
        "report": str(case.report),
        "findings": [plain(finding) for finding in case.findings],
        "landmarks": plain(case.landmarks),
        "measures": {"cardiovascular_risk": float(case.cardiovascular_risk)},
        "phantom": {"seed": int(case.seed), "parameters": plain(case.parameters)},
    }
    return Prepared(prepared.arrays, prepared.grid, facts)


def plain(value: Any) -> Any:
    """The value in JSON's terms."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


@cache
def phantom_code() -> str:
    """Hash of the code that makes phantoms: other code, other phantoms under the same seed."""
    digest = sha256()
    pending = [files("napari_cxr3d.phantom")]
    found = []
    while pending:
        folder = pending.pop()
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name != "__pycache__":
                pending.append(entry)
            elif entry.name.endswith((".py", ".csv", ".yaml", ".json")):
                found.append((entry.name, entry.read_bytes()))
    for name, content in sorted(found):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]
