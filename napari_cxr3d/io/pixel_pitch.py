"""The pixel pitch of a radiograph: which of a file's many answers to take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_cxr3d.io.dicom_headers import number, numbers, text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["dicom_pitch", "picture_pitch"]

Pitch = tuple[float, float]

_CHEST_MM = (100.0, 1000.0)  # longest side that the picture of a chest can have
_SMALL_CHEST_MM = 200.0  # below, the picture of an adult was likely made smaller afterwards
_MM_PER_INCH = 25.4
# Resolutions that programs write without knowing any (screens, printers, scanners' menus).
_NOMINAL_DPI = (1, 72, 75, 90, 96, 100, 120, 150, 180, 200, 240, 254, 300, 400, 600, 1200)


def dicom_pitch(dataset: Dataset, shape: tuple[int, int]) -> tuple[Pitch | None, list[str]]:
    """Pixel pitch (row, column) in mm at the detector, and a note that tells its source.

    ImagerPixelSpacing is the pitch at the detector (PS3.3 C.8.1.1 and 10.7.1.3).
    PixelSpacing is taken where that is absent; if it was calibrated for the patient's
    plane, the magnification factor brings it back to the detector, where the file gives
    one. NominalScannedPixelSpacing is that of a digitised film.
    """
    notes: list[str] = []
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(dataset, keyword, 2)
        if found is None:
            continue
        row, column = found
        where = "at the detector"
        if keyword == "PixelSpacing":
            row, column, where = _at_detector(dataset, row, column)
        span = max(shape[0] * row, shape[1] * column)
        if min(row, column) <= 0 or not _CHEST_MM[0] <= span <= _CHEST_MM[1]:
            notes.append(
                f"{keyword} ({row:.4g} x {column:.4g} mm) is no plausible pixel pitch for a "
                f"chest (the picture would measure {span:.0f} mm) and was ignored."
            )
            continue
        height, width = shape[0] * row, shape[1] * column
        notes.append(
            f"Pixel pitch {row:.4g} x {column:.4g} mm {where} from {keyword}: the picture "
            f"measures {height:.0f} x {width:.0f} mm."
        )
        if span < _SMALL_CHEST_MM:
            notes.append(
                f"A picture of {span:.0f} mm is small for an adult's chest: one that was made "
                "smaller after the exposure often keeps its old pitch. Check it before measuring."
            )
        return (row, column), notes
    notes.append("The pixel pitch is unknown: the file gives none that can be used.")
    return None, notes


def _at_detector(dataset: Dataset, row: float, column: float) -> tuple[float, float, str]:
    if not text(dataset, "PixelSpacingCalibrationType"):
        return row, column, "(taken to be at the detector)"
    factor = number(dataset, "EstimatedRadiographicMagnificationFactor")
    if factor is None or not 1 <= factor <= 3:
        return row, column, "in the patient's plane (the file gives no magnification)"
    return row * factor, column * factor, f"at the detector (calibration undone by {factor:.3g})"


def picture_pitch(
    dots_per_inch: tuple[float, float] | None, shape: tuple[int, int]
) -> tuple[Pitch | None, list[str]]:
    """Pixel pitch of a PNG, JPEG or TIFF in mm, only where its resolution can be meant.

    Most pictures carry the round resolution of a screen or printer, which says nothing
    about the detector.

    Parameters
    ----------
    dots_per_inch : tuple of 2 float or None
        Horizontal and vertical resolution as the file gives it.
    shape : tuple of 2 int
        Rows and columns.
    """
    unknown = "The pixel pitch is unknown: a picture file seldom knows it."
    if dots_per_inch is None or min(dots_per_inch) <= 0:
        return None, [unknown]
    if any(abs(d - nominal) < 0.5 for d in dots_per_inch for nominal in _NOMINAL_DPI):
        return None, [unknown]
    column, row = (_MM_PER_INCH / d for d in dots_per_inch)
    if not _CHEST_MM[0] <= max(shape[0] * row, shape[1] * column) <= _CHEST_MM[1]:
        return None, [unknown]
    return (row, column), [
        f"Pixel pitch {row:.4g} x {column:.4g} mm from the picture's resolution; not verified."
    ]
