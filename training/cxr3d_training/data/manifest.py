"""What a dataset holds and who is on which side: made from the cases and the sources' notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cxr3d_training.data.split import DEFAULT_FRACTIONS, SIDES, Side, assign_sides, check_fractions
from cxr3d_training.data.store import case_ids, case_record, read_json, write_json
from cxr3d_training.data.table import Label
from napari_cxr3d.errors import Cxr3dError, InvalidInputError
from napari_cxr3d.provenance import library_versions

__all__ = [
    "MANIFEST",
    "PHANTOM_LICENCE",
    "Note",
    "SplitSettings",
    "build_manifest",
    "read_notes",
    "write_note",
]

MANIFEST = "manifest.json"
PHANTOM_LICENCE = "none needed: generated"

_NOTES = "sources"
_TOOLS = ("zarr", "scipy")


@dataclass(frozen=True)
class SplitSettings:
    """How patients are split.

    Attributes
    ----------
    fractions : mapping of side to float
        Shares of the patients.
    seed : int
        Another seed, another split.
    stratify : str
        A label that shall be spread alike over the sides; none when empty.
    """

    fractions: Mapping[Side, float] = field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    seed: int = 0
    stratify: str = ""

    def __post_init__(self) -> None:
        check_fractions(self.fractions)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return {
            "fractions": {side: float(self.fractions.get(side, 0.0)) for side in SIDES},
            "seed": self.seed,
            "stratify": self.stratify,
        }


@dataclass(frozen=True)
class Note:
    """What became of one source.

    Attributes
    ----------
    place : str
        The source's id: a keyed hash of its path.
    stamp : str
        Sizes and times of its files when it was read.
    case : str
        The case that it became; empty where it became none.
    reason : str
        Why it became none.
    broken : bool
        Whether that is a fault, rather than something that is no CT (a scout view).
    patient : str
        Id of the patient.
    side : str
        The side that the table asks for; empty where it asks for none.
    licence, report : str
        From the table.
    labels : mapping
        From the table.
    """

    place: str
    stamp: str = ""
    case: str = ""
    reason: str = ""
    broken: bool = False
    patient: str = ""
    side: str = ""
    licence: str = ""
    report: str = ""
    labels: Mapping[str, Label] = field(default_factory=dict)


def write_note(dataset: Path, note: Note) -> None:
    """Keep a note, in place of an older one of the same source."""
    write_json(dataset / _NOTES / f"{note.place}.json", asdict(note))


def drop_note(dataset: Path, place: str) -> None:
    """Forget a source."""
    (dataset / _NOTES / f"{place}.json").unlink(missing_ok=True)


def read_notes(dataset: Path) -> dict[str, Note]:
    """All notes by place; a damaged one counts as none, so that its source is read again."""
    folder = dataset / _NOTES
    known = {f.name for f in fields(Note)}
    notes = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            record = read_json(path)
        except Cxr3dError:
            continue
        note = Note(**{name: v for name, v in record.items() if name in known})
        notes[note.place] = note
    return notes


def build_manifest(
    dataset: Path, settings: Mapping[str, Any], split: SplitSettings
) -> dict[str, Any]:
    """Make the manifest of the cases and notes that are there, and write it.

    Patients that an earlier manifest put on a side stay there, unless the table says otherwise.
    Two sources of the same content are one case; where they name two patients, these count as
    one, and share a side.

    Raises
    ------
    InvalidInputError
        If the table puts one patient on two sides.
    """
    path = dataset / MANIFEST
    earlier = read_json(path) if path.is_file() else {}
    present = set(case_ids(dataset))
    notes: dict[str, list[Note]] = defaultdict(list)
    skipped = []
    for note in read_notes(dataset).values():
        if note.case in present:
            notes[note.case].append(note)
        elif note.reason:
            skipped.append({"place": note.place, "reason": note.reason, "broken": note.broken})
    phantoms = sorted((c for c in present if c.startswith("phantom-")), key=_seed)
    ids = [*phantoms, *sorted(notes)]
    one_of = _joined([{note.patient for note in notes[case]} for case in notes])
    patients = {c: one_of[notes[c][0].patient] if c in notes else _body(c) for c in ids}
    records = {c: case_record(dataset, c) for c in ids}
    labels = {c: _labels(records[c], notes.get(c, [])) for c in ids}

    kept: dict[str, Side] = {
        one_of.get(case["patient"], case["patient"]): case["split"]
        for case in earlier.get("cases", ())
    }
    kept |= _asked_for(notes, one_of)
    strata: dict[str, bool] = {}
    if split.stratify:
        for c in ids:
            strata[patients[c]] = bool(strata.get(patients[c])) or bool(
                labels[c].get(split.stratify)
            )
    present_patients = [patients[c] for c in ids]
    sides = assign_sides(
        present_patients,
        fractions=split.fractions,
        seed=split.seed,
        strata=strata,
        kept={p: side for p, side in kept.items() if p in set(present_patients)},
        in_order=bool(phantoms) and not notes,
    )
    cases = [
        _entry(c, records[c], notes.get(c, []), patients[c], sides[patients[c]], labels[c])
        for c in ids
    ]
    manifest = {
        **settings,
        "split": split.to_dict(),
        "counts": {
            side: {
                "cases": sum(case["split"] == side for case in cases),
                "patients": len({case["patient"] for case in cases if case["split"] == side}),
            }
            for side in SIDES
        },
        "licences": dict(sorted(Counter(case["licence"] for case in cases).items())),
        "cases": cases,
        "skipped": sorted(skipped, key=lambda s: str(s["place"])),
        "versions": _versions(),
    }
    write_json(path, manifest)
    return manifest


def _entry(
    case_id: str,
    record: Mapping[str, Any],
    notes: list[Note],
    patient: str,
    side: Side,
    labels: Mapping[str, Label],
) -> dict[str, Any]:
    facts = record["facts"]
    licences = sorted({note.licence for note in notes if note.licence})
    entry = {
        "id": case_id,
        "patient": patient,
        "split": side,
        "sha256": record["sha256"],
        "source_sha256": facts.get("source", {}).get("content_sha256", ""),
        "sources": sorted(note.place for note in notes),
        "synthetic": bool(facts.get("synthetic", False)),
        "licence": " and ".join(licences) if notes else PHANTOM_LICENCE,
        "labels": dict(labels),
        **record["grid"],
    }
    report = next((note.report for note in notes if note.report), "")
    return {**entry, "report": report} if report else entry


def _labels(record: Mapping[str, Any], notes: Iterable[Note]) -> dict[str, Label]:
    """Those of the case, then those of the table; of two sources the later place wins."""
    labels: dict[str, Label] = dict(record["facts"].get("labels", {}))
    for note in sorted(notes, key=lambda n: n.place):
        labels.update(note.labels)
    return labels


def _joined(groups: Iterable[set[str]]) -> dict[str, str]:
    """For every patient the least id among those that share a case with it, directly or not."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for group in groups:
        for name in group:
            leader.setdefault(name, name)
        roots = sorted({find(name) for name in group})
        for root in roots:
            leader[root] = roots[0]
    return {name: find(name) for name in leader}


def _asked_for(notes: Mapping[str, list[Note]], one_of: Mapping[str, str]) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    for note in (note for group in notes.values() for note in group):
        if not note.side:
            continue
        patient = one_of[note.patient]
        side: Side = next(s for s in SIDES if s == note.side)
        if sides.setdefault(patient, side) != side:
            raise InvalidInputError(
                f"The table puts the patient {patient} on two sides, {sides[patient]} and {side}",
                why="what is learnt of one scan would be tested on another of the same patient",
                remedy="give all rows of one patient the same split",
            )
    return sides


def _seed(case_id: str) -> int:
    return int(_body(case_id).removeprefix("phantom-"))


def _body(case_id: str) -> str:
    """The patient of a phantom, who may be there well and ill."""
    return case_id.removesuffix("-random")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {**library_versions(), **{name: version(name) for name in _TOOLS}}
