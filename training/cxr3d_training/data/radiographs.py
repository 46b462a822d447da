"""Real radiographs: split by patient like the CTs, and brought to one size and scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.identity import PUBLIC, Identities, patient_from_name
from cxr3d_training.data.memory import Memory
from cxr3d_training.data.split import (
    DEFAULT_FRACTIONS,
    SIDES,
    Side,
    assign_sides,
    check_disjoint,
    check_side,
)
from cxr3d_training.data.table import Label, Row, Table, read_table
from napari_cxr3d.errors import InvalidInputError, UnsupportedFileError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.io import read_cxr, sniff
from napari_cxr3d.io.dicom_series import walk_files
from napari_cxr3d.io.guard import existing_path

__all__ = ["RadiographCase", "RadiographList", "RadiographSet", "open_radiographs", "picture_of"]

FloatImage = npt.NDArray[np.float32]

_MEMORY = 512 << 20


@dataclass(frozen=True, eq=False)
class RadiographCase:
    """One radiograph; its pixels are read when they are asked for.

    Attributes
    ----------
    id : str
        A hash of its place in the folder.
    patient : str
        A hash (see `identity`).
    view : str
        ``"PA"``, ``"AP Supine"``, ``"L"``..., as the table says it; empty where it does not.
    labels : mapping
        The table's other columns.
    licence : str
        Under which it may be used; empty where nobody said.
    path : Path
        Its file; it may hold a name, so it stays out of logs.
    """

    id: str
    patient: str
    view: str
    labels: Mapping[str, Label]
    licence: str
    path: Path = field(repr=False)
    _memory: Memory[FloatImage] = field(repr=False)

    def radiograph(self) -> Radiograph:
        """The picture as `napari_cxr3d.io.read_cxr` gives it."""
        return read_cxr(self.path)

    def picture(self, size: int | tuple[int, int], *, fit: str = "pad") -> FloatImage:
        """Grey values from 0 to 1 at one size; see `picture_of`. Kept in memory."""
        key = (self.id, size, fit)
        return self._memory.get(key, lambda: picture_of(self.radiograph(), size, fit=fit))


class RadiographList(Sequence[RadiographCase]):
    """The radiographs of one side of a split."""

    def __init__(self, cases: Sequence[RadiographCase]) -> None:
        self._cases = tuple(cases)

    def draw(self, rng: np.random.Generator) -> RadiographCase:
        """One of them at random: every patient alike, then every picture of the patient.

        So a patient with a long stay does not outweigh the others.

        Raises
        ------
        InvalidInputError
            If there is none.
        """
        if not self._cases:
            raise InvalidInputError(
                "This side of the split has no radiograph",
                remedy="give more patients, or a larger share",
            )
        patients = list(dict.fromkeys(case.patient for case in self._cases))
        patient = patients[int(rng.integers(len(patients)))]
        theirs = [case for case in self._cases if case.patient == patient]
        return theirs[int(rng.integers(len(theirs)))]

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, index: int) -> RadiographCase: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RadiographCase, ...]: ...
    def __getitem__(self, index: int | slice) -> RadiographCase | tuple[RadiographCase, ...]:
        return self._cases[index]

    def __iter__(self) -> Iterator[RadiographCase]:
        return iter(self._cases)


class RadiographSet:
    """Radiographs and the side of the split that each is on.

    Parameters
    ----------
    cases : sequence of (RadiographCase, side)
        In a fixed order.

    Raises
    ------
    InvalidInputError
        If a patient is on two sides.
    """

    def __init__(self, cases: Sequence[tuple[RadiographCase, Side]]) -> None:
        check_disjoint([(case.patient, side) for case, side in cases])
        self._sides = {side: [case for case, on in cases if on == side] for side in SIDES}

    @property
    def cases(self) -> tuple[RadiographCase, ...]:
        """All of them, those of the training side first."""
        return tuple(case for side in SIDES for case in self._sides[side])

    def __len__(self) -> int:
        return sum(map(len, self._sides.values()))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self._sides[side])} {side}" for side in SIDES)
        return f"RadiographSet({counts})"

    def split(self, side: str) -> RadiographList:
        """The radiographs of one side: train, validation or test."""
        return RadiographList(self._sides[check_side(side)])


def open_radiographs(
    folder: str | Path,
    *,
    table: str | Path | None = None,
    views: Sequence[str] | None = None,
    fractions: Mapping[Side, float] = DEFAULT_FRACTIONS,
    split_seed: int = 0,
    identities: Identities = PUBLIC,
    memory_bytes: int = _MEMORY,
) -> RadiographSet:
    """All chest radiographs of a folder and its subfolders.

    Parameters
    ----------
    folder : str or Path
        PNG, JPEG, TIFF or DICOM files.
    table : str or Path, optional
        CSV with ``path``, ``patient``, ``view``, ``licence`` and labels (see `table.read_table`).
        Without it, file names tell patients apart.
    views : sequence of str, optional
        Keep those whose view begins with one of these words, as in ``("PA", "AP")``.
    fractions, split_seed : optional
        Shares of the sides, and another split.
    identities : Identities
        The secret that patients are hashed with.
    memory_bytes : int
        How much is kept in memory.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError
        If nothing is there, or no radiograph.
    InvalidInputError
        If the table puts a patient on two sides.
    """
    root = existing_path(folder)
    known = Table({}) if table is None else read_table(table, root)
    memory: Memory[FloatImage] = Memory(memory_bytes)
    found: list[tuple[RadiographCase, Row]] = []
    for path in walk_files(root) if root.is_dir() else (root,):
        row = known.row_of(path)
        if sniff(path) != "cxr" or (table is not None and row is None):
            continue
        row = row or Row(path.name)
        labels = dict(row.labels)
        view = str(labels.pop("view", "") or "")
        if views is not None and not view.lower().startswith(tuple(v.lower() for v in views)):
            continue
        named = f"table:{row.patient}" if row.patient else f"name:{patient_from_name(path.name)}"
        place = path.relative_to(root).as_posix() if root.is_dir() else path.name
        case = RadiographCase(
            identities.place(place)[:16],
            identities.patient(named),
            view,
            labels,
            row.licence,
            path,
            memory,
        )
        found.append((case, row))
    if not found:
        raise UnsupportedFileError(
            "There is no chest radiograph",
            why="no picture fits the table and the views" if table or views else "",
            remedy="name a folder of PNG, JPEG, TIFF or DICOM files",
            path=root,
        )
    asked: dict[str, Side] = {}
    check_disjoint([(case.patient, row.side) for case, row in found if row.side is not None])
    asked.update({case.patient: row.side for case, row in found if row.side is not None})
    sides = assign_sides(
        [case.patient for case, _ in found], fractions=fractions, seed=split_seed, kept=asked
    )
    return RadiographSet([(case, sides[case.patient]) for case, _ in found])


def picture_of(
    radiograph: Radiograph, size: int | tuple[int, int], *, fit: str = "pad"
) -> FloatImage:
    """A radiograph's grey values from 0 to 1, at one size, its proportions kept.

    The file's own window is used where it has one, else its range. Coarser pixels are means of
    the finer ones that they cover.

    Parameters
    ----------
    radiograph : Radiograph
        Bone bright.
    size : int or tuple of 2 int
        Rows and columns.
    fit : {"pad", "crop"}
        Put black at two sides, or cut two sides off.

    Returns
    -------
    ndarray of float32, shape `size`

    Raises
    ------
    InvalidInputError
        If `fit` is neither.
    """
    from PIL import Image

    if fit not in ("pad", "crop"):
        raise InvalidInputError(f"There is no way to fit called {fit!r}", remedy="pad or crop")
    rows, cols = (size, size) if isinstance(size, int) else size
    pixels = radiograph.pixels
    low, high = radiograph.display_range or (float(pixels.min()), float(pixels.max()))
    grey = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    choose = min if fit == "pad" else max
    scale = choose(rows / grey.shape[0], cols / grey.shape[1])
    inner = (max(1, round(grey.shape[0] * scale)), max(1, round(grey.shape[1] * scale)))
    image: Any = Image.fromarray(grey).resize(inner[::-1], Image.Resampling.BOX if scale < 1 else 2)
    resized = np.asarray(image, np.float32)
    out = np.zeros((rows, cols), np.float32)
    target, source = [], []
    for outer, has in zip((rows, cols), inner, strict=True):
        n = min(outer, has)
        target.append(slice((outer - n) // 2, (outer - n) // 2 + n))
        source.append(slice((has - n) // 2, (has - n) // 2 + n))
    out[tuple(target)] = resized[tuple(source)]
    out.flags.writeable = False
    return out
