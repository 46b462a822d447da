"""What a process of its own is asked to do with pictures: each call names its model.

Features are small (a token a patch) and travel; the network and its libraries stay there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_cxr3d.imaging import Volume
from napari_cxr3d.inference.orbit_picture import Plane, prepare_picture, slice_picture
from napari_cxr3d.inference.xray_input_types import XrayInput
from napari_cxr3d.progress import CancelToken, ProgressCallback

if TYPE_CHECKING:
    from napari_cxr3d.inference.novel_views_comparison import ViewComparison
    from napari_cxr3d.inference.novel_views_types import NovelViewsResult
    from napari_cxr3d.inference.similarity import PatchFeatures

__all__ = [
    "CtSlice",
    "PictureSource",
    "SweepState",
    "VectorsState",
    "compare_with_ct",
    "features_of",
    "features_of_sweep",
    "vectors_of",
]


@dataclass(frozen=True, eq=False)
class CtSlice:
    """A CT slice as a picture.

    Attributes
    ----------
    volume : Volume
        One slice thick: the rest of the CT need not travel.
    plane : {"axial", "coronal", "sagittal"}
        Across which axis it is thin.
    """

    volume: Volume
    plane: Plane

    @classmethod
    def cut(cls, volume: Volume, plane: Plane, index: int) -> CtSlice:
        """The slice of an index along the plane's axis, in its place."""
        axis = ("axial", "coronal", "sagittal").index(plane)
        part = [slice(None)] * 3
        part[axis] = slice(index, index + 1)
        first = [0.0, 0.0, 0.0]
        first[axis] = float(index)
        x, y, z = (float(v) for v in volume.grid.index_to_lps(first))
        return cls(replace(volume, hu=volume.hu[tuple(part)], origin_lps=(x, y, z)), plane)


PictureSource = XrayInput | CtSlice
"""What can be made a picture on a world model's detector."""


@dataclass(frozen=True, eq=False)
class SweepState:
    """How far a sweep has been encoded.

    Attributes
    ----------
    index, count : int
        Frames that are done, and all of them.
    result : tuple of PatchFeatures or None
        One a frame; in the last state only.
    """

    index: int
    count: int
    result: tuple[PatchFeatures, ...] | None = None


def features_of(
    source: PictureSource, model: str, *, name: str = "", device: str = "cpu"
) -> PatchFeatures:
    """The patch features of a picture.

    Parameters
    ----------
    source : XrayInput or CtSlice
        The picture.
    model : str
        Name or path of a world model.
    name : str
        Of the picture, for people.
    device : str
        Where the network runs.
    """
    from napari_cxr3d.inference.similarity import patch_features
    from napari_cxr3d.inference.world_models import load_world_model

    loaded = load_world_model(model, device=device)
    if isinstance(source, CtSlice):
        picture = replace(slice_picture(source.volume, source.plane, 0, loaded.model), name=name)
    else:
        picture = prepare_picture(source, loaded.model, name=name)
    return patch_features(picture, loaded)


def features_of_sweep(
    frames: Sequence[XrayInput],
    model: str,
    *,
    device: str = "cpu",
    cancel: CancelToken | None = None,
) -> Iterator[SweepState]:
    """The patch features of the frames of a sweep, one state a frame.

    The frames are display pictures of known geometry, bone bright unless they say otherwise.
    Parameters as `features_of`; `cancel` is looked at between frames.
    """
    from napari_cxr3d.inference.similarity import patch_features
    from napari_cxr3d.inference.world_models import load_world_model

    loaded = load_world_model(model, device=device)
    made: list[PatchFeatures] = []
    for frame in frames:
        if cancel is not None:
            cancel.raise_if_cancelled()
        picture = prepare_picture(frame, loaded.model)
        # Tracking asks for projections by this flag, and needs their geometry alone.
        picture = replace(picture, exact=picture.center_lps is not None)
        made.append(patch_features(picture, loaded))
        yield SweepState(len(made), len(frames))
    yield SweepState(len(made), len(frames), tuple(made))


def compare_with_ct(
    result: NovelViewsResult,
    volume: Volume,
    model: str,
    *,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ViewComparison:
    """As `compare_views`, with the errors of the tokens of a model named.

    Parameters as `compare_views` and `features_of`.
    """
    from napari_cxr3d.inference.novel_views_comparison import compare_views
    from napari_cxr3d.inference.world_models import load_world_model

    loaded = load_world_model(model, device=device)
    return compare_views(result, volume, loaded=loaded, progress=progress, cancel=cancel)


@dataclass(frozen=True, eq=False)
class VectorsState:
    """How far many pictures have come.

    Attributes
    ----------
    index, count : int
        Pictures that are done, and all of them.
    vectors : ndarray of float32, shape (n, E), or None
        One vector each; in the last state only.
    """

    index: int
    count: int
    vectors: npt.NDArray[np.float32] | None = None


def vectors_of(
    sources: Sequence[PictureSource],
    model: str,
    *,
    device: str = "cpu",
    cancel: CancelToken | None = None,
) -> Iterator[VectorsState]:
    """One vector a picture, the mean of its patches, one state a picture.

    Parameters as `features_of`; `cancel` is looked at between pictures.
    """
    vectors = []
    for source in sources:
        if cancel is not None:
            cancel.raise_if_cancelled()
        tokens = features_of(source, model, device=device).tokens
        vectors.append(tokens.reshape(-1, tokens.shape[-1]).mean(0))
        yield VectorsState(len(vectors), len(sources))
    yield VectorsState(len(vectors), len(sources), np.asarray(vectors, np.float32))
