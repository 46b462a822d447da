"""Finding the DICOM series of a folder and the stacks of slices in each."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_cxr3d.errors import GeometryError, UnreadableFileError
from napari_cxr3d.io.dicom_geometry import (
    SAME_POSITION_MM,
    same_orientation,
    slice_distances,
)
from napari_cxr3d.io.dicom_headers import FileHeader, SliceHeader, file_header, positions
from napari_cxr3d.io.series_entry import SeriesEntry, SeriesKind
from napari_cxr3d.io.sniff import is_dicom
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["DicomScan", "DicomStack", "scan_dicom", "walk_files"]

_RADIOGRAPH_MODALITIES = ("CR", "DX", "DR", "RG")


@dataclass(frozen=True)
class DicomStack:
    """Slices of one series that share size, orientation and pixel spacing."""

    entry: SeriesEntry
    slices: tuple[SliceHeader, ...]


@dataclass(frozen=True)
class DicomScan:
    """What was found in a folder.

    Attributes
    ----------
    stacks : tuple of DicomStack
        CT candidates first, the largest first.
    unreadable : tuple of Path
        DICOM files whose header is damaged.
    """

    stacks: tuple[DicomStack, ...]
    unreadable: tuple[Path, ...]


def walk_files(
    folder: Path, *, recursive: bool = True, cancel: CancelToken | None = None
) -> Iterator[Path]:
    """The files of a folder and its subfolders in order, links to folders not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        if not recursive:
            folders.clear()
        for name in sorted(names):
            if cancel is not None:
                cancel.raise_if_cancelled()
            path = Path(parent, name)
            if path.is_file():
                yield path


def scan_dicom(
    paths: Sequence[Path],
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DicomScan:
    """The series among some files; those that are not DICOM are passed over.

    Raises
    ------
    Cancelled
        If the user cancelled.
    """
    headers: list[FileHeader] = []
    unreadable: list[Path] = []
    for done, path in enumerate(paths):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if progress is not None and done % 16 == 0:
            progress(Progress(done, len(paths), "looking at files"))
        if not is_dicom(path):
            continue
        try:
            headers.append(file_header(path))
        except UnreadableFileError:
            unreadable.append(path)
    if progress is not None:
        progress(Progress(len(paths), len(paths), "looking at files"))
    by_series: dict[tuple[str, str], list[FileHeader]] = defaultdict(list)
    for header in headers:
        if header.slices:
            by_series[header.series_uid, header.modality].append(header)
    stacks: list[DicomStack] = []
    for (uid, modality), found in by_series.items():
        taken = any(stack.entry.uid == uid for stack in stacks)
        stacks += _stacks(found, f"{uid}#{modality}" if taken else uid)
    stacks.sort(key=lambda s: (s.entry.kind != "ct", -s.entry.n_slices, s.entry.number or 0))
    return DicomScan(tuple(stacks), tuple(unreadable))


def _stacks(headers: Sequence[FileHeader], name: str) -> Iterator[DicomStack]:
    """The stacks of one series, the largest first, which alone bears the plain name."""
    first = headers[0]
    groups = _compatible([s for header in headers for s in header.slices])
    parts = [part for group in groups for part in _split_repeats(group)]
    parts.sort(key=len, reverse=True)
    for number, part in enumerate(parts):
        kind, reason = _kind(first, part)
        spacing = _spacing(part) if kind == "ct" else None
        entry = SeriesEntry(
            uid=name if number == 0 else f"{name}#{number + 1}",
            description=first.description,
            modality=first.modality,
            kind=kind,
            n_slices=len(part),
            shape=(len(part), *part[0].shape),
            spacing_mm=spacing,
            body_part=first.body_part,
            number=first.series_number,
            reason=reason,
            files=tuple(dict.fromkeys(s.path for s in part)),
        )
        yield DicomStack(entry, tuple(part))


def _compatible(slices: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices grouped by size, orientation, pixel spacing and localizer flag."""
    groups: list[list[SliceHeader]] = []
    for one in slices:
        for group in groups:
            if _alike(group[0], one):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _alike(a: SliceHeader, b: SliceHeader) -> bool:
    if a.shape != b.shape or a.localizer != b.localizer:
        return False
    if (a.position is None) != (b.position is None):
        return False
    if a.orientation is None or b.orientation is None:
        return a.orientation is b.orientation
    if a.spacing_mm is None or b.spacing_mm is None:
        return a.spacing_mm is b.spacing_mm
    return same_orientation(a.orientation, b.orientation) and bool(
        np.allclose(a.spacing_mm, b.spacing_mm, rtol=1e-3, atol=0)
    )


def _split_repeats(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Phases of a series that visits the same positions several times.

    Split by temporal position, else by acquisition number, if that leaves each position
    once in every part; otherwise the repeats stay and are judged by their pixels.
    """
    if not _has_repeats(slices):
        return [slices]
    for attribute in ("temporal", "acquisition"):
        parts: dict[int | None, list[SliceHeader]] = defaultdict(list)
        for one in slices:
            parts[getattr(one, attribute)].append(one)
        if len(parts) > 1 and not any(_has_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [slices]


def _has_repeats(slices: Sequence[SliceHeader]) -> bool:
    if len(slices) < 2 or any(s.position is None or s.orientation is None for s in slices):
        return False
    try:
        distances = np.sort(slice_distances(positions(slices), slices[0].orientation or ()))
    except GeometryError:
        return False
    return bool(np.any(np.diff(distances) < SAME_POSITION_MM))


def _kind(header: FileHeader, slices: Sequence[SliceHeader]) -> tuple[SeriesKind, str]:
    """What a stack can be opened as, and why it is no CT."""
    first = slices[0]
    if header.modality in _RADIOGRAPH_MODALITIES:
        return "cxr", f"it is a radiograph (modality {header.modality})"
    if not header.modality:
        return "other", "it does not say its modality"
    if header.modality != "CT":
        return "other", f"its modality is {header.modality}"
    if first.localizer:
        return "localizer", "it is a localizer (scout view)"
    if header.samples != 1:
        return "other", "it holds colour pictures (a screen capture)"
    if first.position is None or first.orientation is None or first.spacing_mm is None:
        return "other", "its headers do not say where the slices lie"
    return "ct", ""


def _spacing(slices: Sequence[SliceHeader]) -> tuple[float, float, float] | None:
    """Median distance of slices, and pixel spacing, in mm; None where it has no sense."""
    first = slices[0]
    if len(slices) < 2 or first.orientation is None or first.spacing_mm is None:
        return None
    try:
        distances = np.sort(slice_distances(positions(slices), first.orientation))
    except GeometryError:
        return None
    steps = np.diff(distances)
    steps = steps[steps > SAME_POSITION_MM]
    if not steps.size:
        return None
    row_mm, column_mm = first.spacing_mm
    return (float(np.median(steps)), row_mm, column_mm)
