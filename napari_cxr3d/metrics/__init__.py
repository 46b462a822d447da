"""How good a result is: numbers that carry the convention under which they were measured.

Importing this package loads NumPy; torch, MONAI and SciPy load when a metric needs them.
"""

from napari_cxr3d.metrics.image_quality import (
    Metric,
    dice,
    mae_hu,
    psnr3d,
    slice_psnr,
    ssim3d,
)
from napari_cxr3d.metrics.intervals import Interval, bootstrap_interval, paired_interval
from napari_cxr3d.metrics.projection import explained_projection, reprojection_error
from napari_cxr3d.metrics.report import Report, Row

__all__ = [
    "Interval",
    "Metric",
    "Report",
    "Row",
    "bootstrap_interval",
    "dice",
    "explained_projection",
    "mae_hu",
    "paired_interval",
    "psnr3d",
    "reprojection_error",
    "slice_psnr",
    "ssim3d",
]
