"""X-WIN: a world model of the chest X-ray, made again from its published description.

Yang et al., CVPR 2026 (arXiv 2511.14918). A context encoder reads one X-ray; a view predictor
that is told an angle says what an encoder of slowly moving weights would make of the X-ray from
there; a decoder renders it. What the article leaves open is said in the presets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import OrbitModel, standardised
from napari_cxr3d.models.vit import (
    TransformerBlock,
    VisionTransformer,
    initialise,
    position_embedding,
)

__all__ = ["DomainCritic", "MaskPredictor", "Renderer", "ViewPredictor", "XWin"]


class ViewPredictor(nn.Module):
    """From the tokens of one picture and a turn to the tokens of another: ``g_v``.

    Parameters
    ----------
    grid : tuple of 2 int
        Rows and columns of patches.
    token_dim : int
        Width of the encoder's tokens.
    dim, depth, heads : int
        Its own width, blocks and heads; published 384, 3, 12.
    euler : bool
        Whether it is told pitch and roll besides the yaw.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        token_dim: int,
        dim: int,
        depth: int,
        heads: int,
        euler: bool = False,
    ) -> None:
        super().__init__()
        self.told = 3 if euler else 1
        self.enter = nn.Linear(token_dim, dim)
        self.action = nn.Linear(self.told, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.leave = nn.Linear(dim, token_dim)
        self.position: Tensor
        self.register_buffer("position", position_embedding(*grid, dim), persistent=False)
        initialise(self)
        # The blocks' norms divide a token's length out: with no bias 3 and 90 degrees were one
        # token, with both it turns with the angle.
        nn.init.normal_(self.action.weight, std=0.5)
        nn.init.normal_(self.action.bias, std=0.5)

    def forward(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Tokens (B, N, D) and turns (B, K, 3) in degrees to tokens (B, K, N, D)."""
        b, k = turns.shape[:2]
        n = tokens.shape[1]
        radians = torch.deg2rad(turns[..., : self.told]).reshape(b * k, 1, self.told)
        x = (self.enter(tokens) + self.position).repeat_interleave(k, dim=0)
        x = torch.cat([self.action(radians), x], dim=1)
        for block in self.blocks:
            x = block(x)
        predicted: Tensor = self.leave(self.norm(x[:, 1:]))
        return predicted.reshape(b, k, n, -1)


class MaskPredictor(nn.Module):
    """From the tokens of some patches to those of hidden ones: ``g_m`` of I-JEPA.

    Parameters
    ----------
    grid, token_dim, dim, depth, heads
        As for `ViewPredictor`.
    """

    def __init__(
        self, *, grid: tuple[int, int], token_dim: int, dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(token_dim, dim)
        self.hidden = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.leave = nn.Linear(dim, token_dim)
        self.position: Tensor
        self.register_buffer("position", position_embedding(*grid, dim), persistent=False)
        initialise(self)
        nn.init.trunc_normal_(self.hidden, std=0.02)

    def forward(self, tokens: Tensor, shown: Tensor, hidden: Tensor) -> Tensor:
        """Tokens of the patches `hidden`, (B, H, D).

        Parameters
        ----------
        tokens : Tensor, shape (B, M, D)
            Of the patches `shown`.
        shown, hidden : Tensor of int64, shapes (B, M) and (B, H)
            Which patches they are.
        """
        x = self.enter(tokens) + self.position[shown]
        x = torch.cat([x, self.hidden + self.position[hidden]], dim=1)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.leave(self.norm(x[:, shown.shape[1] :]))
        return found


class DomainCritic(nn.Module):
    """Whether a token comes from a real X-ray: ``f_c``, a logit a token.

    Parameters
    ----------
    token_dim, dim : int
        Width of the tokens and of its hidden layers.
    """

    def __init__(self, token_dim: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(token_dim),
            nn.Linear(token_dim, dim),
            nn.GELU(),
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.Linear(dim, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (..., N) of tokens (..., N, D); above 0 is real."""
        logits: Tensor = self.layers(tokens)[..., 0]
        return logits


class Renderer(nn.Module):
    """From patch tokens to line integrals: a convolutional decoder.

    Parameters
    ----------
    grid : tuple of 2 int
        Rows and columns of patches.
    token_dim : int
        Width of the tokens.
    channels : sequence of int
        Of each level; the picture is twice as large with each level after the first.
    scale : float
        Line integrals that the network's 1 stands for.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        token_dim: int,
        channels: Sequence[int],
        scale: float = 4.0,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.scale = scale
        first, *others = channels
        layers: list[nn.Module] = [
            nn.Conv2d(token_dim, first, 1),
            nn.SiLU(),
            nn.Conv2d(first, first, 3, padding=1),
        ]
        before = first
        for width in others:
            layers += [
                nn.GroupNorm(8, before),
                nn.SiLU(),
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Conv2d(before, width, 3, padding=1),
            ]
            before = width
        layers += [nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Line integrals (B, rows, cols) of tokens (B, N, D)."""
        b, _, dim = tokens.shape
        rows, cols = self.grid
        maps = tokens.transpose(1, 2).reshape(b, dim, rows, cols)
        # Softplus: rays through nothing are not below 0.
        lines: Tensor = nn.functional.softplus(self.layers(maps)[:, 0], beta=10.0) * self.scale
        return lines


class XWin(OrbitModel):
    """The whole model; see the module.

    Parameters
    ----------
    image_size : tuple of 2 int
        Rows and columns of its pictures.
    field_mm : float
        Edge of the detector along its columns.
    source_to_isocenter_mm, source_to_detector_mm : float
        Distances of the exposures that it was trained on.
    yaw_range, yaw_step : floats
        Degrees; published -90 to 90 by 3.
    encoder : dict
        ``patch_size``, ``dim``, ``depth``, ``heads``, ``learned_position`` of the
        `VisionTransformer`.
    predictor : dict
        ``dim``, ``depth``, ``heads`` of the `ViewPredictor`.
    renderer : dict, optional
        ``channels`` and ``scale`` of the `Renderer`; without it nothing can be rendered.
    euler : bool
        Whether turns may have pitch and roll; the published ablation prefers yaw alone.
    """

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        field_mm: float,
        source_to_isocenter_mm: float,
        source_to_detector_mm: float,
        encoder: dict[str, Any],
        predictor: dict[str, int],
        renderer: dict[str, Any] | None = None,
        yaw_range: Sequence[float] = (-90.0, 90.0),
        yaw_step: float = 3.0,
        euler: bool = False,
    ) -> None:
        rows, cols = (int(n) for n in image_size)
        patch = int(encoder["patch_size"])
        grid = (rows // patch, cols // patch)
        super().__init__(
            detector_shape=(rows, cols),
            grid=grid,
            dim=int(encoder["dim"]),
            field_mm=field_mm,
            source_to_isocenter_mm=source_to_isocenter_mm,
            source_to_detector_mm=source_to_detector_mm,
            yaw_range=yaw_range,
            yaw_step=yaw_step,
            euler=euler,
        )
        self.encoder = VisionTransformer(image_size=(rows, cols), **encoder)
        self.target_encoder = VisionTransformer(image_size=(rows, cols), **encoder)
        self.target_encoder.load_state_dict(self.encoder.state_dict())
        self.predictor = ViewPredictor(grid=grid, token_dim=self.dim, euler=euler, **predictor)
        self.renderer: Renderer | None = None
        if renderer is not None:
            self.renderer = Renderer(grid=grid, token_dim=self.dim, **renderer)
            levels = math.log2(rows // grid[0])
            if len(self.renderer_channels) != levels + 1 or rows // grid[0] != cols // grid[1]:
                raise InvalidInputError(
                    "The renderer must end at the size of the pictures",
                    why=f"patches of {patch} pixels need {levels + 1:g} levels",
                )
        self.renders = self.renderer is not None

    @property
    def renderer_channels(self) -> tuple[int, ...]:
        """Channels of the renderer's levels."""
        assert self.renderer is not None
        kernels = [m for m in self.renderer.layers if isinstance(m, nn.Conv2d)]
        return tuple(conv.out_channels for conv in kernels[1:-1])

    def encode(self, pictures: Tensor) -> Tensor:
        """See `OrbitModel.encode`."""
        tokens: Tensor = self.encoder(standardised(pictures))
        return tokens

    def target(self, pictures: Tensor) -> Tensor:
        """Tokens by the encoder of slowly moving weights."""
        tokens: Tensor = self.target_encoder(standardised(pictures))
        return tokens

    def predict(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """See `OrbitModel.predict`.

        Raises
        ------
        InvalidInputError
            If a model that was told the yaw alone is asked for a pitch or roll.
        """
        if not self.euler and bool(turns[..., 1:].any()):
            raise InvalidInputError(
                "This world model knows the yaw alone", remedy="leave pitch and roll at 0"
            )
        turns = turns.to(tokens).expand(len(tokens), -1, -1)
        predicted: Tensor = self.predictor(tokens, turns)
        return predicted

    def render(self, tokens: Tensor) -> Tensor:
        """See `OrbitModel.render`.

        Raises
        ------
        InvalidInputError
            If the model has no renderer.
        """
        if self.renderer is None:
            raise InvalidInputError(
                "These weights cannot draw the views that they predict",
                why="they were trained without a renderer",
            )
        lines: Tensor = self.renderer(tokens)
        return lines.float()
