"""The Reconstruct panel: from chest X-rays to a synthetic CT, and how far to trust it."""

from napari_cxr3d.widgets.reconstruct.widget import ReconstructPanel

__all__ = ["ReconstructPanel"]
