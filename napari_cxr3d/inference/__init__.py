"""What the panels and the command line ask for: pure functions from a request to a result."""

from napari_cxr3d.inference.drr import DrrRequest, DrrResult, render_drr, sweep_views

__all__ = ["DrrRequest", "DrrResult", "render_drr", "sweep_views"]
