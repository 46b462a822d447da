"""The npe2 writers: CTs, labels and radiographs back to files.

napari's dialog has asked before it names a file that exists, so earlier results may be
replaced; a file that an image was read from never is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import ExportError

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_cxr3d.imaging import Volume

__all__ = ["write_labels", "write_radiograph", "write_volume"]

Attributes = dict[str, Any]


def write_volume(path: str, data: npt.NDArray[Any], attributes: Attributes) -> list[str]:
    """Write a CT layer in the geometry of the file it was read from.

    Parameters
    ----------
    path : str
        A ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha`` file.
    data, attributes
        Array and settings of the layer, as napari hands them to a writer.

    Returns
    -------
    list of str
        The file written; a synthetic CT has its provenance in a JSON file beside it.

    Raises
    ------
    ExportError
        If the layer is no CT, or the file must not or cannot be written.
    """
    from napari_cxr3d.io.export import write_volume as write
    from napari_cxr3d.viewer.layers import require_volume

    volume = require_volume(_layer(data, attributes))
    written = write(volume, path, provenance=_derivation(attributes), overwrite=True)
    return [str(written)]


def write_labels(path: str, data: npt.NDArray[Any], attributes: Attributes) -> list[str]:
    """Write a labels layer in the geometry of the open CT whose grid it shares.

    Parameters and errors as for `write_volume`.
    """
    from napari_cxr3d.io.export import write_like

    volume = _volume_under(np.asarray(data), attributes)
    if volume is None:
        raise ExportError(
            "The labels lie on the grid of no open CT",
            why="their size, scale or place is another one",
            remedy="open the CT that they belong to, and draw on a labels layer of its size",
        )
    return [str(write_like(_smallest(np.asarray(data)), volume, path, overwrite=True))]


def write_radiograph(path: str, data: npt.NDArray[Any], attributes: Attributes) -> list[str]:
    """Write a projected radiograph, or a sweep, as PNG, DICOM, NPY or film, marked SYNTHETIC.

    Parameters as for `write_volume`, with the suffixes of `napari_cxr3d.io.export.save`.

    Raises
    ------
    ExportError
        If the layer is no projected radiograph, or the file must not or cannot be written.
    """
    from napari_cxr3d.imaging import XrayView
    from napari_cxr3d.io.export import save
    from napari_cxr3d.viewer.layers import METADATA_KEY

    record = attributes.get("metadata", {}).get(METADATA_KEY, {})
    geometry = record.get("geometry", {})
    views = geometry.get("views") or [geometry.get("view")]
    if record.get("kind") != "drr" or views == [None]:
        raise ExportError(
            f"“{attributes.get('name', 'The layer')}” is no radiograph that was projected here",
            remedy="copy the file it was read from, or save it with napari's own writer",
        )
    written = save(
        np.asarray(data),
        path,
        views=[XrayView.from_dict(view) for view in views],
        quantity=geometry.get("quantity", "display"),
        provenance=record.get("derivation"),
        overwrite=True,
    )
    return [str(file) for file in written]


def _layer(data: npt.NDArray[Any], attributes: Attributes) -> Image:
    from napari.layers import Image

    return Image(data, **attributes)


def _derivation(attributes: Attributes) -> dict[str, Any] | None:
    from napari_cxr3d.viewer.layers import METADATA_KEY

    return attributes.get("metadata", {}).get(METADATA_KEY, {}).get("derivation")


def _volume_under(labels: npt.NDArray[Any], attributes: Attributes) -> Volume | None:
    """The open CT on whose grid labels lie."""
    from napari import current_viewer

    from napari_cxr3d.imaging import lps_to_world
    from napari_cxr3d.viewer.layers import volume_of_layer

    viewer = current_viewer()
    for layer in viewer.layers if viewer is not None else ():
        volume = volume_of_layer(layer)
        if (
            volume is not None
            and volume.shape == labels.shape
            and np.allclose(volume.spacing_mm, attributes["scale"])
            and np.allclose(lps_to_world(volume.origin_lps), attributes["translate"])
        ):
            return volume
    return None


def _smallest(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels in the smallest unsigned type that holds them; medical formats know few types."""
    highest = int(labels.max(initial=0))
    return labels.astype(np.min_scalar_type(highest)) if labels.min(initial=0) >= 0 else labels
