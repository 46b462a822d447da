"""Figures by which Xray2Xray's training is watched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from cxr3d_training.data import CohortCase
from cxr3d_training.recipes.orbit_validation import OrbitValidation
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = ["RollOutValidation"]

_CASES = 24


class RollOutValidation(OrbitValidation):
    """Measures both stages: the vision model by itself, and the roll-out."""

    def figures(
        self, model: OrbitModel, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """The figures of `OrbitValidation`, and means over the cases of errors in line integrals.

        ``vision_l1`` is the mean absolute error of DRRs of all angles there and back,
        ``domain_l1`` that of realistic X-rays decoded, against the DRR of their exposure, and
        ``domain_cosine`` how alike the two pictures' latents are. ``rollout_l1`` is the error of
        decoded roll-outs from realistic X-rays, over all angles but 0, and ``rollout_ratio`` its
        part of the error of decoding the X-ray's own latent at every angle. ``objective`` is
        ``vision_l1 + rollout_l1``.
        """
        found = super().figures(model, cases, device)
        yaws = self.yaws(model)
        middle = yaws.index(0.0)
        turned = [k for k in range(len(yaws)) if k != middle]
        rows: dict[str, list[float]] = {}
        for case in cases[:_CASES]:
            held = self._case(case, model, yaws)
            truth = torch.from_numpy(held.integrals).to(device)
            own = model.encode(torch.from_numpy(held.picture)[None].to(device))
            exact = model.encode(truth)
            rolled = model.render(model.predict(own, model.turns(yaws).to(device))[0])
            copied = rolled[middle]
            one = {
                "vision_l1": (model.render(exact) - truth).abs().mean(),
                "domain_l1": (copied - truth[middle]).abs().mean(),
                "domain_cosine": functional.cosine_similarity(own[0], exact[middle], -1).mean(),
                "rollout_l1": (rolled - truth)[turned].abs().mean(),
                "copy_l1": (copied - truth)[turned].abs().mean(),
            }
            for name, value in one.items():
                rows.setdefault(name, []).append(float(value))
        means = {name: float(np.mean(values)) for name, values in rows.items()}
        means["rollout_ratio"] = means["rollout_l1"] / max(means.pop("copy_l1"), 1e-9)
        means["objective"] = means["vision_l1"] + means["rollout_l1"]
        return {**found, **means}
