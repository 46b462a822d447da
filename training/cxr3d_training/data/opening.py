"""From what the user names to a cohort: phantoms, a prepared dataset, CTs as they lie, or a mix."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cxr3d_training.data import background
from cxr3d_training.data.cohort import Cohort, CohortCase, mix
from cxr3d_training.data.conditioning import Conditioning, Prepared, condition
from cxr3d_training.data.contents import CachedContent, MadeContent
from cxr3d_training.data.identity import PUBLIC
from cxr3d_training.data.manifest import MANIFEST, PHANTOM_LICENCE
from cxr3d_training.data.memory import DEFAULT_BUDGET, Memory
from cxr3d_training.data.phantoms import (
    PHANTOM_SIZE_MM,
    STREAM,
    make_phantom,
    parse_phantoms,
    phantom_code,
    phantom_findings,
    phantom_name,
)
from cxr3d_training.data.sources import CtSource, find_sources
from cxr3d_training.data.split import DEFAULT_FRACTIONS, Side, assign_sides, check_side
from cxr3d_training.data.store import FORMAT, StoredContent, case_folder, read_json
from cxr3d_training.data.table import Table, read_table
from napari_cxr3d.errors import InvalidInputError, UnreadableFileError, UnsupportedFileError
from napari_cxr3d.imaging import Volume

__all__ = ["cache_folder", "cohort_of", "open_cohort"]

_MIXED = re.compile(r"(?P<first>.+?)\s*\+\s*(?P<percent>\d+(?:\.\d+)?)%\s*(?P<second>.+)")
_WORTH_A_PROCESS = 4  # phantoms to make

Spacing = float | tuple[float, float, float]


@dataclass(frozen=True)
class _Options:
    """What `open_cohort` was given."""

    settings: Conditioning
    asked: Mapping[str, Any]
    size_mm: tuple[float, float, float]
    table: Path | None
    fractions: Mapping[Side, float]
    split_seed: int
    memory: Memory[Any]
    cache: Path | None
    background: bool


def open_cohort(
    spec: str | Path,
    *,
    spacing_mm: Spacing | None = None,
    hu_range: tuple[int, int] | None = None,
    crop_margin_mm: float | None = None,
    remove_table: bool | None = None,
    size_mm: tuple[float, float, float] = PHANTOM_SIZE_MM,
    table: str | Path | None = None,
    fractions: Mapping[Side, float] | None = None,
    split_seed: int = 0,
    memory_bytes: int = DEFAULT_BUDGET,
    cache: str | Path | bool = True,
    in_background: bool = True,
    assume_different_patients: bool = False,
) -> Cohort:
    """A cohort by name; nothing is read or made before it is asked for.

    Parameters
    ----------
    spec : str or Path
        - ``phantom:200``: two hundred phantoms, made when they are needed and kept in a cache on
          disk; ``phantom:200:3`` are other ones, those of stream 3, who are well too;
          ``phantom:200:3:random`` are the same with findings drawn at random;
        - a folder that ``cxr3d-train prepare`` has written;
        - a folder of CTs, a volume file, or a list (.txt, .csv), conditioned in memory;
        - ``A + 30% B``: three in ten draws take a case of B (see `cohort.mix`).
    spacing_mm, hu_range, crop_margin_mm, remove_table : optional
        See `Conditioning`. A prepared dataset has its own, and must agree with what is given.
    size_mm : tuple of 3 float
        Extent of phantoms along (I, P, L).
    table : str or Path, optional
        Patients, splits, licences and labels of CTs as they lie (see `table.read_table`).
    fractions : mapping of side to float, optional
        Shares of the sides, for CTs as they lie and for phantoms.
    split_seed : int
        Another seed, another split, of CTs as they lie.
    memory_bytes : int
        How much is kept in memory.
    cache : path or bool
        Where phantoms are kept; True is the user's cache folder, False keeps them in memory only.
    in_background : bool
        Let a second process make the phantoms that are missing.
    assume_different_patients : bool
        See `cohort.mix`.

    Returns
    -------
    Cohort
        Split into train, validation and test, no patient on two sides.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError
        If nothing is there, or no CT.
    InvalidInputError
        If an option cannot be used, or contradicts a prepared dataset.

    Notes
    -----
    The side of a phantom depends on its place in the stream alone: what ``phantom:200`` trains on
    is never tested on by ``phantom:1000``.
    """
    given: dict[str, Any] = {
        "spacing_mm": _three(spacing_mm),
        "hu_range": None if hu_range is None else tuple(int(v) for v in hu_range),
        "crop_margin_mm": crop_margin_mm,
        "remove_table": remove_table,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    options = _Options(
        settings=Conditioning(**asked),
        asked=asked,
        size_mm=_three(size_mm) or PHANTOM_SIZE_MM,
        table=None if table is None else Path(table),
        fractions=dict(fractions or DEFAULT_FRACTIONS),
        split_seed=split_seed,
        memory=Memory(memory_bytes),
        cache=_cache(cache),
        background=in_background,
    )
    return _open(str(spec).strip(), options, assume_different_patients)


def cache_folder() -> Path:
    """Where phantoms are kept: ``CXR3D_CACHE``, or a folder of the user's cache."""
    named = os.environ.get("CXR3D_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("napari-cxr3d")


def cohort_of(
    volumes: Mapping[str, Volume],
    *,
    patients: Mapping[str, str] | None = None,
    labels: Mapping[str, Mapping[str, Any]] | None = None,
    sides: Mapping[str, Side] | None = None,
    settings: Conditioning | None = None,
) -> Cohort:
    """A cohort of volumes that are in memory already.

    Parameters
    ----------
    volumes : mapping of str to Volume
        The CTs by id.
    patients : mapping of id to str, optional
        Who they are of; everybody else when None.
    labels : mapping of id to mapping, optional
        Labels by name.
    sides : mapping of patient to side, optional
        Those that are decided; the others are assigned as everywhere.
    settings : Conditioning, optional
        What is done to them; nothing but the masks when None.
    """
    settings = settings or Conditioning(spacing_mm=None, least_length_mm=0.0)
    memory: Memory[Any] = Memory()
    who = {name: (patients or {}).get(name, name) for name in volumes}
    on = assign_sides(who.values(), kept=sides, in_order=True)
    cases = []
    for name, volume in volumes.items():

        def make(volume: Volume = volume) -> Prepared:
            return condition(volume, settings)

        given = {"labels": dict((labels or {}).get(name, {}))}
        content = MadeContent(name, make, memory)
        case = CohortCase(name, who[name], content, synthetic=volume.synthetic, given=given)
        cases.append((case, on[who[name]]))
    return Cohort(cases, name=f"{len(cases)} volumes")


def _open(spec: str, options: _Options, assume_different_patients: bool) -> Cohort:
    mixed = _MIXED.fullmatch(spec)
    if mixed is not None:
        return mix(
            _open(mixed["first"], options, assume_different_patients),
            _open(mixed["second"], options, assume_different_patients),
            ratio=float(mixed["percent"]) / 100,
            assume_different_patients=assume_different_patients,
        )
    seeds = parse_phantoms(spec)
    if seeds is not None:
        return _phantoms(spec, seeds, options)
    path = Path(spec).expanduser()
    if (path / MANIFEST).is_file():
        return _dataset(path, options)
    if (path / "cases").is_dir() and (path / "zarr.json").is_file():
        raise UnreadableFileError(
            "The dataset is not complete",
            why="the run that prepared it was stopped before it wrote the manifest",
            remedy="run the same cxr3d-train prepare again: it goes on where it was",
            path=path,
        )
    return _files(path, options)


def _phantoms(spec: str, seeds: list[int], options: _Options) -> Cohort:
    settings, size_mm = options.settings, options.size_mm
    findings = phantom_findings(spec)
    names = {seed: phantom_name(seed, findings) for seed in seeds}
    bodies = {seed: phantom_name(seed) for seed in seeds}
    sides = assign_sides(bodies.values(), fractions=options.fractions, in_order=True)
    folder = None if options.cache is None else options.cache / _cache_key(settings, size_mm)
    cases = []
    for seed, name in names.items():

        def make(seed: int = seed) -> Prepared:
            return make_phantom(seed, settings, size_mm=size_mm, findings=findings)

        content = (
            MadeContent(name, make, options.memory)
            if folder is None
            else CachedContent(folder, name, make, options.memory)
        )
        body = bodies[seed]
        case = CohortCase(name, body, content, synthetic=True, licence=PHANTOM_LICENCE)
        cases.append((case, sides[body]))
    cohort = Cohort(cases, name=spec)
    if folder is not None and options.background:
        missing = sum(not (case_folder(folder, n) / "zarr.json").is_file() for n in names.values())
        if missing >= _WORTH_A_PROCESS:
            process = background.start(
                len(seeds), seeds[0] // STREAM, folder, settings.to_dict(), size_mm, findings
            )
            weakref.finalize(cohort, background.stop, process)
    return cohort


def _dataset(path: Path, options: _Options) -> Cohort:
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise UnsupportedFileError("The manifest is not one of a dataset", path=path / MANIFEST)
    for name, value in options.asked.items():
        has = manifest["conditioning"].get(name)
        if (tuple(has) if isinstance(has, list) else has) != value:
            raise InvalidInputError(
                f"The dataset was prepared with another {name}",
                why=f"it has {has} and {value} is asked for",
                remedy="leave the option out, or prepare the dataset again into another folder",
                path=path,
            )
    cases = []
    for entry in manifest["cases"]:
        content = StoredContent(path, entry["id"], options.memory)
        given = {"labels": entry["labels"], "report": entry.get("report", "")}
        case = CohortCase(
            entry["id"],
            entry["patient"],
            content,
            synthetic=bool(entry["synthetic"]),
            licence=str(entry["licence"]),
            given=given,
        )
        cases.append((case, check_side(entry["split"])))
    return Cohort(cases, name="dataset", identities=str(manifest.get("identities", "")))


def _files(path: Path, options: _Options) -> Cohort:
    """CTs as they lie. Nothing is stored, so the ids need no secret to be safe."""
    found = find_sources(path)
    if not found.sources:
        reasons = "; ".join(sorted({p.reason for p in found.passed})) or "no volume was found"
        raise UnsupportedFileError(
            "There is no CT to train on",
            why=reasons,
            remedy="name a folder of CTs, a prepared dataset, or phantom:N",
            path=path,
        )
    root = path if path.is_dir() else path.parent
    table = Table({}) if options.table is None else read_table(options.table, root)
    patients: dict[str, str] = {}
    asked: dict[str, Side] = {}
    for source in found.sources:
        row = table.row_of(source.path)
        named = f"table:{row.patient}" if row is not None and row.patient else ""
        patient = PUBLIC.patient(named or source.patient_text())
        patients[source.place] = patient
        if row is not None and row.side is not None:
            asked[patient] = row.side
    sides = assign_sides(
        patients.values(), fractions=options.fractions, seed=options.split_seed, kept=asked
    )
    cases = []
    for source in found.sources:

        def make(source: CtSource = source) -> Prepared:
            return condition(source.read(), options.settings)

        patient, row = patients[source.place], table.row_of(source.path)
        key = PUBLIC.place(source.place)[:16]
        given = {} if row is None else {"labels": row.labels, "report": row.report}
        case = CohortCase(
            key,
            patient,
            MadeContent(key, make, options.memory),
            licence="" if row is None else row.licence,
            given=given,
        )
        cases.append((case, sides[patient]))
    return Cohort(cases, name=f"{len(cases)} CTs", identities=PUBLIC.check)


def _three(value: Spacing | None) -> tuple[float, float, float] | None:
    if value is None:
        return None
    numbers = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    if len(numbers) != 3:
        raise InvalidInputError("One number or three are needed", why=f"it is {value}")
    i, p, ell = (float(v) for v in numbers)
    return (i, p, ell)


def _cache(cache: str | Path | bool) -> Path | None:
    if isinstance(cache, bool):
        return cache_folder() if cache else None
    return Path(cache)


def _cache_key(settings: Conditioning, size_mm: tuple[float, float, float]) -> str:
    text = f"{settings.to_dict()} {size_mm} {phantom_code()}"
    return f"phantoms-{sha256(text.encode()).hexdigest()[:16]}"
