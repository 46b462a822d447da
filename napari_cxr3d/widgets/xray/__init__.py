"""The X-ray panel: turn the source around a CT and see the radiograph follow."""

from napari_cxr3d.widgets.xray.widget import XrayPanel

__all__ = ["XrayPanel"]
