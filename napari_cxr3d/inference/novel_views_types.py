"""What is asked of a world model that draws an X-ray from elsewhere, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, SourceInfo, XrayView
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.world_models import DEFAULT_MODEL
from napari_cxr3d.inference.xray_input_types import InputFinding, XrayInput
from napari_cxr3d.provenance import Provenance

__all__ = ["NovelViewsRequest", "NovelViewsResult", "NovelViewsState", "Stage", "nearest_yaw"]

FloatImages = npt.NDArray[np.float32]
Stage = Literal["model", "predicting", "confidence", "done"]

_PREDICTING = 0.25  # part of the work, where confidence is asked for


def checked_yaws(yaws: Sequence[float] | None) -> tuple[float, ...] | None:
    """Angles of a request: finite, at least one, none twice.

    Raises
    ------
    InvalidInputError
        If they are not.
    """
    if yaws is None:
        return None
    found = tuple(float(yaw) for yaw in yaws)
    if not found or not all(math.isfinite(yaw) for yaw in found):
        raise InvalidInputError(
            "The angles must be finite numbers of degrees, one or more", why=f"they are {found}"
        )
    if len(set(found)) < len(found):
        raise InvalidInputError("An angle is asked for twice", remedy="name every angle once")
    return found


@dataclass(frozen=True, eq=False)
class NovelViewsRequest:
    """Which X-ray is to be seen from where, by which world model.

    Attributes
    ----------
    input : XrayInput
        The X-ray, with what its user confirmed about it.
    model : str
        A world model's name, or the path of a bundle's folder or zip.
    yaws : tuple of float or None
        Degrees by which the source is turned about the patient from where the X-ray was taken;
        those that the model was trained on when None.
    accepted : tuple of str
        Codes of findings that the user knows and accepts.
    confidence : bool
        Also tell how steady each view is; takes three times as long as predicting.

    Raises
    ------
    InvalidInputError
        If an angle cannot be used.
    """

    input: XrayInput
    model: str = DEFAULT_MODEL
    yaws: tuple[float, ...] | None = None
    accepted: tuple[str, ...] = ()
    confidence: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "yaws", checked_yaws(self.yaws))
        object.__setattr__(self, "accepted", tuple(self.accepted))


@dataclass(frozen=True, eq=False)
class NovelViewsResult:
    """SYNTHETIC X-rays: what a world model expects one X-ray to look like from elsewhere.

    Attributes
    ----------
    yaws : tuple of float
        Degrees from the given X-ray.
    views : tuple of XrayView
        Where from: the given exposure turned by each yaw about LPS (0, 0, 0).
    integrals : ndarray of float32, shape (K, rows, cols)
        Line integrals, dimensionless, on the scale that the model expects of the patient.
    picture : OrbitPicture
        What the model was shown.
    latents : ndarray of float32, shape (K, N, D)
        The predicted tokens that the views were rendered from.
    confidence : ndarray of float32, shape (K,)
        0 to 1: how much of each view stays when the X-ray is changed as another exposure of the
        same patient would be; NaN where it was not asked for. See
        `napari_cxr3d.inference.novel_views_confidence`.
    findings : tuple of InputFinding
        What was unusual about the X-ray.
    notes : tuple of str
        What was assumed, one sentence each.
    provenance : Provenance
        Everything that shaped the result.
    card : mapping
        What the model says of itself.
    timings : mapping of str to float
        Seconds of each stage, and of all.
    """

    yaws: tuple[float, ...]
    views: tuple[XrayView, ...]
    integrals: FloatImages
    picture: OrbitPicture
    latents: FloatImages
    confidence: FloatImages
    findings: tuple[InputFinding, ...]
    notes: tuple[str, ...]
    provenance: Provenance
    card: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def white(self) -> float:
        """The line integral that is shown white in all views: nearly the largest."""
        return max(float(np.percentile(self.integrals, 99.8)), 1e-6)

    def radiograph(self, index: int = 0) -> Radiograph:
        """One view as a radiograph that says that it is synthetic.

        Parameters
        ----------
        index : int
            Which view; negative counts from the last.
        """
        view = self.views[index]
        return Radiograph(
            self.integrals[index],
            pitch_mm=(view.pixel_mm, view.pixel_mm),
            view=view,
            source=SourceInfo(
                kind="predicted view",
                description=f"SYNTHETIC view · yaw {self.yaws[index]:g}°",
                modality="DX",
                notes=("Predicted by a world model from one X-ray; no detector measured it.",),
            ),
            quantity="line_integral",
            synthetic=True,
        )


@dataclass(frozen=True, eq=False)
class NovelViewsState:
    """How far the prediction of views has come.

    Attributes
    ----------
    stage : {"model", "predicting", "confidence", "done"}
        What it does, or has just done where there is a view.
    index, count : int
        The view of this state, from 0, and how many there will be.
    view : XrayView or None
        Where it is seen from.
    integrals : ndarray of float32, shape (rows, cols), or None
        What is seen, in line integrals.
    message : str
        A short phrase for the user.
    elapsed_s : float
        Seconds since the start.
    result : NovelViewsResult or None
        Everything, in the last state.
    """

    stage: Stage
    index: int = 0
    count: int = 0
    view: XrayView | None = None
    integrals: FloatImages | None = None
    message: str = ""
    elapsed_s: float = 0.0
    result: NovelViewsResult | None = None

    @property
    def fraction(self) -> float:
        """Finished part of the whole, 0 to 1, for a progress bar."""
        if self.stage == "done":
            return 1.0
        if self.stage == "model" or not self.count:
            return 0.0
        done = (self.index + 1) / self.count
        return _PREDICTING * (self.stage == "confidence") + done * (
            _PREDICTING if self.stage == "predicting" else 1 - _PREDICTING
        )


def turned_view(view: XrayView, yaw: float) -> XrayView:
    """The exposure with its source turned about the patient, degrees within (-180, 180]."""
    turned = 180.0 - (180.0 - view.yaw - yaw) % 360.0
    return replace(view, yaw=turned)


def nearest_yaw(yaws: Sequence[float], wanted: float) -> int:
    """Which of the angles lies nearest to one."""
    return int(np.argmin(np.abs(np.asarray(yaws, np.float64) - wanted)))
