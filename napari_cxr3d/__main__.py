"""``python -m napari_cxr3d``: the same as the ``cxr3d`` command."""

from napari_cxr3d.cli import main

if __name__ == "__main__":
    main()
