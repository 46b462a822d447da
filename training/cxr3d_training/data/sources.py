"""The CTs that a folder, a list or a table names, each ready to be read anywhere."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr3d_training.data.identity import patient_from_name
from napari_cxr3d.errors import Cxr3dError, InvalidInputError, UnreadableFileError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.io.catalogue import catalogue
from napari_cxr3d.io.dicom_ct import read_dicom_stack
from napari_cxr3d.io.dicom_headers import read_header, text
from napari_cxr3d.io.dicom_series import DicomStack
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.io.series_entry import SeriesEntry
from napari_cxr3d.io.sniff import is_volume_file
from napari_cxr3d.io.volume_files import read_volume_file
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["CtSource", "Found", "Passed", "find_sources", "listed_paths"]


@dataclass(frozen=True)
class CtSource:
    """One CT on disk.

    Attributes
    ----------
    path : Path
        The volume file, or the first file of the series: for messages on the terminal.
    place : str
        Where it lies below what the user gave, and its series: its name from run to run.
    files : tuple of Path
        Its files.
    stack : DicomStack or None
        The slices, of a DICOM series.
    """

    path: Path
    place: str
    files: tuple[Path, ...]
    stack: DicomStack | None = None

    def read(self, *, allow_gaps: bool = False, allow_resampling: bool = True) -> Volume:
        """The CT, as `napari_cxr3d.io.read_ct` gives it; same errors."""
        if self.stack is None:
            return read_volume_file(self.path, allow_resampling=allow_resampling)
        return read_dicom_stack(
            self.stack,
            self.path,
            allow_gaps=allow_gaps,
            allow_resampling=allow_resampling,
        )

    def stamp(self) -> str:
        """Sizes and times of change of the files: another stamp, another content."""
        states = [file.stat() for file in self.files]
        newest = max(state.st_mtime_ns for state in states)
        return f"{len(states)}-{sum(state.st_size for state in states)}-{newest}"

    def patient_text(self) -> str:
        """What tells the patient apart, to be hashed: never to be stored.

        The DICOM patient id with its issuer; where that is empty, name and birth date, else the
        study; for a volume file its name (see `identity.patient_from_name`).
        """
        if self.stack is None:
            return f"name:{patient_from_name(self.path.name)}"
        tags = [
            "PatientID",
            "IssuerOfPatientID",
            "PatientName",
            "PatientBirthDate",
            "StudyInstanceUID",
        ]
        header = read_header(self.files[0], tags=tags)
        number, issuer, name, birth, study = (text(header, tag).strip() for tag in tags)
        if number:
            return f"id:{issuer}:{number}"
        return f"name:{name}:{birth}" if name else f"study:{study}"


@dataclass(frozen=True)
class Passed:
    """Something that was found and cannot be used.

    Attributes
    ----------
    path : Path
        For the terminal.
    place : str
        Its name from run to run.
    reason : str
        Why, without a path.
    broken : bool
        Whether it is a CT that cannot be read, rather than something else (a scout view).
    """

    path: Path
    place: str
    reason: str
    broken: bool


@dataclass(frozen=True)
class Found:
    """What there is to prepare."""

    sources: tuple[CtSource, ...]
    passed: tuple[Passed, ...]


def listed_paths(path: Path) -> list[Path]:
    """The paths of a list: one a line, or the column ``path`` of a CSV table.

    Relative paths begin at the list's folder; empty lines and lines after ``#`` count for nothing.

    Raises
    ------
    UnreadableFileError
        If the list cannot be read as text.
    InvalidInputError
        If a table has no such column, or nothing is listed.
    """
    path = existing_path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(
            "The list cannot be read", why="it is no text in UTF-8", path=path
        ) from error
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(content.splitlines())
        if "path" not in (rows.fieldnames or ()):
            raise InvalidInputError(
                "The table has no column called 'path'",
                why=f"it has {', '.join(rows.fieldnames or ()) or 'none'}",
                path=path,
            )
        names: Iterable[str] = ((row["path"] or "").strip() for row in rows)
    else:
        names = (line.partition("#")[0].strip() for line in content.splitlines())
    listed = [path.parent / name for name in names if name]
    if not listed:
        raise InvalidInputError("The list names no file", path=path)
    return listed


def find_sources(
    source: str | Path,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Found:
    """All CTs of a folder and its subfolders, of a volume file, or of a list (.txt, .csv).

    Parameters
    ----------
    source : str or Path
        What the user gave.
    progress, cancel : optional
        Progress over files, and cancellation between them.

    Raises
    ------
    UnreadableFileError
        If nothing is there.
    Cancelled
        If the user cancelled.
    """
    path = existing_path(source)
    if path.is_file() and path.suffix.lower() in (".txt", ".csv", ".lst"):
        return _of_list(path, progress, cancel)
    root = path if path.is_dir() else path.parent
    return _below(path, root, progress, cancel)


def _of_list(path: Path, progress: ProgressCallback | None, cancel: CancelToken | None) -> Found:
    sources: dict[str, CtSource] = {}
    passed: dict[str, Passed] = {}
    listed = listed_paths(path)
    for number, item in enumerate(listed):
        if progress is not None:
            progress(Progress(number, len(listed), "looking at files"))
        try:
            found = _below(item, path.parent, None, cancel)
        except Cxr3dError as error:
            place = _place(item, path.parent)
            passed[place] = Passed(item, place, _reason(error), broken=True)
            continue
        sources.update((s.place, s) for s in found.sources)
        passed.update((p.place, p) for p in found.passed)
    return Found(tuple(sources.values()), tuple(passed.values()))


def _below(
    path: Path, root: Path, progress: ProgressCallback | None, cancel: CancelToken | None
) -> Found:
    found = catalogue(path, progress=progress, cancel=cancel)
    sources, passed = [], []
    for entry in found.entries:
        first = entry.files[0]
        place = _series_place(entry, root)
        if entry.kind == "ct":
            sources.append(CtSource(first, place, entry.files, found.stacks.get(entry.uid)))
        else:
            broken = is_volume_file(first)
            passed.append(Passed(first, place, entry.reason, broken=broken))
    if found.n_unreadable:
        reason = f"{found.n_unreadable} damaged DICOM file(s)"
        passed.append(Passed(path, f"{_place(path, root)}#damaged", reason, broken=True))
    sources.sort(key=lambda s: s.place)
    passed.sort(key=lambda p: p.place)
    return Found(tuple(sources), tuple(passed))


def _series_place(entry: SeriesEntry, root: Path) -> str:
    files: Sequence[Path] = entry.files
    if is_volume_file(files[0]):
        return _place(files[0], root)
    folder = Path(os.path.commonpath([str(file.parent) for file in files]))
    return f"{_place(folder, root)}#{entry.uid}"


def _place(path: Path, root: Path) -> str:
    """The path below the root, the same on every machine; the whole path elsewhere."""
    absolute = Path(os.path.abspath(path))
    base = Path(os.path.abspath(root))
    if absolute.is_relative_to(base):
        return absolute.relative_to(base).as_posix()
    return absolute.as_posix()


def _reason(error: Cxr3dError) -> str:
    """What and why of an error, without its path."""
    return f"{error.what}: {error.why}" if error.why else error.what
