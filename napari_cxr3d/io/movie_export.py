"""Sweeps as moving pictures: GIF, MP4 and numbered PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.io.destination import new_file
from napari_cxr3d.io.synthetic_mark import SYNTHETIC_NOTE, burn_in, mark_text
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["write_gif", "write_mp4"]

_Frames = list[npt.NDArray[np.uint8]]


def write_gif(
    pictures: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView] = (),
    frames_per_second: float = 12.0,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Write a sweep as an endless GIF in 256 greys, SYNTHETIC burnt into each frame.

    Parameters
    ----------
    pictures : ndarray, shape (V, rows, cols)
        0 to 1.
    path : path-like
        A ``.gif`` file.
    views : sequence of XrayView
        One for each picture, for the angles on the frames; or none.
    frames_per_second : float
        Positive; players round a frame to hundredths of a second.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : sequence of Path
        Files and folders that are never replaced.

    Raises
    ------
    InvalidInputError
        If the frame rate is not positive, or pictures and views do not match.
    ExportError
        If the file must not or cannot be written.
    Cancelled
        If the token was cancelled; nothing is left behind.
    """
    from PIL import Image

    _require_rate(frames_per_second)
    path = Path(path).expanduser()
    with new_file(path, overwrite=overwrite, sources=sources) as temporary:
        first, *others = [
            Image.fromarray(frame) for frame in _marked(pictures, views, progress, cancel)
        ]
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=round(1000 / frames_per_second),
            loop=0,
            comment=SYNTHETIC_NOTE.encode("ascii"),
        )
    return path


def write_mp4(
    pictures: npt.NDArray[Any],
    path: str | Path,
    *,
    views: Sequence[XrayView] = (),
    frames_per_second: float = 12.0,
    overwrite: bool = False,
    sources: Sequence[Path] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Write a sweep as an H.264 film, SYNTHETIC burnt into each frame.

    Parameters
    ----------
    pictures : ndarray, shape (V, rows, cols)
        0 to 1.
    path : path-like
        An ``.mp4`` file.
    views : sequence of XrayView
        One for each picture, for the angles on the frames; or none.
    frames_per_second : float
        Positive.
    overwrite : bool
        Whether an existing file may be replaced.
    sources : sequence of Path
        Files and folders that are never replaced.

    Raises
    ------
    BackendUnavailableError
        If imageio-ffmpeg is not installed.
    InvalidInputError
        If the frame rate is not positive, or pictures and views do not match.
    ExportError
        If the file must not or cannot be written.
    Cancelled
        If the token was cancelled; nothing is left behind.
    """
    _require_rate(frames_per_second)
    if find_spec("imageio_ffmpeg") is None:
        raise BackendUnavailableError(
            "MP4 films cannot be written here",
            why="imageio-ffmpeg is not installed",
            remedy="type pip install imageio-ffmpeg, or write a GIF",
        )
    import imageio.v2 as imageio

    path = Path(path).expanduser()
    with (
        new_file(path, overwrite=overwrite, sources=sources) as temporary,
        imageio.get_writer(
            temporary,
            format="FFMPEG",
            fps=frames_per_second,
            codec="libx264",
            quality=8,
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=["-metadata", f"comment={SYNTHETIC_NOTE}"],
        ) as film,
    ):
        for frame in _marked(pictures, views, progress, cancel):
            film.append_data(_even(frame))  # type: ignore[attr-defined]
    return path


def _require_rate(frames_per_second: float) -> None:
    if not 0 < frames_per_second <= 100:
        raise InvalidInputError(
            "The frame rate must lie between 0 and 100 per second",
            why=f"it is {frames_per_second:g}",
        )


def _marked(
    pictures: npt.NDArray[Any],
    views: Sequence[XrayView],
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> _Frames:
    """8-bit frames with the mark burnt in."""
    stack = np.asarray(pictures).reshape(-1, *np.shape(pictures)[-2:])
    if views and len(views) != len(stack):
        raise InvalidInputError(
            "Every picture needs its view", why=f"{len(stack)} pictures, {len(views)} views"
        )
    frames = []
    for index, picture in enumerate(stack):
        if cancel is not None:
            cancel.raise_if_cancelled()
        grey = np.rint(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)
        frames.append(burn_in(grey, mark_text(views[index] if views else None)))
        if progress is not None:
            progress(Progress(index + 1, len(stack), f"drawing frame {index + 1}"))
    return frames


def _even(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Frame with even sides, as the codec wants them."""
    rows, cols = frame.shape
    return np.pad(frame, ((0, rows % 2), (0, cols % 2)), mode="edge")
