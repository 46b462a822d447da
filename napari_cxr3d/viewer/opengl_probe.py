"""Which OpenGL this desktop offers: run as ``python -m napari_cxr3d.viewer.opengl_probe``.

A broken driver may crash the process that makes an OpenGL context, so this module is
run in a process of its own; it prints one JSON object.
"""

from __future__ import annotations

import json

__all__ = ["SOFTWARE_RENDERERS", "describe_opengl"]

# Mesa's and Microsoft's renderers that draw on the CPU.
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast", "gdi generic", "basic render")


def describe_opengl() -> dict[str, str | int | bool]:
    """The Qt binding and platform, and the OpenGL renderer behind them.

    Returns
    -------
    dict
        ``qt``, ``platform``; and where a context can be made ``renderer``, ``version``,
        ``max_3d_texture`` (voxels along an axis) and ``software``.
    """
    import qtpy
    from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext

    application = QGuiApplication([])
    found: dict[str, str | int | bool] = {
        "qt": f"{qtpy.API_NAME} {qtpy.QT_VERSION}",
        "platform": application.platformName(),
    }
    surface, context = QOffscreenSurface(), QOpenGLContext()
    surface.create()
    if not (context.create() and context.makeCurrent(surface)):
        return found

    from OpenGL import GL  # type: ignore[import-untyped]

    renderer = GL.glGetString(GL.GL_RENDERER).decode(errors="replace")
    return found | {
        "renderer": renderer,
        "version": GL.glGetString(GL.GL_VERSION).decode(errors="replace"),
        "max_3d_texture": int(GL.glGetIntegerv(GL.GL_MAX_3D_TEXTURE_SIZE)),
        "software": any(name in renderer.lower() for name in SOFTWARE_RENDERERS),
    }


if __name__ == "__main__":
    print(json.dumps(describe_opengl()))
