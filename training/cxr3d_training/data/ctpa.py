"""CTs as X-ray2CTPA sees them: a window, the lungs' box, one size, two halves; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.resample import resample
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume
from napari_cxr3d.imaging.masks import lung_mask
from napari_cxr3d.models.hu_window import HuWindow

__all__ = ["CTPA_SHAPE", "CTPA_WINDOW", "CtpaInput", "ctpa_input"]

CTPA_SHAPE = (128, 256, 256)
CTPA_WINDOW = HuWindow(-100.0, 900.0)
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CtpaInput:
    """A CT in X-ray2CTPA's size and range, and where it came from.

    Attributes
    ----------
    values : ndarray of float32, shape (I, P, L)
        Between the ends of the window's range, -1 to 1.
    window : HuWindow
        HU and that range.
    grid : Grid
        Where the voxels lie.
    box : Grid
        The part of the CT's own grid that was kept.
    source : Grid
        The CT's own grid.
    """

    values: Array
    window: HuWindow
    grid: Grid
    box: Grid
    source: Grid

    def halves(self) -> tuple[Array, Array]:
        """The even and the odd axial slices: two samples of one patient, (I / 2, P, L) each."""
        return self.values[0::2], self.values[1::2]

    def half_grid(self, half: int) -> Grid:
        """Where the voxels of a half lie: 0 are the even slices, 1 the odd ones."""
        if half not in (0, 1):
            raise InvalidInputError("A CT has two halves, 0 and 1", why=f"{half} was asked for")
        i, p, ell = self.grid.shape
        si, sp, sl = self.grid.spacing_mm
        x, y, z = self.grid.origin_lps
        return Grid((i // 2, p, ell), (2 * si, sp, sl), (x, y, z - half * si))

    def restored(
        self,
        values: npt.NDArray[Any] | tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None,
        *,
        outside_hu: float | None = None,
        synthetic: bool = True,
    ) -> Volume:
        """Values of this size as HU on the CT's own grid.

        Parameters
        ----------
        values : ndarray (I, P, L), or two of shape (I / 2, P, L), optional
            In the network's range, whole or as both halves; this CT's own if None.
        outside_hu : float, optional
            What lies around the lungs' box, where nothing is known; the window's low end if None.
        synthetic : bool
            Whether no scanner measured them. False is for this CT's own values.

        Raises
        ------
        InvalidInputError
            If the values have another size.
        """
        if isinstance(values, tuple):
            values = interleaved(*values)
        whole = self.values if values is None else np.asarray(values, np.float32)
        if whole.shape != self.grid.shape:
            raise InvalidInputError(
                "The values are not of this CT's size",
                why=f"they are {whole.shape}, it is {self.grid.shape}",
            )
        hu = np.full(
            self.source.shape, self.window.low if outside_hu is None else outside_hu, np.float32
        )
        first = np.rint(self.source.lps_to_index(self.box.origin_lps)).astype(int)
        place = tuple(slice(a, a + n) for a, n in zip(first, self.box.shape, strict=True))
        hu[place] = resample(self.window.decode(whole), self.grid, self.box)
        return Volume(hu, self.source.spacing_mm, self.source.origin_lps, synthetic=synthetic)


def ctpa_input(
    volume: Volume,
    *,
    shape: Sequence[int] = CTPA_SHAPE,
    window: HuWindow = CTPA_WINDOW,
    margin_mm: float = 0.0,
) -> CtpaInput:
    """A CT as X-ray2CTPA is trained on it (Cahan et al., 2024, section on data).

    The window is clipped, the box of the lungs cut out and brought to one size; its spacing is
    then the patient's own, and nothing of it reaches the network. The publication resamples to
    1 mm in between and finds the lungs by a network (lungmask); here one interpolation does both,
    and `napari_cxr3d.imaging.masks.lung_mask` finds them.

    Parameters
    ----------
    volume : Volume
        A CT of the chest.
    shape : sequence of 3 int
        Voxels along (I, P, L); the first is even.
    window : HuWindow
        The published one is -100 to 900 HU; its code has others in places.
    margin_mm : float
        Kept around the lungs, as far as the CT reaches.

    Raises
    ------
    InvalidInputError
        If no lungs are found, or the size cannot be used.
    """
    if len(shape) != 3 or min(shape) < 2 or shape[0] % 2:
        raise InvalidInputError(
            "The size cannot be used",
            why=f"it is {tuple(shape)}",
            remedy="give three numbers, the first of them even",
        )
    lungs = lung_mask(volume)
    if not lungs.any():
        raise InvalidInputError(
            "No lungs were found in the CT",
            why="nothing large lies below -400 HU within a body",
            remedy="check that it shows a chest, in Hounsfield units",
        )
    found = [np.flatnonzero(lungs.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    more = [round(margin_mm / s) for s in volume.spacing_mm]
    low = [max(0, int(f[0]) - m) for f, m in zip(found, more, strict=True)]
    high = [min(n, int(f[-1]) + 1 + m) for f, m, n in zip(found, more, volume.shape, strict=True)]
    x, y, z = volume.grid.index_to_lps(np.array(low, float))
    size = [b - a for a, b in zip(low, high, strict=True)]
    box = Grid((size[0], size[1], size[2]), volume.spacing_mm, (float(x), float(y), float(z)))
    grid = _resized(box, shape)
    part = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    values = window.encode(resample(part, box, grid))
    return CtpaInput(values, window, grid, box, volume.grid)


def interleaved(even: npt.NDArray[Any], odd: npt.NDArray[Any]) -> Array:
    """The volume of its even and odd slices.

    Raises
    ------
    InvalidInputError
        If they do not belong together.
    """
    if even.ndim != 3 or even.shape != odd.shape:
        raise InvalidInputError(
            "The halves of a volume have one shape", why=f"they are {even.shape} and {odd.shape}"
        )
    whole = np.empty((2 * len(even), *even.shape[1:]), np.float32)
    whole[0::2], whole[1::2] = even, odd
    return whole


def _resized(grid: Grid, shape: Sequence[int]) -> Grid:
    """The same box cut into other voxels."""
    spacing = [size / int(n) for size, n in zip(grid.size_mm, shape, strict=True)]
    return Grid.centered(shape, spacing, grid.center_lps)
