"""How near predicted tokens and views are to the true ones, beside copying and beside a mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cxr3d_training.evaluation.world_model_scenes import CONTEXTS, OrbitScene
from napari_cxr3d.metrics import Metric, Row
from napari_cxr3d.metrics.image_quality import SSIM_SIGMA, SSIM_SIZE
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = [
    "MEAN_VIEW",
    "Drawer",
    "Predictions",
    "measure_predictions",
    "method_name",
    "retrieval_rows",
]

MEAN_VIEW = "mean view"
"""What the other patients show at an angle, whatever the X-ray shows."""

VIEW_RANGE = 8.0
"""Line integrals from air to behind a thick chest."""

_BINS = 6
_AT_A_TIME = 16  # views: attention over all tokens of all views would fill the memory
_VIEWS = 13

Array = npt.NDArray[Any]
Drawer = Callable[[OrbitScene, Sequence[int]], Array]


@dataclass
class Predictions:
    """What was measured of one model.

    Attributes
    ----------
    latents, views : list of Row
        Per patient and method.
    means : dict of str to ndarray, shape (patients, K, D)
        Unit mean tokens by what they are of: ``"target"``, and every method that predicts.
    """

    latents: list[Row] = field(default_factory=list)
    views: list[Row] = field(default_factory=list)
    means: dict[str, Array] = field(default_factory=dict)


def method_name(label: str, what: str, context: str = "") -> str:
    """What a method is called in the tables."""
    return ", ".join(word for word in (label, what, context and f"of a {context}") if word)


@torch.no_grad()
def measure_predictions(
    model: OrbitModel,
    scenes: Sequence[OrbitScene],
    label: str,
    *,
    views: bool = True,
    drawers: Mapping[str, Drawer] | None = None,
    step: Callable[[], None] = lambda: None,
) -> Predictions:
    """Latent errors, mean tokens, and rendered views of a model on all scenes.

    Parameters
    ----------
    model : OrbitModel
        On its device, in evaluation mode.
    scenes : sequence of OrbitScene
        On the model's stage.
    label : str
        What the model is called.
    views : bool
        Whether views are rendered, where the model can.
    drawers : mapping of str to callable, optional
        Other ways to the views of a scene that are given by their index.
    step : callable
        Called before every scene; may raise to stop.
    """
    stage = scenes[0].stage
    device = next(model.parameters()).device
    turns = model.turns(stage.yaws).to(device)
    drawn = list(range(stage.front % _every(stage.yaws), len(stage.yaws), _every(stage.yaws)))
    # Half precision: a hundred patients' tokens fit into memory, and 1 - cosine moves by 1e-6.
    targets: list[Tensor] = []
    for scene in scenes:
        step()
        targets.append(_targets(model, scene.integrals, device).half().cpu())
    total = torch.zeros(targets[0].shape)
    pixels = np.zeros(scenes[0].integrals[drawn].shape, np.float64)
    for scene, own in zip(scenes, targets, strict=True):
        total += own.float()
        pixels += scene.integrals[drawn]
    found = Predictions()
    means: dict[str, list[Array]] = {}
    for scene, half in zip(scenes, targets, strict=True):
        step()
        target = half.float()
        estimates: dict[str, Tensor] = {}
        drawings: dict[str, Array] = {}
        for context in CONTEXTS:
            picture = torch.from_numpy(scene.shown(context))[None].to(device)
            tokens = model.encode(picture)
            predicted = torch.cat(
                [
                    model.predict(tokens, part)[0].float()
                    for part in torch.split(turns, _AT_A_TIME, dim=1)
                ]
            )
            estimates[method_name(label, "predicted", context)] = predicted.cpu()
            copy = model.target(picture).float().cpu()
            estimates[method_name(label, "copied", context)] = copy.expand_as(target)
            if views and model.renders:
                drawings[method_name(label, "predicted", context)] = _rendered(
                    model, predicted[drawn]
                )
        if len(scenes) > 1:
            others = len(scenes) - 1
            estimates[method_name(label, MEAN_VIEW)] = (total - target) / others
        means.setdefault("target", []).append(_mean_tokens(target))
        for name, estimate in estimates.items():
            means.setdefault(name, []).append(_mean_tokens(estimate))
            found.latents.append(_row(scene, name, _latent_metrics(estimate, target, stage.yaws)))
        if drawings:
            drawings[method_name(label, "rendered from true tokens")] = _rendered(
                model, target[drawn].to(device)
            )
            true = scene.integrals[drawn]
            drawings["the DRR itself, copied"] = np.broadcast_to(
                scene.integrals[stage.front], true.shape
            )
            if len(scenes) > 1:
                mean = (pixels - true) / (len(scenes) - 1)
                drawings["mean view of the other patients"] = mean.astype(np.float32)
            drawings |= {name: draw(scene, drawn) for name, draw in (drawers or {}).items()}
            angles = [stage.yaws[k] for k in drawn]
            found.views += [
                _row(scene, name, _view_metrics(lines, true, angles))
                for name, lines in drawings.items()
            ]
    found.means = {name: np.stack(vectors) for name, vectors in means.items()}
    return found


@torch.no_grad()
def predicted_lines(model: OrbitModel, scene: OrbitScene, context: str) -> Array:
    """Line integrals of all views that a model predicts from one X-ray, [K, rows, cols]."""
    device = next(model.parameters()).device
    tokens = model.encode(torch.from_numpy(scene.shown(context))[None].to(device))
    turns = model.turns(scene.stage.yaws).to(device)
    parts = [
        model.predict(tokens, part)[0].float() for part in torch.split(turns, _AT_A_TIME, dim=1)
    ]
    return _rendered(model, torch.cat(parts))


def _every(yaws: Sequence[float]) -> int:
    """So that about a dozen of the angles are drawn."""
    return max(1, round((len(yaws) - 1) / (_VIEWS - 1)))


def _targets(model: OrbitModel, integrals: Array, device: torch.device) -> Tensor:
    parts = torch.split(torch.from_numpy(np.array(integrals)), _AT_A_TIME)
    return torch.cat([model.target(part.to(device)).float() for part in parts])


def _rendered(model: OrbitModel, tokens: Tensor) -> Array:
    parts = [model.render(part).float().cpu().numpy() for part in torch.split(tokens, _AT_A_TIME)]
    return np.concatenate(parts)


def _mean_tokens(tokens: Tensor) -> Array:
    """Mean over the patches, of unit length, (K, D)."""
    unit: Array = functional.normalize(tokens.mean(1), dim=-1).cpu().numpy()
    return unit


def _row(scene: OrbitScene, method: str, metrics: tuple[Metric, ...]) -> Row:
    return Row(scene.case, scene.patient, method, metrics)


def bins(yaws: Sequence[float]) -> dict[str, list[int]]:
    """Angles by how far they turn, either way: six equal parts of the range, 0 left out."""
    largest = max(abs(yaw) for yaw in yaws)
    parts: dict[str, list[int]] = {}
    for part in range(_BINS):
        low, high = largest * part / _BINS, largest * (part + 1) / _BINS
        inside = [k for k, yaw in enumerate(yaws) if low < abs(yaw) <= high]
        if inside:
            parts[f"to_{high:g}"] = inside
    return parts


def _by_angle(
    name: str, values: Array, yaws: Sequence[float], told: str, unit: str, *, higher: bool
) -> list[Metric]:
    """The mean over all angles but 0, and over those of every part of the range."""
    turned = [k for k, yaw in enumerate(yaws) if yaw != 0]
    largest = max(abs(yaw) for yaw in yaws)
    found = [
        Metric(
            name, float(values[turned].mean()), f"{told}, mean over {len(turned)} angles within "
            f"{largest:g} degrees, 0 left out", unit, higher,
        )
    ]  # fmt: skip
    for part, inside in bins(yaws).items():
        turns = sorted({abs(yaws[k]) for k in inside})
        reach = f"{turns[0]:g}" if len(turns) == 1 else f"{turns[0]:g} to {turns[-1]:g}"
        convention = f"{name} of the turns by {reach} degrees either way"
        metric = Metric(f"{name}_{part}", float(values[inside].mean()), convention, unit, higher)
        found.append(metric)
    return found


def _latent_metrics(estimate: Tensor, target: Tensor, yaws: Sequence[float]) -> tuple[Metric, ...]:
    errors = 1 - functional.cosine_similarity(estimate, target, dim=-1).mean(-1)
    return tuple(
        _by_angle(
            "latent_error", errors.numpy(), yaws,
            "1 - cosine of patch tokens with those of the true projection by the target encoder, "
            "both as the networks give them (behind the encoder's last LayerNorm, no other "
            "centring or scaling), mean over the patches",
            "", higher=False,
        )
    )  # fmt: skip


def _view_metrics(lines: Array, true: Array, yaws: Sequence[float]) -> tuple[Metric, ...]:
    from monai.metrics.regression import compute_ssim_and_cs

    square = np.square(lines.astype(np.float64) - true).mean(axis=(1, 2))
    psnr = 10 * np.log10(VIEW_RANGE**2 / np.maximum(square, 1e-12))
    estimate, reference = (
        torch.from_numpy(np.array(v, np.float32))[:, None] for v in (lines, true)
    )
    similarity, _ = compute_ssim_and_cs(
        estimate, reference, spatial_dims=2, kernel_size=(SSIM_SIZE,) * 2,
        kernel_sigma=(SSIM_SIGMA,) * 2, data_range=VIEW_RANGE,
    )  # fmt: skip
    same = similarity.mean((1, 2, 3)).numpy()
    turned = [k for k, yaw in enumerate(yaws) if yaw != 0]
    told = f"line integrals, data range {VIEW_RANGE:g}"
    return (
        *_by_angle("psnr", psnr, yaws, f"PSNR of a view, {told}, all pixels", "dB", higher=True),
        Metric(
            "ssim", float(same[turned].mean()), f"SSIM of a view, Gaussian {SSIM_SIZE} pixels with "
            f"sigma {SSIM_SIGMA:g} (MONAI), {told}, mean over the same angles",
        ),
    )  # fmt: skip


def retrieval_rows(
    means: Mapping[str, Array], scenes: Sequence[OrbitScene]
) -> dict[str, list[Row]]:
    """How often a prediction is nearest to what it predicts.

    Parameters
    ----------
    means : mapping of str to ndarray, shape (patients, K, D)
        As of `Predictions`.
    scenes : sequence of OrbitScene
        The patients.

    Returns
    -------
    dict of str to list of Row
        By method, ``chance`` last.
    """
    patients, angles, _ = means["target"].shape
    target = means["target"]
    rows: dict[str, list[Row]] = {}
    for name, estimate in means.items():
        if name == "target":
            continue
        among_angles = np.einsum("pkd,pjd->pkj", estimate, target)
        among_patients = np.einsum("pkd,qkd->kpq", estimate, target)
        rank = _ranks(among_angles)  # (patients, angles)
        other = _ranks(among_patients).T
        rows[name] = [
            _row(scene, name, _retrieval_metrics(
                [float((rank[p] < n).mean()) for n in (1, 5)]
                + [float((other[p] < n).mean()) for n in (1, 5)], angles, patients,
            ))
            for p, scene in enumerate(scenes)
        ]  # fmt: skip
    chance = [min(1.0, n / total) for total in (angles, patients) for n in (1, 5)]
    rows["chance"] = [
        _row(scene, "chance", _retrieval_metrics(chance, angles, patients)) for scene in scenes
    ]
    return rows


def _ranks(similar: Array) -> Array:
    """How many others of the last axis are nearer than the one on the diagonal."""
    own = np.diagonal(similar, axis1=-2, axis2=-1)[..., None]
    # One that is as near counts as nearer: what tells nothing apart finds nothing.
    ranks: Array = (similar >= own).sum(axis=-1) - 1
    return ranks


def _retrieval_metrics(values: list[float], angles: int, patients: int) -> tuple[Metric, ...]:
    told = (
        f"part of the {angles} angles whose prediction has its own true view",
        f"part of the {angles} angles whose prediction has its own patient",
    )
    names = ("angle_r1", "angle_r5", "patient_r1", "patient_r5")
    among = (f"the patient's {angles} true views", f"{patients} patients at the same angle")
    return tuple(
        Metric(
            name, value,
            f"{told[k // 2]} {'nearest' if k % 2 == 0 else 'among the 5 nearest'} of "
            f"{among[k // 2]}, by the cosine of mean tokens",
        )
        for k, (name, value) in enumerate(zip(names, values, strict=True))
    )  # fmt: skip
