"""Radiographs as grey PNG files with their scale and a note that says SYNTHETIC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d import __version__
from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.imaging.radiograph import Quantity
from napari_cxr3d.io.destination import all_or_none, full_suffix, new_file, require_free
from napari_cxr3d.io.image_stack import as_frames, display_range, numbered
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE, burn_in, mark_text
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["write_png"]


def write_png(
    images: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView],
    quantity: Quantity = "display",
    provenance: Mapping[str, Any] | None = None,
    bits: Literal[8, 16] = 16,
    burn_mark: bool = True,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Path, ...]:
    """Write grey PNG files with the pixel pitch and a note that says SYNTHETIC.

    Parameters
    ----------
    images : ndarray, shape (rows, cols) or (V, rows, cols)
        Pictures from 0 to 1, or line integrals, stretched over all images; the text chunk
        ``Range`` tells the values of black and white.
    path : path-like
        A ``.png`` file, numbered for a sweep (``name_000.png``), or a folder's name, made if
        need be, for ``0000.png`` and on.
    views : sequence of XrayView
        One for each image, isocenter written out.
    quantity : {"display", "line_integral"}
        What `images` holds.
    provenance : mapping, optional
        `Provenance.to_dict`.
    bits : {8, 16}
        Depth.
    burn_mark : bool
        Burn SYNTHETIC and the angles into the pixels.
    overwrite : bool
        Whether existing files may be replaced.
    sources : sequence of Path
        Files and folders that are never replaced.
    progress, cancel : optional
        Progress over the files, and cancellation between two.

    Returns
    -------
    tuple of Path
        The files written.

    Raises
    ------
    ExportError
        If a file must not or cannot be written.
    InvalidInputError
        If images and views do not match, or `bits` is neither 8 nor 16.
    """
    from PIL import Image

    path = Path(path).expanduser()
    frames = as_frames(images, views)
    if bits not in (8, 16):
        raise InvalidInputError("PNG files have 8 or 16 bits", why=f"{bits} were asked for")
    paths = _png_paths(path, len(frames))
    for target in paths:
        require_free(target, overwrite=overwrite, sources=sources)
    low, high = display_range(frames, quantity)
    white, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    with all_or_none() as written:
        for index, (target, frame, view) in enumerate(zip(paths, frames, views, strict=True)):
            if cancel is not None:
                cancel.raise_if_cancelled()
            grey = np.rint(np.clip((frame - low) / (high - low), 0.0, 1.0) * white).astype(dtype)
            if burn_mark:
                grey = burn_in(grey, mark_text(view))
            with new_file(target, overwrite=overwrite, sources=sources) as temporary:
                Image.fromarray(grey).save(
                    temporary,
                    format="PNG",
                    dpi=(25.4 / view.pixel_mm, 25.4 / view.pixel_mm),
                    pnginfo=_png_text(view, quantity, provenance, (low, high)),
                )
            written.append(target)
            if progress is not None:
                progress(Progress(index + 1, len(paths), f"writing picture {index + 1}"))
    return paths


def _png_paths(path: Path, count: int) -> tuple[Path, ...]:
    if full_suffix(path) == ".png":
        return numbered(path, count)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ExportError(
            "The folder for the pictures could not be made",
            why=error.strerror or type(error).__name__,
            remedy="choose another name",
            path=path,
        ) from error
    return tuple(path / f"{k:04d}.png" for k in range(count))


def _png_text(
    view: XrayView,
    quantity: Quantity,
    provenance: Mapping[str, Any] | None,
    value_range: tuple[float, float],
) -> Any:
    """Text chunks of a PNG file (the PNG specification's own keywords first)."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Title", mark_text(view))
    text.add_text("Description", SYNTHETIC_NOTE)
    text.add_text("Software", f"napari-cxr3d {__version__}")
    text.add_text("Quantity", quantity)
    text.add_text("Range", f"{value_range[0]:.9g} {value_range[1]:.9g}")
    text.add_text("View", json.dumps(view.to_dict()))
    if provenance is not None:
        text.add_text("Provenance", json.dumps(dict(provenance), sort_keys=True), zip=True)
    return text
