"""``cxr3d info``: what a file or folder holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_cxr3d.cli.options import ReadingOptions
from napari_cxr3d.errors import ConsentRequiredError
from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import consent_option

if TYPE_CHECKING:
    from napari_cxr3d.io import Inspection, SeriesEntry

__all__ = ["info"]

_KINDS = {"ct": "CT", "cxr": "chest X-ray"}


def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            show_default=False,
            help="A CT or a chest X-ray: a DICOM folder or file, NIfTI, NRRD, MHA, PNG, JPEG "
            "or TIFF.",
        ),
    ],
    reading: ReadingOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a CT or a chest X-ray.

    Size, spacing, orientation, range of values, and what was mended or assumed. A CT that
    drr and sweep would refuse to read without consent is described all the same, with a
    warning that names the option which gives the consent.
    """
    inspection, consent = _inspect(path, reading)
    series = _series(path) if inspection.n_series > 1 else ()
    record = inspection.to_dict()
    record["warnings"] += list(consent.values())
    record["consent_needed"] = list(consent)
    record["series"] = [_series_record(number, entry) for number, entry in enumerate(series)]
    record.setdefault("hu_range", None)
    if as_json:
        console.result_json(record)
    else:
        console.result(_text(record))


def _inspect(path: Path, reading: ReadingOptions) -> tuple[Inspection, dict[str, str]]:
    """The facts, and for each consent that was needed and not given a warning."""
    from napari_cxr3d.io import inspect_path

    missing: dict[str, str] = {}
    with console.progress_bar("Reading") as progress:
        while True:
            try:
                found = inspect_path(
                    path,
                    series=reading.series,
                    allow_gaps=reading.allow_gaps,
                    allow_resampling=reading.allow_resampling,
                    progress=progress,
                )
            except ConsentRequiredError as error:
                if getattr(reading, error.consent):
                    raise
                given: dict[str, Any] = {error.consent: True}
                reading = replace(reading, **given)
                option = consent_option(error)
                missing[option] = f"{error.what}: {error.why}. Reading it needs {option}."
            else:
                return found, missing


def _series(path: Path) -> tuple[SeriesEntry, ...]:
    from napari_cxr3d.io import list_series

    with console.progress_bar("Listing series") as progress:
        return list_series(path, progress=progress)


def _series_record(number: int, entry: SeriesEntry) -> dict[str, Any]:
    return {
        "number": number,
        "uid": entry.uid,
        "kind": entry.kind,
        "modality": entry.modality,
        "description": entry.description,
        "shape": None if entry.shape is None else list(entry.shape),
        "spacing_mm": None if entry.spacing_mm is None else list(entry.spacing_mm),
    }


def _text(record: dict[str, Any]) -> str:
    """The record for people."""
    is_ct = record["kind"] == "ct"
    spacing = record["spacing_mm"]
    low, high = record["value_range"]
    rows: list[tuple[str, ...]] = [
        ("kind", f"{_KINDS[record['kind']]} ({record['file_kind']})"),
        ("description", record["description"]),
        ("shape", " x ".join(str(n) for n in record["shape"])),
        ("spacing", "unknown" if spacing is None else f"{_numbers(spacing)} mm"),
        ("axes", record["axes"]),
        ("HU range" if is_ct else "value range", f"{low:g} to {high:g}"),
        ("orientation", record["orientation"]),
    ]
    if record["size_mm"] is not None:
        rows.insert(4, ("size", f"{_numbers(record['size_mm'])} mm"))
    blocks = [console.table(rows, indent="")]
    if record["series"]:
        listed = [(f"{e['number']}", e["kind"], _shown(e)) for e in record["series"]]
        blocks.append("series (choose with --series)\n" + console.table(listed))
    if record["warnings"]:
        blocks.append("warnings\n" + "\n".join(f"  {w}" for w in record["warnings"]))
    return "\n".join(blocks)


def _shown(entry: dict[str, Any]) -> str:
    shape = "unknown size" if entry["shape"] is None else " x ".join(map(str, entry["shape"]))
    spacing = "" if entry["spacing_mm"] is None else f" at {_numbers(entry['spacing_mm'])} mm"
    return f"{entry['modality']} {shape}{spacing}  {entry['description']}".rstrip()


def _numbers(values: list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
