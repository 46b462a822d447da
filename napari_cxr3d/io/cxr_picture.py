"""A radiograph in a picture file: PNG, JPEG or TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import UnsupportedFileError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.io.cxr_source import SMALLEST_SIDE, radiograph_source
from napari_cxr3d.io.grey import to_grey
from napari_cxr3d.io.guard import foreign_errors, require_memory
from napari_cxr3d.io.pixel_pitch import picture_pitch
from napari_cxr3d.io.synthetic_mark import is_marked

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_picture"]

_MOST_PIXELS = 100_000_000  # several times the largest detectors
_BYTES_PER_PIXEL = 16  # while a colour picture is turned to grey
_ORIENTATION = 0x0112  # EXIF and TIFF tag; 1 is upright
_TIFF_PHOTOMETRIC = 0x0106  # 0 is white-is-zero


def read_picture(path: Path) -> Radiograph:
    """Read a radiograph from a PNG, JPEG or TIFF picture; see `read_cxr`.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError, OutOfMemoryError
        As `read_cxr`.
    """
    from PIL import Image, ImageOps

    with foreign_errors(path, "The picture cannot be read"):
        # Opened by name, Pillow 13 maps a TIFF and scrambles one that lies on its side.
        with path.open("rb") as file, Image.open(file, formats=("PNG", "JPEG", "TIFF")) as image:
            _require_one_radiograph(image, path)
            kind = "JPEG" if image.format == "MPO" else image.format or "PNG"
            notes = _lost_depth(path, kind)
            resolution = _resolution(image)
            synthetic = is_marked(str(image.info.get("Title", "")))
            turned = image.getexif().get(_ORIENTATION, 1) != 1
            dark_bone = getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
            pixels, more = _grey(ImageOps.exif_transpose(image), white_is_zero=dark_bone)
            notes += more
        if turned:
            notes.append("The picture was turned upright as its orientation tag says.")
            resolution = None
        pitch, more = picture_pitch(resolution, (pixels.shape[0], pixels.shape[1]))
        source = radiograph_source(kind, path, pixels, pitch, [*notes, *more])
        return Radiograph(pixels=pixels, pitch_mm=pitch, source=source, synthetic=synthetic)


def _require_one_radiograph(image: Image, path: Path) -> None:
    """Refuse bombs, sequences and icons before anything is decoded."""
    width, height = image.size
    size = f"it has {height} rows and {width} columns"
    if width * height > _MOST_PIXELS:
        raise UnsupportedFileError(
            "The picture is too large to be a radiograph",
            why=size,
            remedy="scale it down first",
            path=path,
        )
    if min(width, height) < SMALLEST_SIDE:
        raise UnsupportedFileError(
            "The picture is too small to be a radiograph",
            why=size,
            remedy="choose the full-size image",
            path=path,
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":  # a camera's JPEG with a preview behind it
        raise UnsupportedFileError(
            "This is a sequence of pictures, not one radiograph",
            why=f"it holds {frames} pages or frames",
            remedy="save the page you want as a picture of its own",
            path=path,
        )
    require_memory(width * height * _BYTES_PER_PIXEL, path)


def _lost_depth(path: Path, kind: str) -> list[str]:
    """A note where the decoder keeps 8 of a PNG's 16 bits: in colour, or with transparency."""
    with path.open("rb") as file:
        header = file.read(26)  # signature, IHDR, width, height, bit depth, colour type
    if kind == "PNG" and header[24] == 16 and header[25] in (2, 4, 6):
        return ["Of the 16 bits of this colour or transparent picture, 8 were read."]
    return []


def _resolution(image: Image) -> tuple[float, float] | None:
    found = image.info.get("dpi")
    if not found or len(found) != 2:
        return None
    return float(found[0]), float(found[1])


def _grey(image: Image, *, white_is_zero: bool) -> tuple[npt.NDArray[np.float32], list[str]]:
    """One value a pixel, white bright, and notes."""
    notes = []
    if image.mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    array: npt.NDArray[Any] = np.asarray(image)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
        notes.append("The picture has two grey values only.")
    if array.ndim == 3 and array.shape[2] in (2, 4):
        array, more = _without_alpha(array)
        notes += more
    if array.ndim == 3 and array.shape[2] == 3:
        grey, more = to_grey(array, 255.0)
        return grey, notes + more
    grey = array.reshape(array.shape[:2]).astype(np.float32)
    if white_is_zero and array.dtype == np.uint16:  # 8 bits are inverted by the decoder
        grey = np.float32(65535) - grey
    finite = np.isfinite(grey)
    if not finite.all() and finite.any():
        notes.append("Pixels that were not numbers became black.")
        grey = np.where(finite, grey, grey[finite].min())
    return grey, notes


def _without_alpha(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], list[str]]:
    """Lay the picture on black where it is transparent."""
    colour, alpha = array[..., :-1], array[..., -1:]
    if np.all(alpha == 255):
        return colour, []
    blended = np.rint(colour * (alpha.astype(np.float32) / 255)).astype(array.dtype)
    return blended, ["Transparent parts of the picture became black."]
