"""From CTs or phantoms to a dataset on disk, resumable after a kill at any point.

Three things are kept, each written whole or not at all: a group for every case, a note for every
source (which case it became), and the manifest, which is made from both when a run reaches its
end. A run that was stopped leaves cases and notes; the next one passes over what they cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxr3d_training.data.conditioning import Conditioning
from cxr3d_training.data.identity import PUBLIC, Identities
from cxr3d_training.data.manifest import (
    MANIFEST,
    Note,
    SplitSettings,
    build_manifest,
    drop_note,
    read_notes,
    write_note,
)
from cxr3d_training.data.phantoms import (
    PHANTOM_SIZE_MM,
    parse_phantoms,
    phantom_code,
    phantom_findings,
    phantom_name,
)
from cxr3d_training.data.runners import Runner, here
from cxr3d_training.data.sources import CtSource, Passed, find_sources
from cxr3d_training.data.store import (
    FORMAT,
    VERSION,
    case_ids,
    clean_work,
    read_json,
    write_json,
)
from cxr3d_training.data.table import Table, read_table
from cxr3d_training.data.tasks import CtTask, Outcome, PhantomTask, Task, reason_of
from napari_cxr3d.errors import Cxr3dError, ExportError, InvalidInputError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["Summary", "prepare"]

_SETTINGS = "zarr.json"  # of the root group
_ATTRIBUTE = "cxr3d_dataset"

Tell = Callable[[Passed], None]


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    manifest : Path
        The file that lists the dataset.
    made : int
        Cases stored by this run.
    kept : int
        Sources whose case was there already.
    same : int
        Sources whose content is that of another one.
    broken : int
        Sources that could not be used.
    other : int
        Things that are no CT: scout views, other modalities.
    cases : dict
        Cases by side, of the whole dataset.
    rows_unused : int
        Rows of the table that name no source.
    unlisted : int
        Cases that no source names any more, since its file has changed.
    """

    manifest: Path
    made: int
    kept: int
    same: int
    broken: int
    other: int
    cases: Mapping[str, int]
    rows_unused: int = 0
    unlisted: int = 0


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    settings: Conditioning | None = None,
    split: SplitSettings | None = None,
    identities: Identities = PUBLIC,
    table: str | Path | None = None,
    licence: str = "",
    size_mm: tuple[float, float, float] = PHANTOM_SIZE_MM,
    allow_gaps: bool = False,
    allow_resampling: bool = True,
    runner: Runner = here,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    tell: Tell | None = None,
) -> Summary:
    """Make a dataset, or go on making it.

    Parameters
    ----------
    source : str or Path
        A folder of CTs, a volume file, a list (.txt, .csv), or ``phantom:N[:STREAM[:random]]``.
    out : str or Path
        The dataset's folder; made if need be.
    settings : Conditioning
        Spacing, HU range, crop.
    split : SplitSettings
        Shares of the sides.
    identities : Identities
        The secret that patients are hashed with.
    table : str or Path, optional
        Patients, splits, licences, labels (see `table.read_table`).
    licence : str
        Of all sources for which the table gives none.
    size_mm : tuple of 3 float
        Of phantoms.
    allow_gaps, allow_resampling : bool
        Consents, as those of `napari_cxr3d.io.read_ct`.
    runner : Runner
        Where the work is done.
    progress, cancel : optional
        Progress over cases, and cancellation between them; what is done is kept.
    tell : callable, optional
        Told of every source that cannot be used, at once.

    Raises
    ------
    InvalidInputError
        If the dataset was begun with other settings.
    UnreadableFileError
        If there is no such source.
    ExportError
        If the folder cannot be written, holds something else, or another run is at work on it.
    Cancelled
        If the user cancelled.
    """
    settings = settings or Conditioning()
    split = split or SplitSettings()
    cancel = cancel or CancelToken()
    out = Path(out).absolute()
    seeds = parse_phantoms(str(source))
    record = _settings_record(settings, split, identities, None if seeds is None else size_mm)
    with _locked(out):
        _begin(out, record)
        clean_work(out)
        run = _Run(out, settings, progress, cancel, tell or (lambda passed: None))
        if seeds is not None:
            tasks = run.phantom_tasks(seeds, size_mm, phantom_findings(str(source)))
        else:
            known = Path(source)
            root = known if known.is_dir() else known.parent
            rows = Table({}) if table is None else read_table(table, root)
            tasks = run.ct_tasks(known, rows, identities, licence, (allow_gaps, allow_resampling))
        run.work(tasks, runner)
        manifest = build_manifest(out, record, split)
    listed = {case["id"] for case in manifest["cases"]}
    return Summary(
        manifest=out / MANIFEST,
        made=run.made,
        kept=run.kept,
        same=run.same,
        broken=run.broken,
        other=run.other,
        cases={side: count["cases"] for side, count in manifest["counts"].items()},
        rows_unused=run.rows_unused,
        unlisted=len(set(case_ids(out)) - listed),
    )


class _Run:
    """One run over the sources: what there is to do, and what became of it."""

    def __init__(
        self,
        out: Path,
        settings: Conditioning,
        progress: ProgressCallback | None,
        cancel: CancelToken,
        tell: Tell,
    ) -> None:
        self.made = self.kept = self.same = self.broken = self.other = self.rows_unused = 0
        self._out = out
        self._settings = settings
        self._progress = progress
        self._cancel = cancel
        self._tell = tell
        self._notes: dict[str, Note] = {}
        self._paths: dict[str, Path] = {}
        self._present = set(case_ids(out))
        self._claimed: set[str] = set()  # cases that a source of this run is known to be

    def phantom_tasks(
        self, seeds: list[int], size_mm: tuple[float, float, float], findings: str | None
    ) -> list[Task]:
        """The phantoms that are not there yet."""
        names = {seed: phantom_name(seed, findings) for seed in seeds}
        missing = [seed for seed in seeds if names[seed] not in self._present]
        self.kept = len(seeds) - len(missing)
        return [PhantomTask(names[s], s, self._settings, size_mm, findings) for s in missing]

    def ct_tasks(
        self,
        source: Path,
        table: Table,
        identities: Identities,
        licence: str,
        consents: tuple[bool, bool],
    ) -> list[Task]:
        """The CTs that are not there yet; notes of all others are brought up to date."""
        found = find_sources(source, progress=self._progress, cancel=self._cancel)
        earlier = read_notes(self._out)
        for passed in found.passed:
            place = identities.place(passed.place)
            self._skip(replace(passed, place=place), Note(place))
        tasks: list[Task] = []
        used = set()
        for ct in found.sources:
            self._cancel.raise_if_cancelled()
            place = identities.place(ct.place)
            row = table.row_of(ct.path)
            if row is not None:
                used.add(row.path)
            try:
                note = _note(ct, place, identities, table, licence)
            except (Cxr3dError, OSError) as error:
                passed = Passed(ct.path, place, reason_of(error), broken=True)
                self._skip(passed, Note(place))
                continue
            old = earlier.get(place)
            if old and old.case in self._present and old.stamp == note.stamp:
                note = replace(note, case=old.case)
                if note != old:
                    write_note(self._out, note)
                self.kept += 1
                self._claimed.add(old.case)
                continue
            self._notes[place], self._paths[place] = note, ct.path
            tasks.append(CtTask(place, ct, self._settings, *consents))
        self.rows_unused = len({row.path for row in table.rows.values()} - used)
        seen = {identities.place(s.place) for s in found.sources}
        seen |= {identities.place(p.place) for p in found.passed}
        for place, old in earlier.items():
            if old.reason and place not in seen:
                drop_note(self._out, place)  # it told of a run over something else
        return tasks

    def work(self, tasks: list[Task], runner: Runner) -> None:
        """Do the tasks, and note what each source became."""
        for count, outcome in enumerate(runner(tasks, self._out, self._cancel), start=1):
            self._record(outcome)
            if self._progress is not None:
                self._progress(Progress(count, len(tasks), f"case {count} of {len(tasks)}"))

    def _record(self, outcome: Outcome) -> None:
        place = outcome.place
        if outcome.reason:
            path = self._paths.get(place, Path(place))
            passed = Passed(path, place, outcome.reason, broken=True)
            self._skip(passed, self._notes.get(place, Note(place)))
            return
        if outcome.case_id in self._claimed:
            self.same += 1
        elif outcome.case_id in self._present:
            self.kept += 1  # stored by a run that was killed before it could note it
        else:
            self.made += 1
        self._claimed.add(outcome.case_id)
        if place in self._notes:
            write_note(self._out, replace(self._notes[place], case=outcome.case_id))

    def _skip(self, passed: Passed, note: Note) -> None:
        self.broken += passed.broken
        self.other += not passed.broken
        note = replace(note, case="", reason=passed.reason, broken=passed.broken)
        write_note(self._out, note)
        self._tell(passed)


def _note(ct: CtSource, place: str, identities: Identities, table: Table, licence: str) -> Note:
    """Who a source is of and what is known of it, from the table first."""
    row = table.row_of(ct.path)
    patient = f"table:{row.patient}" if row is not None and row.patient else ct.patient_text()
    note = Note(place, ct.stamp(), patient=identities.patient(patient), licence=licence)
    if row is None:
        return note
    return replace(
        note,
        side=row.side or "",
        licence=row.licence or licence,
        report=row.report,
        labels=row.labels,
    )


def _settings_record(
    settings: Conditioning,
    split: SplitSettings,
    identities: Identities,
    size_mm: tuple[float, float, float] | None,
) -> dict[str, Any]:
    """What two runs must agree on to work on one dataset."""
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "conditioning": settings.to_dict(),
        "split": split.to_dict(),
    }
    if size_mm is None:
        return {**record, "kind": "ct", "identities": identities.check}
    phantom = {"size_mm": [float(s) for s in size_mm], "code": phantom_code()}
    return {**record, "kind": "phantom", "phantom": phantom}


def _begin(out: Path, record: Mapping[str, Any]) -> None:
    """Make the dataset's root, or see that it was made with the same settings.

    Raises
    ------
    ExportError
        If the folder holds something else.
    InvalidInputError
        If the settings differ.
    """
    path = out / _SETTINGS
    if path.is_file():
        old = read_json(path).get("attributes", {}).get(_ATTRIBUTE)
        if not isinstance(old, dict) or old.get("format") != FORMAT:
            raise ExportError(
                "The folder holds a Zarr group of something else",
                remedy="choose another folder",
                path=out,
            )
        differences = _differences(old, record)
        if not differences:
            return
        if case_ids(out) or read_notes(out):
            raise InvalidInputError(
                "The dataset was begun with other settings",
                why="; ".join(differences),
                remedy="repeat the earlier settings, or prepare into another folder",
                path=out,
            )
    elif any(entry.name not in (".lock", ".work") for entry in out.iterdir()):
        raise ExportError(
            "The folder holds something else than a dataset",
            remedy="choose a new or an empty folder",
            path=out,
        )
    attributes = {_ATTRIBUTE: dict(record)}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_json(path, group)
    write_json(out / "cases" / _SETTINGS, {**group, "attributes": {}})


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for key in sorted({*old, *new})
            for line in _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{name} was {_told(old)} and is now {_told(new)}"]


def _told(value: Any) -> str:
    return "not given" if value is None else str(value)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the dataset for this run; the system lets go of it when the process dies.

    Raises
    ------
    ExportError
        If the folder cannot be made, or another run holds it.
    """
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ExportError(
            "Another run is preparing this dataset", remedy="wait for it, or stop it", path=out
        ) from None
    except OSError as error:
        raise ExportError(
            "The dataset's folder cannot be made or written",
            why=error.strerror or type(error).__name__,
            remedy="choose another folder",
            path=out,
        ) from error
    try:
        yield
    finally:
        lock.release()
