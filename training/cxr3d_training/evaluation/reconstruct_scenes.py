"""What a reconstruction is measured on: a truth on the model's grid, and X-rays of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cxr3d_training.data import CohortCase
from cxr3d_training.data.grids import on_grid
from cxr3d_training.data.poses import FixedPoses
from cxr3d_training.data.views import RenderedViews, ViewRenderer
from cxr3d_training.recipes.xray_batches import rendered_batch, validation_views
from napari_cxr3d.imaging import Radiograph, Volume, XrayView
from napari_cxr3d.inference.xray_input import PreparedViews, XrayInput, prepare_inputs
from napari_cxr3d.inference.xray_input_types import Projection
from napari_cxr3d.models.reconstruction import ReconstructionModel, ViewBatch
from napari_cxr3d.xray.calibration import approximate_integrals

__all__ = ["HELD_OUT", "Scene", "Stage", "joined"]

Mask = npt.NDArray[np.bool_]
Images = npt.NDArray[np.float32]

_FINER = 4  # pixels of a file on one of the detector's
_PROJECTIONS: tuple[Projection, ...] = ("pa", "lateral-left")

HELD_OUT: tuple[tuple[float, float], ...] = ((30.0, 0.0), (60.0, 0.0), (0.0, 10.0))
"""Yaw and pitch in degrees of poses that no method is shown."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Where the X-rays of an evaluation are taken, and on what grid the truth lies.

    Attributes
    ----------
    volume_shape, spacing_mm : tuple of 3
        The model's grid.
    detector_shape : tuple of 2 int
        Its detector.
    field_mm : float
        Edge of the square detector.
    """

    volume_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    detector_shape: tuple[int, int]
    field_mm: float = 440.0

    @classmethod
    def of(cls, model: ReconstructionModel, field_mm: float = 440.0) -> Stage:
        """The stage of a model."""
        return cls(model.volume_shape, model.spacing_mm, model.detector_shape, field_mm)

    @cached_property
    def inputs(self) -> tuple[XrayView, ...]:
        """The PA view and the left lateral, about the grid's centre."""
        return self._centered(validation_views(self.detector_shape, self.field_mm))

    @cached_property
    def held_out(self) -> tuple[XrayView, ...]:
        """The poses of `HELD_OUT`, at the distances of the PA view."""
        return tuple(replace(self.inputs[0], yaw=yaw, pitch=pitch) for yaw, pitch in HELD_OUT)

    def scene(self, case: CohortCase) -> Scene:
        """A case on the grid, its centre at LPS (0, 0, 0), with X-rays of that very volume.

        Raises
        ------
        InvalidInputError
            If the case has another spacing than the grid.
        """
        volume, maps = on_grid(case, self.volume_shape, self.spacing_mm)
        return Scene(case.id, case.patient, self, volume, maps["body"], maps["lungs"])

    @cached_property
    def renderer(self) -> ViewRenderer:
        """Line integrals, by our own kernels on any machine."""
        return ViewRenderer(FixedPoses(self.inputs), engine="cpu")

    @cached_property
    def developer(self) -> ViewRenderer:
        """Realistic pictures: polychromatic, scattered, noisy, processed."""
        return ViewRenderer(FixedPoses(self.inputs), domain="realistic", engine="cpu")

    @staticmethod
    def _centered(views: Sequence[XrayView]) -> tuple[XrayView, ...]:
        return tuple(replace(view, isocenter_lps=(0.0, 0.0, 0.0)) for view in views)


@dataclass(frozen=True, eq=False)
class Scene:
    """One patient on the stage.

    Attributes
    ----------
    case, patient : str
        As the cohort names them.
    stage : Stage
        Grid and poses.
    truth : Volume
        HU on the grid, its centre at LPS (0, 0, 0).
    body, lungs : ndarray of bool, shape (I, P, L)
        Masks of the truth.
    """

    case: str
    patient: str
    stage: Stage
    truth: Volume
    body: Mask
    lungs: Mask

    @cached_property
    def sha256(self) -> str:
        """Identity of the truth, for results that are kept."""
        return sha256(np.ascontiguousarray(self.truth.hu).data).hexdigest()

    @cached_property
    def seed(self) -> int:
        """A number of this case alone: its noise is the same in whatever batch it is drawn."""
        return int(sha256(self.case.encode()).hexdigest()[:12], 16)

    @cached_property
    def rendered(self) -> RenderedViews:
        """Exact line integrals of the inputs' poses."""
        return self.stage.renderer.render(self.truth, self.stage.inputs)

    @cached_property
    def held_out(self) -> Images:
        """Exact line integrals of the held-out poses, [V, rows, cols]."""
        return self.stage.renderer.render(self.truth, self.stage.held_out).integrals

    def shown(self, views: int, stage: Stage | None = None) -> ViewBatch:
        """The first views of the inputs, exact, as a batch of one; on another stage's detector."""
        if stage is None or stage.detector_shape == self.stage.detector_shape:
            return rendered_batch(self.rendered, views)
        return rendered_batch(stage.renderer.render(self.truth, stage.inputs), views)

    def pictures(self, views: int) -> ViewBatch:
        """The same views as realistic pictures, read back by anatomical anchors, not exact."""
        seeds = np.random.SeedSequence([self.seed, 1]).generate_state(views).tolist()
        rendered = self.stage.developer.render(self.truth, self.stage.inputs[:views], seeds)
        assert rendered.pictures is not None  # the developer makes them
        read = [approximate_integrals(p, polarity="trust")[0] for p in rendered.pictures]
        batch = rendered_batch(replace(rendered, integrals=np.stack(read)), views)
        return batch._replace(exact=torch.zeros_like(batch.exact))

    def files(self, views: int) -> PreparedViews:
        """The same pictures four times as fine, as if read from files that tell their pitch.

        `inference.xray_input` prepares them as those of a user: distances are assumed, the
        thorax is put where it finds it.
        """
        fine = [
            replace(
                view,
                detector_shape=(_FINER * view.detector_shape[0], _FINER * view.detector_shape[1]),
                pixel_mm=view.pixel_mm / _FINER,
            )
            for view in self.stage.inputs[:views]
        ]
        seeds = np.random.SeedSequence([self.seed, 1]).generate_state(views).tolist()
        pictures = self.stage.developer.render(self.truth, fine, seeds).pictures
        assert pictures is not None  # the developer makes them
        inputs = [
            XrayInput(
                Radiograph(picture, pitch_mm=(view.pixel_mm, view.pixel_mm), synthetic=True),
                projection,
            )
            for picture, view, projection in zip(pictures, fine, _PROJECTIONS, strict=False)
        ]
        return prepare_inputs(
            inputs, detector_shape=self.stage.detector_shape, field_mm=self.stage.field_mm
        )


def joined(scenes: Sequence[Scene], look: Callable[[Scene], ViewBatch]) -> ViewBatch:
    """One batch of the X-rays that every scene gives."""
    parts: Any = [look(scene) for scene in scenes]
    return ViewBatch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
