"""DiffDRR's Siddon renderer, ended at the detector. Importing this imports DiffDRR."""

from __future__ import annotations

import torch
from diffdrr.renderers import Siddon, _get_alphas, _get_voxel, _get_xyzs

__all__ = ["SegmentSiddon"]


class SegmentSiddon(Siddon):  # type: ignore[misc]
    """Siddon's method between source and detector.

    DiffDRR's own sums over the whole line, also behind the detector and behind the source,
    which shows where the volume reaches beyond them: a bedside detector lies inside the
    scanned box.
    """

    def forward(
        self,
        volume: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        img: torch.Tensor,
        align_corners: bool = False,
        mask: None = None,
    ) -> torch.Tensor:
        """Line integrals [B, 1, N] of rays in voxel coordinates; `img` holds their lengths."""
        dims = self.dims(volume)
        alphas = _get_alphas(source, target, dims, self.voxel_shift, self.eps, False).clamp(0, 1)
        middles = (alphas[..., :-1] + alphas[..., 1:]) / 2
        xyzs = _get_xyzs(middles, source, target, dims, self.voxel_shift, self.eps)
        values = _get_voxel(volume, xyzs, img, self.mode, align_corners)
        integrals: torch.Tensor = (values * alphas.diff(dim=-1)).sum(dim=-1)
        return integrals.unsqueeze(1)
