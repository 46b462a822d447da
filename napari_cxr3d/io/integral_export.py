"""Line integrals as float images, with the geometry of their views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import XrayView
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.imaging.radiograph import Quantity
from napari_cxr3d.io.destination import (
    full_suffix,
    new_file,
    require_free,
    sidecar_path,
    write_json,
)
from napari_cxr3d.io.image_stack import as_frames
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE
from napari_cxr3d.io.volume_export import write_image

__all__ = ["write_integrals"]


def write_integrals(
    images: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView],
    quantity: Quantity = "line_integral",
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
) -> tuple[Path, Path]:
    """Write float values as they are, and their geometry in a JSON file beside.

    ``.npy`` holds the float32 array alone, with the axes that `images` has: (rows, cols) for
    a radiograph, (V, rows, cols) for a sweep. The other formats hold (V, rows, cols) with the
    pixel pitch as spacing; one view lies where its detector stood in patient space, a sweep
    is a stack with a spacing of 1 along the views.

    Parameters
    ----------
    images : ndarray, shape (rows, cols) or (V, rows, cols)
        Line integrals, or pictures from 0 to 1.
    path : path-like
        ``.npy``, ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
    views : sequence of XrayView
        One for each image, isocenter written out.
    quantity : {"display", "line_integral"}
        What `images` holds.
    provenance : mapping, optional
        `Provenance.to_dict`.
    overwrite : bool
        Whether existing files may be replaced.
    sources : sequence of Path
        Files and folders that are never replaced.

    Returns
    -------
    tuple of Path
        The image file and the JSON file.

    Raises
    ------
    ExportError
        If a file must not or cannot be written.
    InvalidInputError
        If images and views do not match.
    """
    path = Path(path).expanduser()
    frames = as_frames(images, views)
    sidecar = sidecar_path(path)
    require_free(sidecar, overwrite=overwrite, sources=sources)
    if full_suffix(path) == ".npy":
        with new_file(path, overwrite=overwrite, sources=sources) as temporary:
            np.save(temporary, np.asarray(images, np.float32))
    else:
        write_image(
            frames,
            _stack_affine(views),
            path,
            synthetic=True,
            overwrite=overwrite,
            sources=tuple(sources),
        )
    write_json(sidecar, _record(views, quantity, provenance), overwrite=overwrite)
    return path, sidecar


def _stack_affine(views: Sequence[XrayView]) -> FloatArray:
    """Matrix from (view, row, column) to mm."""
    pixel = views[0].pixel_mm
    affine = np.eye(4)
    if len(views) == 1 and views[0].isocenter_lps is not None:
        frame = views[0].frame()
        normal = np.cross(frame.column_step, frame.row_step) / pixel**2
        steps = [normal, frame.row_step, frame.column_step]
        affine[:3, 3] = frame.origin
    else:
        steps = [np.array([0, 0, 1]), np.array([0, pixel, 0]), np.array([pixel, 0, 0])]
    affine[:3, :3] = np.stack(steps, axis=1)
    return affine


def _record(
    views: Sequence[XrayView], quantity: Quantity, provenance: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What stands in the JSON file beside float images."""
    described = []
    for view in views:
        entry = view.to_dict()
        if view.isocenter_lps is not None:
            frame = view.frame()
            entry["frame_lps_mm"] = {
                "source": frame.source.tolist(),
                "pixel_0_0": frame.origin.tolist(),
                "row_step": frame.row_step.tolist(),
                "column_step": frame.column_step.tolist(),
            }
        described.append(entry)
    record: dict[str, Any] = {
        "note": SYNTHETIC_NOTE,
        "synthetic": True,
        "quantity": quantity,
        "views": described,
    }
    if provenance is not None:
        record["provenance"] = dict(provenance)
    return record
