"""Unit vectors of the patches of a picture, to be compared with those of another.

The tokens of a world model, or as a baseline the pixels themselves: the cosine of standardised
pixels is their normalised cross-correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    from napari_cxr3d.inference.world_models import LoadedWorldModel

__all__ = [
    "BRANCHES",
    "RAW",
    "Branch",
    "PatchFeatures",
    "features_from_tokens",
    "patch_features",
    "patch_features_of",
    "raw_patches",
]

FloatImage = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Branch = Literal["encoder", "target"]

BRANCHES: tuple[Branch, ...] = get_args(Branch)
"""The encoders of a world model: the trained one, and the one of slowly moving weights."""

RAW = "raw patches"
"""What `PatchFeatures.model` says of pixels."""

_CENTRE = False
_BRANCH: Branch = "encoder"
_RAW_SIDE_MM = 55.0  # of the window on the detector: two patches of the demo model
_LEAST = 1e-6  # length of a vector that still has a direction
_BATCH = 16


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """The patches of a picture as unit vectors.

    Attributes
    ----------
    tokens : ndarray of float32, shape (rows, cols, D)
        Of unit length; 0 where a patch has no direction.
    picture : OrbitPicture
        What they were made of.
    model : str
        Whose tokens they are; `RAW` for pixels. Only features of one kind can be compared.
    """

    tokens: FloatImage
    picture: OrbitPicture
    model: str

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, cols, _ = self.tokens.shape
        return rows, cols

    @property
    def step(self) -> FloatArray:
        """Detector pixels from one patch to the next along (rows, columns), shape (2,)."""
        return np.divide(self.picture.shape, self.grid)

    def to_patch(self, detector: npt.ArrayLike) -> FloatArray:
        """Fractional patch (row, column) of detector points, centres whole, shape (..., 2)."""
        return (np.asarray(detector, np.float64) + 0.5) / self.step - 0.5

    def at(self, detector: npt.ArrayLike) -> FloatImage:
        """Unit vectors at detector points, between the patches bilinear, shape (..., D).

        Parameters
        ----------
        detector : array_like, shape (..., 2)
            Detector (row, column); beyond the outer patches' centres theirs are taken.
        """
        place = np.clip(self.to_patch(detector), 0, np.subtract(self.grid, 1))
        low = np.minimum(np.floor(place).astype(np.intp), np.maximum(np.subtract(self.grid, 2), 0))
        high = np.minimum(low + 1, np.subtract(self.grid, 1))
        part = (place - low)[..., None].astype(np.float32)
        (r0, c0), (r1, c1) = np.moveaxis(low, -1, 0), np.moveaxis(high, -1, 0)
        down, along = part[..., 0, :], part[..., 1, :]
        above = self.tokens[r0, c0] * (1 - along) + self.tokens[r0, c1] * along
        below = self.tokens[r1, c0] * (1 - along) + self.tokens[r1, c1] * along
        return _unit(above * (1 - down) + below * down)

    def valid(self) -> npt.NDArray[np.bool_]:
        """Which patches lie with their middle on the picture, shape (rows, cols)."""
        rows, cols = (
            np.clip(((np.arange(n) + 0.5) * step).astype(np.intp), 0, size - 1)
            for n, step, size in zip(self.grid, self.step, self.picture.shape, strict=True)
        )
        return np.asarray(self.picture.valid[np.ix_(rows, cols)])


def patch_features(
    picture: OrbitPicture,
    loaded: LoadedWorldModel,
    *,
    centre: bool = _CENTRE,
    branch: Branch = _BRANCH,
) -> PatchFeatures:
    """The tokens that a world model makes of a picture, as unit vectors.

    Parameters
    ----------
    picture : OrbitPicture
        On the model's detector.
    loaded : LoadedWorldModel
        The model.
    centre : bool
        Whether the mean token of the picture is taken off first: what all patches share then
        does not make them alike.
    branch : {"encoder", "target"}
        Which of its encoders.

    Raises
    ------
    InvalidInputError
        If the picture lies on another detector, or there is no such branch.
    """
    return patch_features_of([picture], loaded, centre=centre, branch=branch)[0]


def patch_features_of(
    pictures: Sequence[OrbitPicture],
    loaded: LoadedWorldModel,
    *,
    centre: bool = _CENTRE,
    branch: Branch = _BRANCH,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[PatchFeatures, ...]:
    """As `patch_features`, for many pictures, such as a sweep.

    Parameters
    ----------
    pictures : sequence of OrbitPicture
        On the model's detector.
    loaded, centre, branch
        As for `patch_features`.
    progress, cancel : optional
        Progress over the pictures, and cancellation between batches of them.

    Raises
    ------
    InvalidInputError
        As `patch_features`.
    Cancelled
        If the token was cancelled.
    """
    import torch

    if branch not in BRANCHES:
        raise InvalidInputError(
            f"A world model has no branch called {branch!r}",
            remedy=f"choose one of {', '.join(BRANCHES)}",
        )
    model = loaded.model
    for picture in pictures:
        if picture.shape != model.detector_shape:
            raise InvalidInputError(
                "The picture lies on another detector than the model's",
                why=f"{picture.shape} pixels, and the model has {model.detector_shape}",
                remedy="prepare it for this model",
            )
    read = model.encode if branch == "encoder" else model.target
    kind = f"{loaded.name} {loaded.sha256[:12]} {branch}{' centred' if centre else ''}"
    made: list[PatchFeatures] = []
    for first in range(0, len(pictures), _BATCH):
        if cancel is not None:
            cancel.raise_if_cancelled()
        some = pictures[first : first + _BATCH]
        pixels = torch.from_numpy(np.stack([p.pixels for p in some])).to(loaded.device)
        with torch.inference_mode():
            tokens = read(pixels).float().cpu().numpy()
        for picture, each in zip(some, tokens, strict=True):
            shaped = each.reshape(*model.grid, -1)
            made.append(features_from_tokens(shaped, picture, kind, centre=centre))
        if progress is not None:
            progress(Progress(len(made), len(pictures), f"picture {len(made)}"))
    return tuple(made)


def features_from_tokens(
    tokens: npt.NDArray[np.float32], picture: OrbitPicture, model: str, *, centre: bool = _CENTRE
) -> PatchFeatures:
    """Features of tokens that were made elsewhere, such as by another network.

    Parameters
    ----------
    tokens : ndarray of float32, shape (rows, cols, D)
        Of the patches, which share the detector out evenly.
    picture : OrbitPicture
        What they were made of.
    model : str
        By which they are told apart from others.
    centre : bool
        As for `patch_features`; the mean is that of the valid patches.
    """
    plain = PatchFeatures(np.asarray(tokens, np.float32), picture, model)
    if not centre:
        return PatchFeatures(_unit(plain.tokens), picture, model)
    valid = plain.valid()
    mean = plain.tokens[valid].mean(axis=0) if valid.any() else plain.tokens.mean(axis=(0, 1))
    return PatchFeatures(_unit(plain.tokens - mean), picture, model)


def raw_patches(picture: OrbitPicture, *, side_mm: float = _RAW_SIDE_MM) -> PatchFeatures:
    """Windows of pixels about every pixel, standardised: their cosine is the NCC.

    A baseline that knows nothing of chests; `PatchFeatures.step` is one pixel.

    Parameters
    ----------
    picture : OrbitPicture
        Any.
    side_mm : float
        Edge of the windows on the detector.
    """
    side = max(3, 2 * round(side_mm / picture.view.pixel_mm / 2) + 1)
    padded = np.pad(picture.pixels, side // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    tokens = windows.reshape(*picture.shape, side * side).astype(np.float32)
    tokens -= tokens.mean(axis=-1, keepdims=True)
    return PatchFeatures(_unit(tokens), picture, f"{RAW} of {side} pixels")


def _unit(vectors: npt.NDArray[np.float32]) -> FloatImage:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > _LEAST)
    return np.asarray(unit, np.float32)
