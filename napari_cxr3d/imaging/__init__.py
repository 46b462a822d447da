"""Volumes, radiographs and the geometry that relates them."""

from napari_cxr3d.imaging.frames import (
    AXIS_LABELS,
    CanonicalOrder,
    Grid,
    canonical_order,
    lps_to_world,
    orientation_letters,
    world_to_lps,
)
from napari_cxr3d.imaging.radiograph import Radiograph
from napari_cxr3d.imaging.volume import HU_MAX, HU_MIN, SourceGrid, SourceInfo, Volume
from napari_cxr3d.imaging.windowing import WINDOWS, Window
from napari_cxr3d.imaging.xray_view import PRESETS, DetectorFrame, XrayView, preset

__all__ = [
    "AXIS_LABELS",
    "HU_MAX",
    "HU_MIN",
    "PRESETS",
    "WINDOWS",
    "CanonicalOrder",
    "DetectorFrame",
    "Grid",
    "Radiograph",
    "SourceGrid",
    "SourceInfo",
    "Volume",
    "Window",
    "XrayView",
    "canonical_order",
    "lps_to_world",
    "orientation_letters",
    "preset",
    "world_to_lps",
]
