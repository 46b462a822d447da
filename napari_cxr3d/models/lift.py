"""From pictures to a volume of features: back-projection along the true rays.

A small network reads each picture. Every voxel then takes the feature of the pixel that its ray
meets, whatever the pose, and how deep it lies on that ray; the views are joined by mean and
maximum, so that their number and order do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_cxr3d.models.reconstruction import ViewBatch

__all__ = ["Lift", "ViewEncoder", "voxel_centers", "voxels_on_detector"]

_INTEGRAL_SCALE = 4.0  # line integrals of a chest reach 4 to 8
_DEPTH_SCALE_MM = 200.0


def voxel_centers(
    shape: Sequence[int], extent_mm: Sequence[float], device: torch.device | None = None
) -> Tensor:
    """Centres of the voxels of a centred grid, float32 (i * p * l, 3), LPS mm.

    Parameters
    ----------
    shape : sequence of 3 int
        Voxels along (I, P, L).
    extent_mm : sequence of 3 float
        Edges of the whole grid along (I, P, L).
    device : torch.device, optional
        Where to.
    """
    axes = [
        (torch.arange(n, device=device, dtype=torch.float32) + 0.5) / n * size - size / 2
        for n, size in zip(shape, extent_mm, strict=True)
    ]
    i, p, ell = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([ell, p, -i], dim=-1).reshape(-1, 3)


def voxels_on_detector(points: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rays through points meet the detectors.

    Parameters
    ----------
    points : Tensor, shape (N, 3)
        LPS mm from the grid's centre.
    cameras : Tensor, shape (B, V, 12)
        See `ViewBatch`.

    Returns
    -------
    pixels : Tensor, shape (B, V, N, 2)
        Row and column, in pixels; whole numbers are pixel centres.
    magnification : Tensor, shape (B, V, N)
        Source-to-detector over source-to-point distance along the detector's normal.
    """
    source, first, row, column = _parts(cameras)
    normal = torch.linalg.cross(row, column)
    rays = points - source[:, :, None]  # (B, V, N, 3)
    reach = ((first - source) * normal).sum(-1)
    magnification = reach[..., None] / (rays * normal[:, :, None]).sum(-1)
    hit = source[:, :, None] + magnification[..., None] * rays - first[:, :, None]
    along = [(hit * s[:, :, None]).sum(-1) / s.square().sum(-1)[..., None] for s in (row, column)]
    return torch.stack(along, dim=-1), magnification


class _Block(nn.Module):
    """Two convolutions with group norm, and a way around them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ViewEncoder(nn.Module):
    """A U-shaped network on one picture; its features lie at half the detector's resolution.

    Parameters
    ----------
    channels : sequence of int
        Of the levels, from half the resolution downwards.
    out_channels : int
        Features of a pixel.
    groups : int
        Of the normalisation; divides every level's channels.
    """

    def __init__(self, channels: Sequence[int], out_channels: int, groups: int = 8) -> None:
        super().__init__()
        # Integrals, coverage, whether the scale is true, and where on the detector.
        self.stem = nn.Conv2d(5, channels[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)
        )
        self.read = nn.ModuleList(_Block(c, groups) for c in channels)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.write = nn.ModuleList(_Block(c, groups) for c in channels[:-1])
        self.out = nn.Conv2d(channels[0], out_channels, 3, padding=1)

    def forward(self, views: ViewBatch) -> Tensor:
        """Features of all pictures, (B, V, F, rows / 2, cols / 2)."""
        b, v, rows, cols = views.integrals.shape
        places = [
            torch.linspace(-1, 1, n, device=views.integrals.device, dtype=views.integrals.dtype)
            for n in (rows, cols)
        ]
        row, column = torch.meshgrid(*places, indexing="ij")
        channels = [
            views.integrals * views.valid / _INTEGRAL_SCALE,
            views.valid,
            views.exact[..., None, None].expand(b, v, rows, cols),
            row.expand(b, v, rows, cols),
            column.expand(b, v, rows, cols),
        ]
        x = self.stem(torch.stack(channels, dim=2).flatten(0, 1))
        kept = []
        for level, block in enumerate(self.read):
            if level:
                x = self.down[level - 1](x)
            x = block(x)
            kept.append(x)
        for level in reversed(range(len(self.write))):
            x = functional.interpolate(self.up[level](x), size=kept[level].shape[-2:])
            x = self.write[level](x + kept[level])
        out: Tensor = self.out(x)
        return out.reshape(b, v, *out.shape[1:])


class Lift(nn.Module):
    """Pictures to features on a centred grid of voxels.

    Parameters
    ----------
    encoder_channels : sequence of int
        See `ViewEncoder`.
    picture_features, features : int
        Of a pixel, and of a voxel.
    shape : sequence of 3 int
        Voxels along (I, P, L).
    extent_mm : sequence of 3 float
        Edges of the grid.
    fold : int
        The rays are met on a grid `fold` times finer, which is folded into channels.
    """

    points: Tensor
    place: Tensor

    def __init__(
        self,
        *,
        encoder_channels: Sequence[int],
        picture_features: int,
        features: int,
        shape: Sequence[int],
        extent_mm: Sequence[float],
        fold: int = 2,
    ) -> None:
        super().__init__()
        self.fold = fold
        self.shape = tuple(int(n) for n in shape)
        self.fine_shape = tuple(n * fold for n in self.shape)
        self.encoder = ViewEncoder(encoder_channels, picture_features)
        # Feature, depth, and whether the ray meets the picture: a voxel's own view of a pixel.
        self.deepen = nn.Linear(picture_features + 2, picture_features)
        self.join = nn.Conv3d(2 * picture_features * fold**3 + 3, features, 1)
        self.register_buffer("points", voxel_centers(self.fine_shape, extent_mm), persistent=False)
        place = voxel_centers(self.shape, [2.0, 2.0, 2.0]).T.reshape(1, 3, *self.shape)
        self.register_buffer("place", place, persistent=False)

    def forward(self, views: ViewBatch) -> Tensor:
        """Features (B, features, *shape)."""
        pixels, magnification = voxels_on_detector(self.points, views.cameras)
        pictures = self.encoder(views)
        sampled, met = _sample(pictures, views.valid, pixels)
        weight = met * views.known[..., None].to(met.dtype)  # (B, V, N)
        depth = self._depth(views.cameras, magnification).to(sampled.dtype)
        own = functional.silu(
            self.deepen(torch.cat([sampled, depth[..., None], weight[..., None]], dim=-1))
        )
        share = weight[..., None]
        mean = (own * share).sum(1) / share.sum(1).clamp_min(1.0)
        # Where no ray meets a picture both are 0.
        most = torch.where(share > 0, own, own.new_full((), -1e4)).amax(1)
        most = torch.where(share.amax(1) > 0, most, torch.zeros_like(most))
        joined = torch.cat([mean, most], dim=-1).transpose(1, 2)
        joined = joined.reshape(*joined.shape[:2], *self.fine_shape)
        folded = _fold(joined, self.fold)
        place = self.place.to(folded.dtype).expand(len(folded), -1, -1, -1, -1)
        out: Tensor = self.join(torch.cat([folded, place], dim=1))
        return out

    def _depth(self, cameras: Tensor, magnification: Tensor) -> Tensor:
        """How far behind the grid's centre a voxel lies on its ray, in units of 200 mm."""
        source, first, row, column = _parts(cameras)
        normal = functional.normalize(torch.linalg.cross(row, column), dim=-1)
        to_detector = ((first - source) * normal).sum(-1).abs()
        to_center = (source * normal).sum(-1).abs()
        behind: Tensor = to_detector[..., None] / magnification - to_center[..., None]
        return behind / _DEPTH_SCALE_MM


def _sample(pictures: Tensor, valid: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Features and coverage at pixel positions: (B, V, N, F) and (B, V, N)."""
    b, v, n = pixels.shape[:3]
    rows, cols = valid.shape[-2:]
    size = pixels.new_tensor([rows, cols])
    # grid_sample counts x before y, and from -1 to 1 over the edges of the picture.
    at = ((2 * pixels + 1) / size - 1).flip(-1).flatten(0, 1)[:, None].to(pictures.dtype)

    def taken(values: Tensor) -> Tensor:
        out = functional.grid_sample(values, at, align_corners=False, padding_mode="zeros")
        return out.reshape(b, v, -1, n).transpose(2, 3)

    coverage = taken(valid.flatten(0, 1)[:, None].to(pictures.dtype))[..., 0]
    return taken(pictures.flatten(0, 1)), coverage


def _fold(x: Tensor, n: int) -> Tensor:
    """Space to depth: (B, C, n I, n P, n L) to (B, C n^3, I, P, L)."""
    from einops import rearrange

    folded: Tensor = rearrange(x, "b c (i u) (p v) (l w) -> b (c u v w) i p l", u=n, v=n, w=n)
    return folded


def _parts(cameras: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Source, first pixel, row step and column step of cameras (B, V, 12), each (B, V, 3)."""
    source, first, row, column = cameras.float().split(3, dim=-1)  # type: ignore[no-untyped-call]
    return source, first, row, column
