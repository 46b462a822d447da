"""Vectors of many X-rays by a world model, for search, clustering and small classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError, InvalidInputError
from napari_cxr3d.imaging import Radiograph
from napari_cxr3d.inference.orbit_picture import OrbitPicture, prepare_picture
from napari_cxr3d.inference.xray_input import Projection, XrayInput, guess_input
from napari_cxr3d.io.destination import new_file
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

if TYPE_CHECKING:
    import torch

    from napari_cxr3d.inference.world_models import LoadedWorldModel

__all__ = ["POOLINGS", "Embeddings", "Pooling", "embed_files", "embed_pictures"]

FloatImage = npt.NDArray[np.float32]
Pooling = Literal["mean", "orbit"]

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""How tokens become a vector: their mean; or the mean of those predicted for each angle."""

_BATCH = 16
_ORBIT_ANGLES = 13
_HASH_DIGITS = 16  # of a name


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One vector for each X-ray that could be read.

    Attributes
    ----------
    vectors : ndarray of float32, shape (N, E)
        The vectors.
    names : tuple of str
        Of the X-rays: the paths as they were given (with ``#k`` where a file holds several
        views), or hashes of their pixels.
    projections : tuple of str
        What each was taken for, such as ``"pa"``.
    failures : tuple of (str, str)
        Name and reason of each file that gave no vector.
    model, version, sha256 : str
        Of the weights.
    pooling : {"mean", "orbit"}
        How the vectors were made.
    """

    vectors: FloatImage
    names: tuple[str, ...]
    projections: tuple[str, ...]
    failures: tuple[tuple[str, str], ...]
    model: str
    version: str
    sha256: str
    pooling: Pooling

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable record without the vectors."""
        return {
            "count": len(self.names),
            "dimensions": int(self.vectors.shape[1]),
            "names": list(self.names),
            "projections": list(self.projections),
            "failures": [{"name": name, "reason": reason} for name, reason in self.failures],
            "model": self.model,
            "model_version": self.version,
            "weights_sha256": self.sha256,
            "pooling": self.pooling,
        }

    def write(
        self, path: str | Path, *, overwrite: bool = False, sources: Iterable[Path] = ()
    ) -> Path:
        """Write an ``.npz`` that `numpy.load` reads without pickle.

        Parameters
        ----------
        path : path-like
            Ends in ``.npz``.
        overwrite : bool
            Whether it may be replaced.
        sources : iterable of Path
            Files that are never replaced.

        Raises
        ------
        InvalidInputError
            If the name does not end in ``.npz``.
        ExportError
            If it must not or cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() != ".npz":
            raise InvalidInputError(
                "Vectors are written as .npz", why=f"the name ends in {path.suffix or 'nothing'}"
            )
        with new_file(path, overwrite=overwrite, sources=sources) as temporary:
            np.savez(
                temporary,
                vectors=self.vectors,
                names=np.array(self.names, dtype=np.str_),
                projections=np.array(self.projections, dtype=np.str_),
                model=np.array(self.model),
                model_version=np.array(self.version),
                weights_sha256=np.array(self.sha256),
                pooling=np.array(self.pooling),
            )
        return path


def embed_files(
    paths: Sequence[str | Path],
    loaded: LoadedWorldModel,
    *,
    pooling: Pooling = "mean",
    projection: Projection | None = None,
    hash_names: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Embeddings:
    """Read files, guess what nobody said of them, and make their vectors.

    Parameters
    ----------
    paths : sequence of path-like
        Whatever `napari_cxr3d.io.read_xrays` reads.
    loaded : LoadedWorldModel
        The model.
    pooling : {"mean", "orbit"}
        ``"mean"`` of the tokens; ``"orbit"``, the means of the tokens that are predicted
        for about a dozen angles, one after the other.
    projection : {"pa", "ap", "lateral-left", "lateral-right", "as-given"}, optional
        Of all of them; read or guessed when None.
    hash_names : bool
        Whether to name the X-rays by a hash of their pixels: names of files can be those of
        patients.
    progress, cancel : optional
        Progress over the files, and cancellation between two.

    Raises
    ------
    InvalidInputError
        If there is no file or no such pooling, or no file could be read.
    Cancelled
        If the token was cancelled.
    """
    from napari_cxr3d.io import read_xrays

    _require_pooling(pooling)
    if not paths:
        raise InvalidInputError("There is no X-ray to embed", remedy="give one or more files")
    vectors: list[FloatImage] = []
    names: list[str] = []
    projections: list[str] = []
    failures: list[tuple[str, str]] = []
    for index, path in enumerate(paths):
        if cancel is not None:
            cancel.raise_if_cancelled()
        try:
            radiographs = read_xrays(path)
            inputs = [guess_input(each, projection=projection).input for each in radiographs]
            pictures = [prepare_picture(each, loaded.model) for each in inputs]
        except Cxr3dError as error:
            failures.append(_failure(path, error, hashed=hash_names))
        else:
            vectors.append(embed_pictures(pictures, loaded, pooling=pooling))
            names += _names(path, inputs, hashed=hash_names)
            projections += [each.projection for each in inputs]
        if progress is not None:
            progress(Progress(index + 1, len(paths), f"X-ray {index + 1}"))
    if not vectors:
        raise InvalidInputError(
            "None of the files gave a vector", why="; ".join(r for _, r in failures[:3])
        )
    return Embeddings(
        np.concatenate(vectors), tuple(names), tuple(projections), tuple(failures),
        loaded.name, loaded.version, loaded.sha256, pooling,
    )  # fmt: skip


def embed_pictures(
    pictures: Sequence[OrbitPicture], loaded: LoadedWorldModel, *, pooling: Pooling = "mean"
) -> FloatImage:
    """Vectors of pictures on the model's detector, shape (N, E).

    Parameters
    ----------
    pictures : sequence of OrbitPicture
        One or more.
    loaded, pooling
        As for `embed_files`.

    Raises
    ------
    InvalidInputError
        If there is no such pooling.
    """
    import torch

    _require_pooling(pooling)
    made = []
    for first in range(0, len(pictures), _BATCH):
        stack = np.stack([p.pixels for p in pictures[first : first + _BATCH]])
        with torch.inference_mode():
            tokens = loaded.model.encode(torch.from_numpy(stack).to(loaded.device))
            tokens = _orbit(tokens, loaded) if pooling == "orbit" else tokens.mean(1)
        made.append(tokens.float().cpu().numpy())
    return np.concatenate(made)


def _orbit(tokens: torch.Tensor, loaded: LoadedWorldModel) -> torch.Tensor:
    """Means of the tokens predicted at even angles, one angle after the other, (B, K D)."""
    yaws = loaded.model.yaws
    every = max(1, round((len(yaws) - 1) / (_ORBIT_ANGLES - 1)))
    chosen = yaws[yaws.index(0.0) % every :: every]
    turns = loaded.model.turns(chosen).to(tokens.device)
    return loaded.model.predict(tokens, turns.expand(len(tokens), -1, -1)).mean(2).flatten(1)


def _require_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise InvalidInputError(
            f"There is no pooling called {pooling!r}",
            remedy=f"choose one of {', '.join(POOLINGS)}",
        )


def _names(path: str | Path, inputs: Sequence[XrayInput], *, hashed: bool) -> list[str]:
    if hashed:
        return [_pixel_hash(each.radiograph) for each in inputs]
    several = len(inputs) > 1
    return [f"{path}#{k}" if several else str(path) for k in range(len(inputs))]


def _failure(path: str | Path, error: Cxr3dError, *, hashed: bool) -> tuple[str, str]:
    if not hashed:
        return str(path), str(error)
    # Neither the name nor what the error tells of the path.
    reason = f"{error.what}: {error.why}" if error.why else error.what
    return sha256(str(path).encode()).hexdigest()[:_HASH_DIGITS], reason


def _pixel_hash(radiograph: Radiograph) -> str:
    source = radiograph.source
    if source is not None and source.content_sha256:
        return source.content_sha256[:_HASH_DIGITS]
    return sha256(np.ascontiguousarray(radiograph.pixels).data).hexdigest()[:_HASH_DIGITS]
