"""The one room that adds or changes napari layers: layers, planes, overlays, windows."""
