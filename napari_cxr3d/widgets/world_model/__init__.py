"""The World model panel: landmarks from picture to picture, predicted views, volumes from them."""

from napari_cxr3d.widgets.world_model.widget import WorldModelPanel

__all__ = ["WorldModelPanel"]
