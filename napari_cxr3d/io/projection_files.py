"""Reading back the radiographs that were written here, with the views that they were taken in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError, UnreadableFileError, UnsupportedFileError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.imaging.radiograph import Quantity
from napari_cxr3d.io.cxr import read_cxr
from napari_cxr3d.io.cxr_source import radiograph_source
from napari_cxr3d.io.destination import full_suffix, sidecar_path
from napari_cxr3d.io.guard import existing_path, foreign_errors, require_memory
from napari_cxr3d.io.sniff import is_dicom
from napari_cxr3d.io.volume_export import VOLUME_SUFFIXES

__all__ = ["read_xrays"]

_MOST_JSON_BYTES = 64 * 2**20
_POSITIONS = {0.0: "PA", 180.0: "AP", 90.0: "LL", -90.0: "RL"}
_DERIVED_FROM = "Digitally reconstructed radiograph: "


def read_xrays(path: str | Path) -> tuple[Radiograph, ...]:
    """The X-rays of a file: one picture, or all views that were projected into it here.

    Parameters
    ----------
    path : path-like
        A PNG, JPEG, TIFF or DICOM picture; or the float images that `write_integrals` wrote,
        ``.npy``, ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``, with their JSON file beside.

    Returns
    -------
    tuple of Radiograph
        Those that were projected here know their `view`, and float images their line
        integrals; pictures keep what `read_cxr` reads.

    Raises
    ------
    UnreadableFileError
        If a file is missing or damaged.
    UnsupportedFileError
        If it is no radiograph, or float images without a description of their views.
    OutOfMemoryError
        If it does not fit into memory.
    """
    path = existing_path(path)
    suffix = full_suffix(path)
    if suffix == ".npy" or suffix in VOLUME_SUFFIXES:
        return _float_images(path, suffix)
    radiograph = read_cxr(path)
    view = _view_in(path) if radiograph.synthetic else None
    return (radiograph if view is None else replace(radiograph, view=view),)


def _float_images(path: Path, suffix: str) -> tuple[Radiograph, ...]:
    record = _record(path)
    with foreign_errors(sidecar_path(path), "The description of the views cannot be read"):
        views = [_view(entry) for entry in record["views"]]
        quantity: Quantity = record["quantity"]
        if quantity not in get_args(Quantity):
            raise ValueError(quantity)
    require_memory(3 * path.stat().st_size, path)
    with foreign_errors(path, "The images cannot be read"):
        images = _array(path, suffix)
    if images.ndim not in (2, 3) or images.dtype.kind not in "iuf":
        raise UnsupportedFileError(
            "These are no radiographs", why=f"the array's shape is {images.shape}", path=path
        )
    frames = images.reshape(-1, *images.shape[-2:]).astype(np.float32, copy=False)
    shapes = {view.detector_shape for view in views}
    if len(frames) != len(views) or shapes != {frames.shape[1:]}:
        raise UnsupportedFileError(
            "The images and the description beside them do not belong together",
            why=f"{len(frames)} images of {frames.shape[1]} x {frames.shape[2]} pixels, and "
            f"{len(views)} views",
            remedy="project the CT again",
            path=path,
        )
    kind = suffix.lstrip(".").upper()
    pairs = zip(frames, views, strict=True)
    return tuple(_radiograph(frame, view, quantity, kind, path) for frame, view in pairs)


def _record(path: Path) -> Mapping[str, Any]:
    """What stands beside float images."""
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        raise UnsupportedFileError(
            "Nothing tells from where these images were taken",
            why=f"there is no {sidecar.name} beside",
            remedy="give a picture, or a file that cxr3d drr wrote together with its JSON file",
            path=path,
        )
    if sidecar.stat().st_size > _MOST_JSON_BYTES:
        raise UnsupportedFileError("This is no description of views", path=sidecar)
    with foreign_errors(sidecar, "The description of the views cannot be read"):
        record = json.loads(sidecar.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not isinstance(record.get("views"), list):
        raise UnsupportedFileError(
            "This is no description of views",
            remedy="give a file that cxr3d drr wrote together with its JSON file",
            path=sidecar,
        )
    return record


def _view(entry: Mapping[str, Any]) -> XrayView:
    """The view of a description, whatever else it tells."""
    return XrayView.from_dict({k: v for k, v in entry.items() if k != "frame_lps_mm"})


def _array(path: Path, suffix: str) -> npt.NDArray[Any]:
    if suffix == ".npy":
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        return array

    import SimpleITK as sitk

    image: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return image


def _radiograph(
    pixels: npt.NDArray[np.float32], view: XrayView, quantity: Quantity, kind: str, path: Path
) -> Radiograph:
    pitch = (view.pixel_mm, view.pixel_mm)
    if not np.isfinite(pixels).all():
        raise UnreadableFileError(
            "The images hold values that are not numbers", remedy="project again", path=path
        )
    level = abs(view.pitch) <= 1 and abs(view.roll) <= 1
    position = next((p for yaw, p in _POSITIONS.items() if _near(view.yaw, yaw)), "")
    return Radiograph(
        pixels,
        pitch_mm=pitch,
        view=view,
        source=radiograph_source(kind, path, pixels, pitch, (), modality="DX"),
        quantity=quantity,
        view_position=position if level else "",
        display_range=(0.0, 1.0) if quantity == "display" else None,
        synthetic=True,
    )


def _near(yaw: float, other: float) -> bool:
    return abs((yaw - other + 180.0) % 360.0 - 180.0) <= 1


def _view_in(path: Path) -> XrayView | None:
    """The view that a picture written here tells in its header; None if it tells none."""
    try:
        with foreign_errors(path, "The view cannot be read"):
            text = _dicom_text(path) if is_dicom(path) else _png_text(path)
            return _view(json.loads(text)) if text else None
    except Cxr3dError:
        return None  # the picture itself was read: its view is then not known


def _dicom_text(path: Path) -> str:
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["DerivationDescription"])
    text = str(header.get("DerivationDescription", ""))
    return text.removeprefix(_DERIVED_FROM) if text.startswith(_DERIVED_FROM) else ""


def _png_text(path: Path) -> str:
    from PIL import Image

    with path.open("rb") as file, Image.open(file) as image:
        return str(image.info.get("View", ""))
