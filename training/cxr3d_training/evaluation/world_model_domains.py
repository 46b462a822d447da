"""How alike real and simulated X-rays are to a world model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cxr3d_training.data.prepared_radiographs import prepared_picture
from cxr3d_training.data.radiographs import RadiographCase
from cxr3d_training.evaluation.world_model_scenes import CONTEXTS, OrbitScene
from napari_cxr3d.metrics import Metric, Row
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["domain_rows"]

Array = npt.NDArray[np.float32]


@torch.no_grad()
def domain_rows(
    models: Mapping[str, OrbitModel],
    scenes: Sequence[OrbitScene],
    radiographs: Sequence[RadiographCase],
    *,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[Row]]:
    """Cosines of real X-rays with simulated ones, by model.

    Parameters
    ----------
    models : mapping of str to OrbitModel
        With one detector, on their devices, in evaluation mode.
    scenes : sequence of OrbitScene
        Patients whose simulated X-rays are compared.
    radiographs : sequence of RadiographCase
        Real ones, that no training saw; two or more.
    step : callable
        Called before every picture; may raise to stop.

    Returns
    -------
    dict of str to list of Row
        A row a radiograph.
    """
    first = next(iter(models.values()))
    field_mm = first.base_view.pixel_mm * first.detector_shape[1]
    real = []
    for case in radiographs:
        step()
        real.append(prepared_picture(case, first.detector_shape, field_mm))
    pictures = {context: np.stack([scene.shown(context) for scene in scenes])
                for context in CONTEXTS}  # fmt: skip
    rows: dict[str, list[Row]] = {}
    for label, model in models.items():
        step()
        device = next(model.parameters()).device
        ours = _unit(model, np.stack(real), device)
        drr, realistic = (_unit(model, pictures[context], device) for context in CONTEXTS)
        predicted = _predicted(model, pictures[CONTEXTS[0]], device)
        own = ours @ ours.T
        others = len(radiographs) - 1
        columns = {
            "to_drr": (ours @ drr.T).mean(1),
            "to_realistic": (ours @ realistic.T).mean(1),
            "to_predicted": (ours @ predicted.T).mean(1),
            "among_real": (own.sum(1) - own.diagonal()) / others,
            "real_drr_gap": _gap(ours, drr),
            "real_realistic_gap": _gap(ours, realistic),
        }
        rows[label] = [
            Row(case.id, case.patient, label, tuple(
                _metric(name, float(values[k])) for name, values in columns.items()
            ))
            for k, case in enumerate(radiographs)
        ]  # fmt: skip
    return rows


_TOLD = {
    "to_drr": "mean cosine of a real X-ray's mean token with those of the patients' DRRs",
    "to_realistic": "mean cosine with those of the patients' realistic X-rays",
    "to_predicted": "mean cosine with the mean tokens that are predicted from the DRRs at 0 "
    "degrees, which the critic of domains acts on",
    "among_real": "mean cosine with those of the other real X-rays: what to read the others by",
    "real_drr_gap": "how much farther a real X-ray is from the DRRs than from the real ones: "
    "1 - cosine to the other domain's mean over 1 - cosine to the mean of the other real "
    "X-rays; 1 is no gap",
    "real_realistic_gap": "the same to the realistic X-rays",
}


def _metric(name: str, value: float) -> Metric:
    return Metric(name, value, _TOLD[name], higher_is_better="gap" not in name)


def _unit(model: OrbitModel, pictures: Array, device: torch.device) -> Array:
    tokens = model.encode(torch.from_numpy(pictures).to(device))
    return _normal(tokens.float().mean(1))


def _predicted(model: OrbitModel, pictures: Array, device: torch.device) -> Array:
    tokens = model.encode(torch.from_numpy(pictures).to(device))
    return _normal(model.predict(tokens, model.turns([0.0]).to(device))[:, 0].float().mean(1))


def _normal(vectors: Tensor) -> Array:
    unit: Array = functional.normalize(vectors, dim=-1).cpu().numpy()
    return unit


def _gap(real: Array, simulated: Array) -> Array:
    """Distance to the simulated ones' mean over that to the other real ones'."""
    total = real.sum(0)
    found = []
    for vector in real:
        distances = [
            1 - float(vector @ mean) / float(np.linalg.norm(mean))
            for mean in (simulated.mean(0), total - vector)
        ]
        found.append(distances[0] / max(distances[1], 1e-9))
    return np.array(found, np.float32)
