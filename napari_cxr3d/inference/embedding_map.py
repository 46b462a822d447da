"""Vectors of X-rays as points of a plane, for looking at: principal components, or t-SNE."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import BackendUnavailableError, InvalidInputError
from napari_cxr3d.io.destination import new_file

__all__ = ["MAPPINGS", "EmbeddingMap", "Mapping2d", "map_embeddings", "write_map"]

Mapping2d = Literal["pca", "tsne"]

MAPPINGS: tuple[Mapping2d, ...] = get_args(Mapping2d)
"""How vectors become points: along the two directions of most variance; or neighbours together."""

_PLOT, _MARGIN, _LEGEND, _DOT = 640, 40, 200, 5
# Okabe and Ito, Color Universal Design, 2008: told apart by the colour-blind too.
_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (90, 90, 90),
)
_FEWEST = 4  # of which t-SNE has neighbours to speak of


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Points of a plane.

    Attributes
    ----------
    points : ndarray of float32, shape (N, 2)
        One an X-ray.
    names : tuple of str
        Of the X-rays.
    labels : tuple of str
        What each is coloured by; empty strings where nothing is known.
    mapping : {"pca", "tsne"}
        How they were made.
    explained : tuple of 2 float, or None
        Part of the variance along each axis, of principal components.
    note : str
        What a reader must know.
    """

    points: npt.NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    mapping: Mapping2d
    explained: tuple[float, float] | None
    note: str


def map_embeddings(
    vectors: npt.ArrayLike,
    names: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    mapping: Mapping2d = "pca",
    perplexity: float = 30.0,
    seed: int = 0,
) -> EmbeddingMap:
    """Lay vectors out in a plane.

    Principal components are signed so that the largest weight of each is positive. t-SNE (van der
    Maaten and Hinton, J. Mach. Learn. Res. 9, 2579-2605, 2008) begins from them and keeps
    neighbours together: its distances between groups, and their sizes, mean nothing.

    Parameters
    ----------
    vectors : array-like, shape (N, E)
        Two or more, such as `Embeddings.vectors`.
    names : sequence of str
        Of the X-rays.
    labels : sequence of str, optional
        What each is coloured by.
    mapping : {"pca", "tsne"}
        How; ``tsne`` needs scikit-learn.
    perplexity : float
        Of t-SNE: about how many neighbours count; at most a third of the vectors is taken.
    seed : int
        Of t-SNE.

    Raises
    ------
    InvalidInputError
        If there are too few vectors, a number is none, or counts differ.
    BackendUnavailableError
        If t-SNE is asked for and scikit-learn is not installed.
    """
    x = np.asarray(vectors, np.float64)
    told = tuple("" for _ in names) if labels is None else tuple(map(str, labels))
    if x.ndim != 2 or not len(x) == len(names) == len(told) or not np.isfinite(x).all():
        raise InvalidInputError(
            "Every X-ray has one vector of finite numbers, one name and one label",
            why=f"there are vectors of shape {x.shape}, {len(names)} names and {len(told)} labels",
        )
    fewest = 2 if mapping == "pca" else _FEWEST
    if mapping not in MAPPINGS or len(x) < fewest or x.shape[1] < 2:
        raise InvalidInputError(
            f"No map by {mapping} can be made",
            why=f"there are {len(x)} vectors of {x.shape[1]} numbers",
            remedy=f"give {fewest} X-rays or more, and a mapping of {', '.join(MAPPINGS)}",
        )
    points, of_axes = _components(x)
    explained: tuple[float, float] | None = of_axes
    note = "Principal components: distances are those of the vectors, as far as two axes hold them."
    if mapping == "tsne":
        used = min(perplexity, (len(x) - 1) / 3)
        points = _neighbours(x, points, used, seed)
        explained = None
        note = (
            f"t-SNE, perplexity {used:g}, seed {seed}: neighbours mean something, distances do not."
        )
    return EmbeddingMap(
        np.asarray(points, np.float32), tuple(map(str, names)), told, mapping, explained, note
    )


def write_map(
    found: EmbeddingMap,
    path: str | Path,
    *,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> Path:
    """Write the points as a table (``.csv``) or as a picture with a legend (``.png``).

    Parameters
    ----------
    found : EmbeddingMap
        The points.
    path : path-like
        The suffix decides.
    overwrite : bool
        Whether a file that is there may be replaced.
    sources : iterable of Path
        Files that were read, which are never replaced.

    Raises
    ------
    InvalidInputError
        If the suffix is another.
    ExportError
        If the file must not or cannot be written.
    """
    path = Path(path)
    write = {".csv": _write_csv, ".png": _write_png}.get(path.suffix.lower())
    if write is None:
        raise InvalidInputError(
            f"A map is not written as {path.suffix or 'a file without a suffix'}",
            remedy="give a name that ends in .csv or .png",
        )
    with new_file(path, overwrite=overwrite, sources=sources) as temporary:
        write(temporary, found)
    return path


def _components(x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    centered = x - x.mean(0)
    left, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    points = left[:, :2] * sizes[:2]
    largest = np.abs(axes[:2]).argmax(1)
    points = points * np.where(axes[np.arange(2), largest] < 0, -1.0, 1.0)
    total = float((sizes**2).sum()) or 1.0
    return points, (float(sizes[0] ** 2 / total), float(sizes[1] ** 2 / total))


def _neighbours(
    x: npt.NDArray[np.float64], begin: npt.NDArray[Any], perplexity: float, seed: int
) -> npt.NDArray[Any]:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise BackendUnavailableError(
            "t-SNE needs scikit-learn, which is not installed",
            remedy='pip install "napari-cxr3d[train]", or map by pca',
        ) from error
    scale = float(begin[:, 0].std()) or 1.0
    found = TSNE(
        perplexity=perplexity, init=(begin / scale * 1e-4).astype(np.float32), random_state=seed
    ).fit_transform(x.astype(np.float32))
    return np.asarray(found)


def _write_csv(path: Path, found: EmbeddingMap) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "label", "x", "y"])
        for name, label, (x, y) in zip(found.names, found.labels, found.points, strict=True):
            table.writerow([name, label, f"{x:.6g}", f"{y:.6g}"])


def _write_png(path: Path, found: EmbeddingMap) -> None:
    from PIL import Image, ImageDraw, ImageFont

    width, height = _PLOT + 2 * _MARGIN + _LEGEND, _PLOT + 2 * _MARGIN
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    pen.rectangle((_MARGIN, _MARGIN, _MARGIN + _PLOT, _MARGIN + _PLOT), outline=(160, 160, 160))
    low = found.points.min(0)
    span = float((found.points.max(0) - low).max()) or 1.0  # one scale for both axes
    places = (found.points - low - (found.points.max(0) - low) / 2) / span
    colours = _colours(found.labels)
    for (x, y), label in zip(places.tolist(), found.labels, strict=True):
        across = _MARGIN + _PLOT * (0.5 + 0.94 * x)
        down = _MARGIN + _PLOT * (0.5 - 0.94 * y)
        box = (across - _DOT, down - _DOT, across + _DOT, down + _DOT)
        pen.ellipse(box, fill=colours[label], outline="white")
    for k, (label, colour) in enumerate(colours.items()):
        y = _MARGIN + 22 * k
        x = _PLOT + 2 * _MARGIN
        pen.ellipse((x, y, x + 2 * _DOT, y + 2 * _DOT), fill=colour)
        count = found.labels.count(label)
        pen.text((x + 16, y - 4), f"{label or 'all'} ({count})"[:26], fill="black", font=font)
    axes: tuple[str, ...] = ("", "")
    if found.explained is not None:
        axes = tuple(f"{part:.0%} of the variance" for part in found.explained)
    pen.text((_MARGIN, _MARGIN + _PLOT + 8), axes[0], fill="black", font=font)
    pen.text((_MARGIN, 14), " ".join((axes[1], found.mapping)).strip(), fill="black", font=font)
    picture.save(path, format="PNG")


def _colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    names = sorted(set(labels))
    return {name: _COLOURS[k % len(_COLOURS)] for k, name in enumerate(names)}
