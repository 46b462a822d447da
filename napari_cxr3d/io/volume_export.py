"""Writing volumes and labels: NIfTI, NRRD, MetaImage; in the source's own geometry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.imaging.frames import FloatArray, Grid
from napari_cxr3d.io.destination import full_suffix, new_file, sidecar_path, write_json
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE

__all__ = ["VOLUME_SUFFIXES", "write_image", "write_like", "write_volume"]

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")

_SAME_PLACE_MM = 1e-2


def write_volume(
    volume: Volume,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a volume's Hounsfield units.

    A volume that was read from a file goes back into that file's axes and geometry, by the
    inverse of the permutation that brought it to (I, P, L). One that had to be resampled, or
    has no file, is written on its own grid.

    Parameters
    ----------
    volume : Volume
        What to write; int16 stays int16.
    path : path-like
        ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
    provenance : mapping, optional
        `Provenance.to_dict`; written to a JSON file beside.
    overwrite : bool
        Whether an existing file may be replaced. The file or folder that the volume was
        read from never is.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ExportError
        If the file must not or cannot be written.
    """
    record: dict[str, Any] = {"kind": "volume", "synthetic": volume.synthetic}
    if provenance is not None:
        record["provenance"] = dict(provenance)
    return _write_array(volume.hu, volume, path, volume.synthetic, record, overwrite)


def write_like(
    array: npt.NDArray[Any],
    volume: Volume,
    path: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write an array that lies on a volume's grid, such as labels, in its source's geometry.

    Parameters
    ----------
    array : ndarray, shape (I, P, L)
        Voxels; bool is written as uint8.
    volume : Volume
        Whose grid the array lies on; what belongs to a synthetic one says SYNTHETIC too.
    path : path-like
        ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
    overwrite : bool
        Whether an existing file may be replaced. The volume's own file never is.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InvalidInputError
        If the array's shape is not the volume's.
    ExportError
        If the file must not or cannot be written.
    """
    array = np.asarray(array)
    if array.shape != volume.shape:
        raise InvalidInputError(
            "The array does not lie on the volume's grid",
            why=f"its shape is {array.shape}, the volume's {volume.shape}",
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    return _write_array(array, volume, path, volume.synthetic, {}, overwrite)


def _write_array(
    array: npt.NDArray[Any],
    volume: Volume,
    path: str | Path,
    synthetic: bool,
    record: Mapping[str, Any],
    overwrite: bool,
) -> Path:
    path = Path(path).expanduser()
    source = volume.source
    voxels, affine = _source_layout(array, volume.grid, source)
    sources = () if source is None or source.path is None else (source.path,)
    write_image(voxels, affine, path, synthetic=synthetic, overwrite=overwrite, sources=sources)
    if record and (synthetic or "provenance" in record):
        write_json(sidecar_path(path), record, overwrite=overwrite)
    return path


def _source_layout(
    array: npt.NDArray[Any], grid: Grid, source: SourceInfo | None
) -> tuple[npt.NDArray[Any], FloatArray]:
    """The array in its source's axes with the source's affine; as it stands if it has none."""
    if source is None or source.grid is None or source.grid.order is None:
        return array, grid.affine_lps
    layout, order = source.grid, source.grid.order
    voxels = order.invert(array)
    # A volume that was cropped or resampled since it was read no longer fits its source.
    corners = np.array([[0, 0, 0], np.array(grid.shape) - 1], np.float64)
    in_source = np.empty_like(corners)
    for canonical_axis, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
        index = corners[:, canonical_axis]
        in_source[:, axis] = layout.shape[axis] - 1 - index if flip else index
    places = in_source @ layout.affine_lps[:3, :3].T + layout.affine_lps[:3, 3]
    same_place = np.abs(places - grid.index_to_lps(corners)).max() < _SAME_PLACE_MM
    if voxels.shape != layout.shape or not same_place:
        return array, grid.affine_lps
    return voxels, layout.affine_lps


def write_image(
    voxels: npt.NDArray[Any],
    affine_lps: FloatArray,
    path: Path,
    *,
    synthetic: bool,
    overwrite: bool = False,
    sources: tuple[Path, ...] = (),
) -> None:
    """Write an array with its geometry through SimpleITK.

    Parameters
    ----------
    voxels : ndarray, shape (n0, n1, n2)
        Any real dtype.
    affine_lps : ndarray, shape (4, 4)
        Matrix from array index to LPS mm; orthogonal axes.
    path : Path
        ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
    synthetic : bool
        Say so in the header.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : tuple of Path
        Files and folders that are never replaced.

    Raises
    ------
    ExportError
        If the suffix is unknown, or the file must not or cannot be written.
    """
    import SimpleITK as sitk

    if full_suffix(path) not in VOLUME_SUFFIXES:
        raise ExportError(
            f"Volumes cannot be written as {full_suffix(path) or 'a file without a suffix'}",
            remedy=f"choose one of {', '.join(VOLUME_SUFFIXES)}",
            path=path,
        )
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    directions = affine_lps[:3, :3] / spacing
    with new_file(path, overwrite=overwrite, sources=sources) as temporary:
        image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
        # ITK's first axis is numpy's last.
        image.SetSpacing([float(s) for s in spacing[::-1]])
        image.SetDirection([float(d) for d in directions[:, ::-1].ravel()])
        image.SetOrigin([float(x) for x in affine_lps[:3, 3]])
        if synthetic:
            image.SetMetaData("ITK_FileNotes", SYNTHETIC_NOTE[:79])  # NIfTI's descrip
            image.SetMetaData("comment", SYNTHETIC_NOTE)
        try:
            sitk.WriteImage(image, str(temporary), full_suffix(path) != ".nii")
        except RuntimeError as error:
            raise ExportError(
                "The volume could not be written",
                why="the image library refused it",
                remedy="check the disk's free space and the voxels' type",
                path=path,
            ) from error
