"""What the user knows of the scans: a CSV table with patient, split, licence, report, labels."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxr3d_training.data.split import Side, check_side
from napari_cxr3d.errors import InvalidInputError, UnreadableFileError
from napari_cxr3d.io.guard import existing_path

__all__ = ["Row", "Table", "read_table"]

Label = bool | int | float | str | None

_IDENTIFYING = frozenset(
    {"name", "patient_name", "patientname", "birth_date", "birthdate", "date_of_birth", "dob"}
    | {"mrn", "accession", "accession_number", "accessionnumber", "ssn"}
    | {"address", "phone", "email"}
)
_WORDS: Mapping[str, Label] = {
    "": None,
    "na": None,
    "nan": None,
    "none": None,
    "unknown": None,
    "true": True,
    "yes": True,
    "false": False,
    "no": False,
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    path : str
        As it stands in the table.
    patient : str
        In the table's words; hashed before it is stored. Empty where the table says nothing.
    side : side or None
        The side that the table asks for.
    licence, report : str
        Empty where the table says nothing.
    labels : dict
        The other columns: numbers, ``yes``/``no``, words; None is unknown.
    """

    path: str
    patient: str = ""
    side: Side | None = None
    licence: str = ""
    report: str = ""
    labels: dict[str, Label] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """The rows by the path that they speak of.

    Attributes
    ----------
    rows : dict of str to Row
        By absolute path.
    dropped : tuple of str
        Columns that name a patient and are not taken over.
    """

    rows: dict[str, Row]
    dropped: tuple[str, ...] = ()

    def row_of(self, path: Path) -> Row | None:
        """The row that names a file or the nearest folder that it lies in."""
        absolute = Path(os.path.abspath(path))
        for candidate in (absolute, *absolute.parents):
            row = self.rows.get(str(candidate))
            if row is not None:
                return row
        return None


def read_table(path: str | Path, root: Path) -> Table:
    """A table in CSV.

    Columns: ``path`` (of a file or a folder, relative to `root` or else to the table),
    ``patient``, ``split``, ``licence``, ``report``; every other column is a label. Columns that
    name a patient, such as ``birth_date``, are left out.

    Parameters
    ----------
    path : str or Path
        The table.
    root : Path
        The folder that is being prepared.

    Raises
    ------
    UnreadableFileError
        If it cannot be read as text.
    InvalidInputError
        If there is no column ``path``, a row names no side that exists, or two rows name one path.
    """
    path = existing_path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(
            "The table cannot be read",
            why="it is no CSV in UTF-8",
            remedy="save it as CSV in UTF-8",
            path=path,
        ) from error
    columns = [name for name in reader.fieldnames or () if name]
    if "path" not in columns:
        raise InvalidInputError(
            "The table has no column called 'path'",
            why=f"it has {', '.join(columns) or 'none'}",
            remedy="name the file or folder of each scan in a column called path",
            path=path,
        )
    dropped = tuple(c for c in columns if c.lower().replace(" ", "_") in _IDENTIFYING)
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=2):
        row = _row(line, columns, dropped, path, number)
        if row is None:
            continue
        where = os.path.abspath(_resolved(row.path, root, path.parent))
        if where in rows:
            raise InvalidInputError(
                f"Two rows of the table name {row.path}",
                remedy="keep one of them",
                path=path,
            )
        rows[where] = row
    return Table(rows, dropped)


def _resolved(name: str, root: Path, beside: Path) -> Path:
    below = root / name
    return below if below.exists() else beside / name


def _row(
    line: Mapping[str, str | None],
    columns: list[str],
    dropped: tuple[str, ...],
    path: Path,
    number: int,
) -> Row | None:
    cells = {name: (line.get(name) or "").strip() for name in columns}
    where = cells.pop("path")
    if not where:
        return None
    side = cells.pop("split", "")
    try:
        wanted = check_side(side) if side else None
    except InvalidInputError as error:
        raise InvalidInputError(
            error.what, why=f"it stands in row {number}", remedy=error.remedy, path=path
        ) from None
    licence = cells.pop("licence", "") or cells.pop("license", "")
    cells.pop("license", None)
    return Row(
        path=where,
        patient=cells.pop("patient", ""),
        side=wanted,
        licence=licence,
        report=cells.pop("report", ""),
        labels={name: _label(text) for name, text in cells.items() if name not in dropped},
    )


def _label(text: str) -> Label:
    """A cell as a truth value, a number, or the words that it holds."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = float(text)
    except ValueError:
        return text
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and "." not in text else value
