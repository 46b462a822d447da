"""Reading CTs and chest radiographs, and writing results."""

from napari_cxr3d.io.ct import list_series, read_ct
from napari_cxr3d.io.ct_series_export import write_ct_series
from napari_cxr3d.io.cxr import read_cxr
from napari_cxr3d.io.export import (
    save,
    save_radiograph,
    write_dicom_secondary_capture,
    write_gif,
    write_integrals,
    write_like,
    write_mp4,
    write_png,
    write_volume,
)
from napari_cxr3d.io.inspection import Inspection, inspect_path
from napari_cxr3d.io.projection_files import read_xrays
from napari_cxr3d.io.series_entry import SeriesEntry
from napari_cxr3d.io.sniff import FileKind, sniff

__all__ = [
    "FileKind",
    "Inspection",
    "SeriesEntry",
    "inspect_path",
    "list_series",
    "read_ct",
    "read_cxr",
    "read_xrays",
    "save",
    "save_radiograph",
    "sniff",
    "write_ct_series",
    "write_dicom_secondary_capture",
    "write_gif",
    "write_integrals",
    "write_like",
    "write_mp4",
    "write_png",
    "write_volume",
]
