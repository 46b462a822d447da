"""The Study panel: open CTs and chest X-rays, and read them."""

from napari_cxr3d.widgets.study.widget import StudyPanel

__all__ = ["StudyPanel"]
