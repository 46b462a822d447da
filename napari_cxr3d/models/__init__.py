"""Networks, and the bundles in which their weights travel.

Importing this package loads neither torch nor MONAI; the modules that define networks do, and
are imported when a network is built.
"""

from napari_cxr3d.models.bundle import Bundle, open_bundle, write_bundle
from napari_cxr3d.models.hu_window import HuWindow

__all__ = ["Bundle", "HuWindow", "open_bundle", "write_bundle"]
