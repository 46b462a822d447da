"""The npe2 reader: drag and drop, and File > Open.

It ends in the same functions as the Study panel and the command line. The choice among
several series, and everything that would alter the data (filling a gap, resampling), is
asked for in a dialog where there is a window to ask in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cxr3d.errors import Cancelled, ConsentRequiredError, UnsupportedFileError
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_cxr3d.imaging import Radiograph, Volume
    from napari_cxr3d.io import SeriesEntry
    from napari_cxr3d.viewer.layers import LayerData

__all__ = ["get_reader", "openable", "read_entry", "read_image", "read_layers"]

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Reading = Callable[..., "tuple[Volume | Radiograph, ...]"]

_FILES_TO_LOOK_AT = 64  # in a folder, before deciding that it holds no DICOM
_NO_LAYERS: list[tuple[None]] = [(None,)]  # napari's sign for "read, and nothing to show"


def get_reader(path: Paths) -> Callable[[Paths], list[LayerData] | list[tuple[None]]] | None:
    """The reading function for a path, or None at once when it is not ours.

    Parameters
    ----------
    path : path-like or sequence of path-like
        Files or folders; all of them must be ours.
    """
    paths = _as_paths(path)
    return read_layers if paths and all(_is_ours(p) for p in paths) else None


def read_layers(path: Paths) -> list[LayerData] | list[tuple[None]]:
    """Read CTs and radiographs as napari LayerData tuples.

    Parameters
    ----------
    path : path-like or sequence of path-like
        Files or folders. A slice whose series is open already is passed over, for whoever
        drops all files of a series wants it once.

    Raises
    ------
    Cxr3dError
        If a file cannot be read, or its reading needs a consent that was not given.
    """
    from napari import current_viewer

    from napari_cxr3d.imaging import Volume
    from napari_cxr3d.viewer.attach import attach
    from napari_cxr3d.viewer.layers import radiograph_layer_data, volume_layer_data
    from napari_cxr3d.viewer.preferences import opening_window

    viewer = current_viewer()
    if viewer is not None:
        attach(viewer)
    layers = []
    for one in _as_paths(path):
        if viewer is not None and _is_open(one, viewer):
            continue
        try:
            images = _read_asking(one)
        except Cancelled:
            continue
        layers += [
            volume_layer_data(image, opening_window(image))
            if isinstance(image, Volume)
            else radiograph_layer_data(image)
            for image in images
        ]
    return layers or _NO_LAYERS


def read_image(
    path: str | os.PathLike[str],
    *,
    allow_gaps: bool = False,
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Volume | Radiograph, ...]:
    """The one CT or radiograph that a path holds; arguments as for `read_ct`."""
    from napari_cxr3d.io import read_ct, read_cxr, sniff

    path = Path(path)
    kind = sniff(path)
    if kind == "cxr":
        return (read_cxr(path),)
    if kind == "unknown" and path.is_file():
        raise UnsupportedFileError(
            "The file is neither a CT nor a chest X-ray that this program reads",
            why="it is not DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF",
            remedy="convert it to one of these",
            path=path,
        )
    volume = read_ct(
        path,
        allow_gaps=allow_gaps,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
    return (volume,)


def openable(entries: Sequence[SeriesEntry]) -> tuple[SeriesEntry, ...]:
    """The entries that can be opened, as a CT or as radiographs."""
    return tuple(entry for entry in entries if entry.kind in ("ct", "cxr"))


def read_entry(
    entry: SeriesEntry,
    path: str | os.PathLike[str],
    *,
    allow_gaps: bool = False,
    allow_resampling: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Volume | Radiograph, ...]:
    """One series of the folder `path`: its CT, or all of its radiographs."""
    from napari_cxr3d.io import read_ct, read_cxr

    if entry.kind == "cxr":
        return tuple(read_cxr(file) for file in entry.files)
    volume = read_ct(
        Path(path),
        series=entry.uid,
        allow_gaps=allow_gaps,
        allow_resampling=allow_resampling,
        progress=progress,
        cancel=cancel,
    )
    return (volume,)


def _as_paths(path: Paths) -> list[Path]:
    if isinstance(path, str | os.PathLike):
        return [Path(path)]
    return [Path(p) for p in path]


def _is_ours(path: Path) -> bool:
    from napari_cxr3d.io.sniff import is_dicom, is_volume_file

    if not path.is_dir():
        named_so = path.suffix.lower() == ".dcm" or path.name.upper() == "DICOMDIR"
        return named_so or is_volume_file(path)
    if path.suffix.lower() == ".zarr":
        return False
    looked_at = 0
    for parent, _, names in os.walk(path):
        for name in sorted(names):
            if is_dicom(Path(parent, name)):
                return True
            looked_at += 1
            if looked_at == _FILES_TO_LOOK_AT:
                return False
    return False


def _is_open(path: Path, viewer: ViewerModel) -> bool:
    """Whether a DICOM slice belongs to a CT series that the viewer shows already."""
    from napari_cxr3d.io.dicom_headers import read_header
    from napari_cxr3d.io.sniff import is_dicom
    from napari_cxr3d.viewer.layers import METADATA_KEY

    records = [
        layer.metadata[METADATA_KEY] for layer in viewer.layers if METADATA_KEY in layer.metadata
    ]
    shown = {r["source"].get("series_uid_sha256") for r in records if r["kind"] == "ct"} - {None}
    if not shown or not path.is_file() or not is_dicom(path):
        return False
    uid = str(read_header(path).get("SeriesInstanceUID", ""))
    return sha256(uid.encode()).hexdigest() in shown


def _read_asking(path: Path) -> tuple[Volume | Radiograph, ...]:
    """Read one path; ask for the series and for consents where somebody can answer.

    Raises
    ------
    Cancelled
        If the user chose no series.
    """
    from napari_cxr3d.io import list_series
    from napari_cxr3d.widgets.common.dialogs import ask_consent, can_ask, choose_series

    reading: Reading = partial(read_image, path)
    if path.is_dir() or path.name.upper() == "DICOMDIR":
        entries = openable(list_series(path))
        if len(entries) > 1 and can_ask():
            reading = partial(read_entry, choose_series(entries), path)
        elif len(entries) == 1:
            reading = partial(read_entry, entries[0], path)
    consents: dict[str, bool] = {}
    while True:
        try:
            return reading(**consents)
        except ConsentRequiredError as error:
            if error.consent in consents or not can_ask():
                raise
            if not ask_consent(error):
                raise Cancelled from error
            consents[error.consent] = True
