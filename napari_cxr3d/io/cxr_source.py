"""What is kept of a radiograph's file."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import SourceInfo

__all__ = ["SMALLEST_SIDE", "radiograph_source"]

SMALLEST_SIDE = 32  # pixels; a smaller picture is an icon, not a radiograph


def radiograph_source(
    kind: str,
    path: Path,
    pixels: npt.NDArray[np.float32],
    pitch_mm: tuple[float, float] | None,
    notes: Sequence[str],
    *,
    description: str = "",
    modality: str = "OT",
    series_uid: str = "",
) -> SourceInfo:
    """Sum up the file of a radiograph, by kind and hash where the file has no words for it.

    Parameters
    ----------
    kind : str
        ``"DICOM"``, ``"PNG"``, ``"JPEG"`` or ``"TIFF"``.
    path : Path
        The file.
    pixels : ndarray of float32, shape (rows, columns)
        The decoded picture, whose content is hashed together with `pitch_mm`.
    pitch_mm : tuple of 2 float or None
        Pixel pitch.
    notes : sequence of str
        What reading had to tell; a picture without any contrast is added to it.
    description, modality, series_uid : str
        As a DICOM file says.
    """
    digest = sha256(np.ascontiguousarray(pixels).data)
    digest.update(np.array(pixels.shape).tobytes())
    digest.update(np.array(pitch_mm or (0.0, 0.0)).tobytes())
    if np.ptp(pixels) == 0:
        notes = (*notes, "Every pixel holds the same value: the picture is empty.")
    return SourceInfo(
        kind=kind,
        description=description or f"{kind} {digest.hexdigest()[:6]}",
        content_sha256=digest.hexdigest(),
        modality=modality,
        series_uid_sha256=sha256(series_uid.encode()).hexdigest() if series_uid else None,
        notes=tuple(notes),
        path=path,
    )
