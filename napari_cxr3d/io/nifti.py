"""NIfTI headers and voxels, read with nibabel.

ITK's reader is not used here: it fills a truncated file with zeros, replaces spacings that
are not positive, and drops a sheared or rescaled sform for the qform, all without an error.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import GeometryError, UnsupportedFileError
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.io.guard import foreign_errors
from napari_cxr3d.io.synthetic_mark import is_marked
from napari_cxr3d.io.volume_header import VolumeHeader, require_volume_shape

__all__ = ["nifti_header"]

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, metre, millimetre, micron


def nifti_header(path: Path) -> VolumeHeader:
    """The header of a NIfTI-1 or NIfTI-2 file.

    Raises
    ------
    UnreadableFileError, UnsupportedFileError
        If the file is damaged or holds no single scalar volume.
    GeometryError
        If it gives no orientation, or two that contradict each other.
    """
    import nibabel

    with foreign_errors(path, "The NIfTI header cannot be read"):
        image: Any = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 derives from it
            raise UnsupportedFileError("The file is not in the NIfTI format", path=path)
        header = image.header
        size = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        units = int(header["xyzt_units"]) & 0x07
        # The header's own scaling is blanked on loading: nibabel keeps it with the data.
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
        sform = header.get_sform(coded=True)[0]
        qform = header.get_qform(coded=True)[0]
    require_volume_shape(size, path)
    if dtype.kind not in "iuf":
        raise UnsupportedFileError(
            "The file is not a CT",
            why="its voxels are colours or complex numbers",
            remedy="choose a volume with one value per voxel",
            path=path,
        )
    affine, notes = _affine(sform, qform, size, path)
    affine = np.diag([*3 * [_MM_PER_UNIT.get(units, 1.0)], 1.0]) @ _RAS_TO_LPS @ affine

    def load() -> npt.NDArray[Any]:
        with foreign_errors(path, "The NIfTI voxels cannot be read"):
            stored: npt.NDArray[Any] = np.asarray(image.dataobj.get_unscaled())
            return stored.reshape(size[:3]).T

    return VolumeHeader(
        kind="NIfTI",
        shape=(size[2], size[1], size[0]),
        affine_lps=affine[:, [2, 1, 0, 3]],
        bytes_per_voxel=dtype.itemsize,
        slope=slope,
        intercept=intercept,
        notes=tuple(notes),
        synthetic=is_marked(bytes(image.header["descrip"]).decode("latin-1")),
        load=load,
    )


def _affine(
    sform: FloatArray | None, qform: FloatArray | None, size: tuple[int, ...], path: Path
) -> tuple[FloatArray, list[str]]:
    """The sform, else the qform, from voxel index to RAS in the file's unit."""
    if sform is None and qform is None:
        raise GeometryError(
            "The NIfTI file does not say how the patient lies in it",
            why="both its qform and its sform code are 0, so that left and right are unknown",
            remedy="convert the scan again from DICOM, or set the codes with a NIfTI tool",
            path=path,
        )
    if sform is None or qform is None:
        given = qform if sform is None else sform
        return np.asarray(given, dtype=np.float64), []
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in size[:3]))])
    apart = float(np.abs((sform - qform) @ corners.T).max())
    spacing = np.linalg.norm(np.asarray(sform)[:3, :3], axis=0)
    if not apart > 0.1 * float(spacing.min()):
        return sform, []
    by_sform, by_qform = _axis_codes(sform), _axis_codes(qform)
    if by_sform != by_qform:
        raise GeometryError(
            "The NIfTI file gives two orientations that contradict each other",
            why=f"its axes run {by_sform} by its sform and {by_qform} by its qform",
            remedy="convert the scan again from DICOM, or remove the wrong one with a NIfTI tool",
            path=path,
        )
    return sform, [
        f"The file's sform and qform disagree by up to {apart:.3g} in its unit; the sform was used."
    ]


def _axis_codes(affine: FloatArray) -> str:
    """RAS letters of the axes, the nearest direction each."""
    codes = []
    for axis in range(3):
        k = int(np.argmax(np.abs(affine[:3, axis])))
        codes.append(("LR", "PA", "IS")[k][int(affine[k, axis] > 0)])
    return "".join(codes)
