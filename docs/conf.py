"""Sphinx configuration: `make docs` builds the site, with warnings as errors."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "napari-cxr3d"
author = "The napari-cxr3d developers"
copyright = f"2026, {author}"
version = release = installed_version("napari-cxr3d")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
add_module_names = False
default_role = "py:obj"

# The site is read offline too, so nothing in it comes from another server.
html_theme = "furo"
html_title = f"napari-cxr3d {release}"
copybutton_prompt_text = "$ "


def shorten_arrays(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str]:
    """Write array types as the code does: NDArray[float32]."""

    pattern = re.compile(r"~?[\w.]*ndarray\[tuple\[[^]]*\], ~?[\w.]*dtype\[(~?[\w.]+)\]\]")
    return (
        signature and pattern.sub(r"NDArray[\1]", signature),
        returns and pattern.sub(r"NDArray[\1]", returns),
    )


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", shorten_arrays)
