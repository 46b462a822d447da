"""Figures by which a world model's training is watched: few, quick, the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cxr3d_training.data import CohortCase
from cxr3d_training.data.orbits import case_shift, orbit_of, orbit_views
from cxr3d_training.data.poses import FixedPoses
from cxr3d_training.data.views import ViewRenderer
from cxr3d_training.losses.world_model import effective_rank
from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["OrbitValidation"]

_CASES = 24
_ANGLES = 13


@dataclass(frozen=True, eq=False)
class _Held:
    """A validation case, rendered once."""

    integrals: npt.NDArray[np.float32]
    picture: npt.NDArray[np.float32]
    marks: dict[str, tuple[float, float]]  # landmarks on the detector, (row, column)


class OrbitValidation:
    """Renders the first validation cases once, and measures a model on them.

    Parameters
    ----------
    volume_shape, spacing_mm : sequences of 3
        The grid.
    domain : str
        Look of the X-rays that the model is shown.
    """

    def __init__(
        self, volume_shape: Sequence[int], spacing_mm: Sequence[float], domain: str
    ) -> None:
        self._shape, self._spacing, self._domain = volume_shape, spacing_mm, domain
        self._held: dict[tuple[str, int], _Held] = {}

    @staticmethod
    def yaws(model: OrbitModel) -> tuple[float, ...]:
        """The angles that are looked at: about a dozen of the model's, 0 among them."""
        every = max(1, round((len(model.yaws) - 1) / (_ANGLES - 1)))
        middle = model.yaws.index(0.0)
        return model.yaws[middle % every :: every]

    def figures(
        self, model: OrbitModel, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """Means over the cases.

        ``latent_error`` is 1 - cosine of predicted and true tokens, ``latent_ratio`` its part of
        the error of copying the X-ray's own tokens; both of realistic X-rays, over all angles but
        0. ``retrieval`` is how often a predicted view is nearest to its own true one among the
        patient's; ``view_psnr`` that of rendered line integrals, their range 8; ``landmark_mm``
        how far, in the plane of the isocenter, a landmark's best match in the DRR of the next
        case lies from it, the median; ``feature_rank`` the effective rank of the X-rays'
        embeddings over their number.
        """
        yaws = self.yaws(model)
        turned = [k for k, yaw in enumerate(yaws) if yaw != 0.0]
        rows: dict[str, list[float]] = {}
        embeddings: list[Tensor] = []
        frontals: list[Tensor] = []
        marks: list[dict[str, tuple[float, float]]] = []
        for case in cases[:_CASES]:
            held = self._case(case, model, yaws)
            marks.append(held.marks)
            picture = torch.from_numpy(held.picture)[None].to(device)
            truth = torch.from_numpy(held.integrals).to(device)
            own = model.encode(picture)
            predicted = model.predict(own, model.turns(yaws).to(device))[0].float()
            targets = model.target(truth).float()
            copied = model.target(picture).float()
            error = _distance(predicted, targets)[turned].mean()
            copying = _distance(copied.expand_as(targets), targets)[turned].mean()
            means = [functional.normalize(x.mean(1), dim=-1) for x in (predicted, targets)]
            nearest = (means[0] @ means[1].T).argmax(1).cpu()
            hits = (nearest == torch.arange(len(yaws))).float()[turned].mean()
            one = {"latent_error": error, "copy_error": copying, "retrieval": hits}
            if model.renders:
                square = (model.render(predicted) - truth).square().mean((-2, -1))
                one["view_psnr"] = (10 * torch.log10(64.0 / square))[turned].mean()
            for name, value in one.items():
                rows.setdefault(name, []).append(float(value))
            embeddings.append(own[0].float().cpu())
            frontals.append(model.encode(truth[[yaws.index(0.0)]])[0].float().cpu())
        found = {name: float(np.mean(values)) for name, values in rows.items()}
        found["latent_ratio"] = found["latent_error"] / max(found.pop("copy_error"), 1e-9)
        if len(embeddings) > 1:
            vectors = torch.stack([tokens.mean(0) for tokens in embeddings])
            found["feature_rank"] = effective_rank(vectors) / len(vectors)
        errors = [
            error
            for k in range(len(embeddings))
            for error in _landmark_errors(
                model, embeddings[k], frontals[k - 1], marks[k], marks[k - 1]
            )
        ]
        if errors:
            found["landmark_mm"] = float(np.median(errors))
        return found

    def _case(self, case: CohortCase, model: OrbitModel, yaws: Sequence[float]) -> _Held:
        key = (case.id, len(yaws))
        if key not in self._held:
            volume, integrals = orbit_of(
                case, model.base_view, yaws, volume_shape=self._shape, spacing_mm=self._spacing
            )
            views = orbit_views(model.base_view, [0.0])
            look = ViewRenderer(FixedPoses(views), domain=self._domain)
            pictures = look.render(volume, views, 0).pictures
            assert pictures is not None  # a domain was named
            self._held[key] = _Held(integrals, pictures[0], _marks(case, volume, views[0]))
        return self._held[key]


def _marks(case: CohortCase, volume: Volume, view: XrayView) -> dict[str, tuple[float, float]]:
    """Where the landmarks of a case lie on the detector, those outside left out."""
    shift = case_shift(case, volume)
    found = {}
    for name, point in case.landmarks.items():
        row, col = view.frame().project(np.array(point) + shift).tolist()
        if 0 <= row <= view.detector_shape[0] - 1 and 0 <= col <= view.detector_shape[1] - 1:
            found[name] = (row, col)
    return found


def _landmark_errors(
    model: OrbitModel,
    query: Tensor,
    key: Tensor,
    marks: Mapping[str, tuple[float, float]],
    wanted: Mapping[str, tuple[float, float]],
) -> list[float]:
    """Distances in mm from best matches to landmarks, a patch being a whole place."""
    names = sorted(set(marks) & set(wanted))
    rows, cols = model.grid
    view = model.base_view
    patch = view.detector_shape[0] / rows
    mm = view.pixel_mm * view.source_to_isocenter_mm / view.source_to_detector_mm
    tokens = functional.normalize(key, dim=-1)
    errors = []
    for name in names:
        row, col = (min(int((place + 0.5) / patch), n - 1) for place, n in
                    zip(marks[name], (rows, cols), strict=True))  # fmt: skip
        best = int((tokens @ functional.normalize(query[row * cols + col], dim=-1)).argmax())
        at = [(place + 0.5) * patch - 0.5 for place in divmod(best, cols)]
        errors.append(float(np.hypot(*np.subtract(at, wanted[name]))) * mm)
    return errors


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine of tokens, mean over the patches."""
    return 1 - functional.cosine_similarity(a, b, dim=-1).mean(-1)
