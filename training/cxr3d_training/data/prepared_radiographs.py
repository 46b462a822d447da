"""Real radiographs as a world model is shown them: on its detector, slightly changed each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.memory import Memory
from cxr3d_training.data.radiographs import RadiographCase, RadiographList, open_radiographs
from napari_cxr3d.inference.xray_input import guess_input, prepare_inputs

__all__ = ["PreparedRadiographs", "prepared_picture"]

FloatArray = npt.NDArray[np.float32]

_MEMORY = 1 << 30
_SHIFT = 0.06
_ZOOM = 0.08
_GAMMA = 0.35
_NOISE = 0.03


def prepared_picture(
    case: RadiographCase, detector_shape: tuple[int, int], field_mm: float
) -> FloatArray:
    """A radiograph brought to a detector as `prepare_inputs` does for any file, 0 to 1.

    What its user would confirm is taken as it was guessed.
    """
    guess = guess_input(case.radiograph()).input
    prepared = prepare_inputs([guess], detector_shape=detector_shape, field_mm=field_mm)
    picture: FloatArray = prepared.pictures[0]
    return picture


class PreparedRadiographs:
    """Draws radiographs of the training side of a folder.

    Parameters
    ----------
    folder : path-like
        See `open_radiographs`.
    detector_shape : tuple of 2 int
        Rows and columns.
    field_mm : float
        Edge of the detector along its columns.
    """

    def __init__(
        self, folder: str | Path, detector_shape: tuple[int, int], field_mm: float
    ) -> None:
        self.cases: RadiographList = open_radiographs(folder).split("train")
        self._shape, self._field = detector_shape, field_mm
        self._memory: Memory[FloatArray] = Memory(_MEMORY)

    def draw(self, rng: np.random.Generator) -> FloatArray:
        """One of them, shifted, scaled, with another gradation and noise, 0 to 1."""
        from scipy.ndimage import affine_transform

        case = self.cases.draw(rng)
        picture = self._memory.get(
            case.id, lambda: prepared_picture(case, self._shape, self._field)
        )
        zoom = (1 + _ZOOM) ** rng.uniform(-1, 1)
        middle = (np.array(picture.shape) - 1) / 2
        shift = rng.uniform(-_SHIFT, _SHIFT, 2) * picture.shape
        moved = affine_transform(
            picture, np.full(2, 1 / zoom), middle - (middle + shift) / zoom, order=1
        )
        toned = np.clip(moved, 0, 1) ** np.exp(rng.uniform(-_GAMMA, _GAMMA))
        noise = rng.normal(0, _NOISE * rng.random(), picture.shape)
        drawn: FloatArray = np.clip(toned + noise * (moved > 0), 0, 1).astype(np.float32)
        return drawn
