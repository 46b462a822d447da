"""From stored pixels of a DICOM radiograph to grey values with bone bright.

The order is that of DICOM PS3.4 N.2: modality transform, values of interest, polarity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.io.dicom_headers import number, text
from napari_cxr3d.io.dicom_pixels import padding_mask
from napari_cxr3d.io.grey import to_grey

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["displayed_grey"]

FloatImage = npt.NDArray[np.float32]
Range = tuple[float, float]


def displayed_grey(
    dataset: Dataset, frame: npt.NDArray[Any]
) -> tuple[FloatImage, Range | None, list[str]]:
    """Grey values with bone bright, the window that the file asks for, and notes.

    Parameters
    ----------
    dataset : Dataset
        The header.
    frame : ndarray, shape (rows, columns) or (rows, columns, samples)
        Stored values.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Values after the modality transform; MONOCHROME1 is inverted.
    tuple of 2 float or None
        Low and high end of the display window, None where the file gives none.
    list of str
        What was done.
    """
    pixels, notes = _grey_values(dataset, frame)
    pixels, window, more = _windowed(dataset, pixels)
    notes += more
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        pixels, window = _inverted(dataset, pixels, window)
        notes.append("The picture is stored bone-dark (MONOCHROME1) and was inverted.")
    pixels, more = _without_padding(dataset, frame, pixels)
    return pixels, window, notes + more


def _grey_values(dataset: Dataset, frame: npt.NDArray[Any]) -> tuple[FloatImage, list[str]]:
    """One value a pixel, after the modality rescale or lookup table."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        rgb = apply_color_lut(frame, dataset)
        return to_grey(rgb[..., :3], float(np.iinfo(rgb.dtype).max))
    if frame.ndim == 3:
        return to_grey(frame[..., :3], 2.0 ** int(dataset.BitsStored) - 1)
    return np.asarray(apply_modality_lut(frame, dataset), dtype=np.float32), []


def _windowed(dataset: Dataset, pixels: FloatImage) -> tuple[FloatImage, Range | None, list[str]]:
    """The display window (PS3.3 C.11.2.1.2); without one, the display table is applied."""
    from pydicom.pixels.processing import apply_voi

    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if center is not None and width is not None and width >= 1:
        if function == "LINEAR":
            low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        else:
            low, high = center - width / 2, center + width / 2
        if high > low and low < float(pixels.max()) and high > float(pixels.min()):
            sigmoid = ["The file's sigmoid window is shown as a linear one."]
            return pixels, (low, high), sigmoid if function == "SIGMOID" else []
        return pixels, None, ["The file's display window misses its pixel values: ignored."]
    if dataset.get("VOILUTSequence") and np.array_equal(pixels, np.rint(pixels)):
        table = apply_voi(pixels.astype(np.int64), dataset)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        applied = ["The file's display table (VOI LUT) was applied to the pixels."]
        return table.astype(np.float32), (0.0, 2.0**bits - 1), applied
    return pixels, None, []


def _inverted(
    dataset: Dataset, pixels: FloatImage, window: Range | None
) -> tuple[FloatImage, Range | None]:
    """Mirrored about the middle of the range that the file can hold."""
    if dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence"):
        total = float(pixels.min()) + float(pixels.max())
    else:
        bits = int(dataset.BitsStored)
        signed = int(dataset.get("PixelRepresentation") or 0)
        stored = -1 if signed else 2**bits - 1  # lowest and highest stored value, added
        slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
        total = stored * (1.0 if slope is None else slope) + 2 * (intercept or 0.0)
    inverted = np.float32(total) - pixels
    return inverted, None if window is None else (total - window[1], total - window[0])


def _without_padding(
    dataset: Dataset, frame: npt.NDArray[Any], pixels: FloatImage
) -> tuple[FloatImage, list[str]]:
    """Declared padding outside the exposure made black."""
    padding = padding_mask(dataset, frame) if frame.ndim == 2 else None
    if padding is None or not padding.any() or padding.all():
        return pixels, []
    black = pixels[~padding].min()
    count = int(np.count_nonzero(padding))
    return np.where(padding, black, pixels), [f"{count} pixels of padding were set to black."]
