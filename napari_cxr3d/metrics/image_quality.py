"""How near a volume is to another: PSNR, SSIM, mean error and Dice, each with its convention.

The same name covers numbers 4 to 5 dB apart in the literature: PSNR of the volume or the mean
over slices, a data range of the HU window or of the file's integer type, air around the body
counted or not. So every number here carries a sentence that says which, and two numbers may
be compared where their sentences agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.progress import CancelToken

__all__ = ["Metric", "dice", "mae_hu", "psnr3d", "slice_psnr", "ssim3d"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Range = tuple[float, float]

SSIM_SIZE = 11
SSIM_SIGMA = 1.5
_SLAB_VOXELS = 1 << 23  # of a slab of SSIM; five float32 maps of it are in memory at once
_EQUAL_SLICE_DB = 100.0  # of a slice without error in X2CT-GAN's code


@dataclass(frozen=True)
class Metric:
    """A measured number and the convention under which it was measured.

    Attributes
    ----------
    name : str
        Such as ``"psnr3d"``.
    value : float
        The number.
    convention : str
        Data range, mask, averaging: everything that changes the number.
    unit : str
        ``"dB"``, ``"HU"`` or empty.
    higher_is_better : bool
        Which way is up.
    """

    name: str
    value: float
    convention: str
    unit: str = ""
    higher_is_better: bool = True

    def __float__(self) -> float:
        return self.value


def psnr3d(estimate: Array, reference: Array, window: Range, *, mask: Mask | None = None) -> Metric:
    """Peak signal-to-noise ratio of the volume as a whole.

    ``10 log10(R^2 / MSE)``, R the width of the window, MSE the mean over all voxels (Wang and
    Bovik, IEEE Signal Proc. Mag. 26, 98-117, 2009).

    Parameters
    ----------
    estimate, reference : ndarray, shape (I, P, L)
        Volumes in HU.
    window : tuple of 2 float
        Low and high HU to which both are clipped; its width is the data range.
    mask : ndarray of bool, shape (I, P, L), optional
        Voxels that count, such as `napari_cxr3d.imaging.masks.body_mask`; all if None.

    Returns
    -------
    Metric
        In dB; infinite for equal volumes.

    Raises
    ------
    InvalidInputError
        If shapes differ, the window is empty, or the mask is empty.
    """
    error = _errors(estimate, reference, window, mask)
    return Metric(
        "psnr3d",
        _decibel(float(np.mean(np.square(error))), window[1] - window[0]),
        f"PSNR of the volume, {_told(window)}, {_counted(mask)}",
        "dB",
    )


def slice_psnr(
    estimate: Array,
    reference: Array,
    window: Range,
    *,
    data_range: float | None = None,
) -> Metric:
    """Mean PSNR over the slices along all three axes, as X2CT-GAN's code reports it.

    Slices that hold little weigh as much as the others, and a slice without error counts
    100 dB, so this number lies above `psnr3d`, by 4 to 5 dB in published tables. It is here
    to be compared with those tables and with nothing else.

    Parameters
    ----------
    estimate, reference : ndarray, shape (I, P, L)
        Volumes in HU.
    window : tuple of 2 float
        Low and high HU to which both are clipped.
    data_range : float, optional
        The peak; the window's width if None. X2CT-GAN's tables take 4095 for a window 2500
        wide, which adds 4.3 dB.

    Returns
    -------
    Metric
        In dB.

    Raises
    ------
    InvalidInputError
        As `psnr3d`, or if the data range is not positive.
    """
    peak = window[1] - window[0] if data_range is None else float(data_range)
    if not 0 < peak < math.inf:
        raise InvalidInputError("The data range must be positive", why=f"it is {peak:g}")
    squared = np.square(_errors(estimate, reference, window, None))
    axes = []
    for axis in range(3):
        mse = squared.mean(axis=tuple(a for a in range(3) if a != axis))
        with np.errstate(divide="ignore"):
            decibel = 10.0 * np.log10(peak**2 / mse)
        axes.append(np.where(mse > 0, decibel, _EQUAL_SLICE_DB).mean())
    return Metric(
        "slice_psnr",
        float(np.mean(axes)),
        f"mean PSNR over the slices of all three axes (X2CT-GAN's way), equal slices "
        f"{_EQUAL_SLICE_DB:g} dB, HU clipped to {window[0]:g} to {window[1]:g}, "
        f"data range {peak:g}, all voxels",
        "dB",
    )


def mae_hu(estimate: Array, reference: Array, window: Range, *, mask: Mask | None = None) -> Metric:
    """Mean absolute error in HU, inside a window.

    Parameters
    ----------
    estimate, reference : ndarray, shape (I, P, L)
        Volumes in HU.
    window : tuple of 2 float
        Low and high HU to which both are clipped: what lies beyond is no error.
    mask : ndarray of bool, shape (I, P, L), optional
        Voxels that count; all if None.

    Returns
    -------
    Metric
        In HU.

    Raises
    ------
    InvalidInputError
        As `psnr3d`.
    """
    error = _errors(estimate, reference, window, mask)
    return Metric(
        "mae_hu",
        float(np.mean(np.abs(error))),
        f"mean absolute error, HU clipped to {window[0]:g} to {window[1]:g}, {_counted(mask)}",
        "HU",
        higher_is_better=False,
    )


def ssim3d(
    estimate: Array,
    reference: Array,
    window: Range,
    *,
    mask: Mask | None = None,
    device: str = "cpu",
    cancel: CancelToken | None = None,
) -> Metric:
    """Structural similarity of volumes, by MONAI's Gaussian of 11 voxels and sigma 1.5.

    Wang et al., IEEE Trans. Image Proc. 13, 600-612, 2004, with K1 0.01 and K2 0.03, of the
    voxels whose neighbourhood lies within the volume. Worked through in slabs of slices, to
    the same number as at once.

    Parameters
    ----------
    estimate, reference : ndarray, shape (I, P, L)
        Volumes in HU, 11 voxels or more along each axis.
    window : tuple of 2 float
        Low and high HU to which both are clipped; its width is the data range.
    mask : ndarray of bool, shape (I, P, L), optional
        Centres that count; all if None.
    device : str
        Where the convolutions run.
    cancel : CancelToken, optional
        Looked at before every slab.

    Returns
    -------
    Metric
        At most 1, for equal volumes.

    Raises
    ------
    InvalidInputError
        As `psnr3d`, or if the volume is smaller than the Gaussian, or the mask has no voxel
        whose neighbourhood lies within the volume.
    """
    _require_pair(estimate, reference, window, mask)
    if min(estimate.shape) < SSIM_SIZE:
        raise InvalidInputError(
            f"SSIM needs {SSIM_SIZE} voxels along each axis",
            why=f"the volumes have {estimate.shape}",
        )
    edge = SSIM_SIZE // 2
    inner = (slice(edge, -edge),) * 3
    counted = None if mask is None else np.asarray(mask)[inner]
    if counted is not None and not counted.any():
        raise InvalidInputError(
            "The mask holds no voxel to measure at",
            why=f"SSIM leaves out {edge} voxels along each face",
        )
    total, count = 0.0, 0
    for start, similarity in _ssim_slabs(estimate, reference, window, device, cancel):
        if counted is not None:
            similarity = similarity[counted[start : start + len(similarity)]]
        total += float(similarity.sum(dtype=np.float64))
        count += similarity.size
    return Metric(
        "ssim3d",
        total / count,
        f"SSIM of the volume, Gaussian {SSIM_SIZE} voxels with sigma {SSIM_SIGMA:g} (MONAI), "
        f"{_told(window)}, {_counted(mask)}",
    )


def _ssim_slabs(
    estimate: Array,
    reference: Array,
    window: Range,
    device: str,
    cancel: CancelToken | None,
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Maps of similarity, slab by slab, each with the index of its first slice."""
    import torch
    from monai.metrics.regression import compute_ssim_and_cs

    low, high = window
    slices, rows, cols = estimate.shape
    thick = max(1, _SLAB_VOXELS // (rows * cols))

    def part(volume: Array, start: int) -> torch.Tensor:
        slab = np.clip(volume[start : start + thick + SSIM_SIZE - 1], low, high)
        scaled = (slab.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return torch.from_numpy(scaled)[None, None].to(device)

    for start in range(0, slices - SSIM_SIZE + 1, thick):
        if cancel is not None:
            cancel.raise_if_cancelled()
        with torch.no_grad():
            similarity, _ = compute_ssim_and_cs(
                part(estimate, start),
                part(reference, start),
                spatial_dims=3,
                kernel_size=(SSIM_SIZE,) * 3,
                kernel_sigma=(SSIM_SIGMA,) * 3,
                data_range=1.0,
            )
        yield start, similarity[0, 0].cpu().numpy()


def dice(estimate: Array, reference: Array) -> Metric:
    """Overlap of two masks: twice the common voxels over the sum of both.

    Dice, Ecology 26, 297-302, 1945; 1 where both are empty.

    Parameters
    ----------
    estimate, reference : ndarray of bool, any one shape
        Masks.

    Raises
    ------
    InvalidInputError
        If the shapes differ or the arrays are not masks.
    """
    a, b = np.asarray(estimate), np.asarray(reference)
    if a.shape != b.shape or a.dtype != bool or b.dtype != bool:
        raise InvalidInputError(
            "Dice compares two masks of one shape",
            why=f"it got {a.dtype} {a.shape} and {b.dtype} {b.shape}",
        )
    both = int(a.sum()) + int(b.sum())
    value = 2.0 * int((a & b).sum()) / both if both else 1.0
    return Metric("dice", value, "Dice overlap of the masks, 1 where both are empty")


def _require_pair(estimate: Array, reference: Array, window: Range, mask: Mask | None) -> None:
    if estimate.ndim != 3 or estimate.shape != reference.shape or not estimate.size:
        raise InvalidInputError(
            "Two volumes on one grid are compared",
            why=f"they have the shapes {estimate.shape} and {reference.shape}",
            remedy="resample one onto the other's grid",
        )
    low, high = window
    if not -math.inf < low < high < math.inf:
        raise InvalidInputError(
            "The window's low end must lie below its high end",
            why=f"it reaches from {low:g} to {high:g} HU",
        )
    for volume in (estimate, reference):
        if volume.dtype.kind not in "iuf" or (
            volume.dtype.kind == "f" and not np.isfinite(volume).all()
        ):
            raise InvalidInputError("A volume holds values that are not numbers")
    if mask is None:
        return
    if mask.shape != estimate.shape or mask.dtype != bool or not mask.any():
        raise InvalidInputError(
            "The mask cannot be used",
            why=f"it is {mask.dtype} with shape {mask.shape}, or empty",
            remedy="give a mask of the volume's shape with voxels in it",
        )


def _errors(
    estimate: Array, reference: Array, window: Range, mask: Mask | None
) -> npt.NDArray[np.float64]:
    """Differences in HU of the voxels that count."""
    _require_pair(estimate, reference, window, mask)
    a, b = (v if mask is None else v[mask] for v in (estimate, reference))
    low, high = window
    difference: npt.NDArray[np.float64] = np.clip(a, low, high).astype(np.float64)
    difference -= np.clip(b, low, high)
    return difference


def _decibel(mse: float, peak: float) -> float:
    return math.inf if mse == 0 else 10.0 * math.log10(peak**2 / mse)


def _told(window: Range) -> str:
    low, high = window
    return f"HU clipped to {low:g} to {high:g}, data range {high - low:g} HU"


def _counted(mask: Mask | None) -> str:
    return "all voxels" if mask is None else "voxels of the mask"
