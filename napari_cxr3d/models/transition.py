"""Xray2Xray: a world model that turns about the patient step by step.

Yang et al., 2025 (arXiv 2506.19055), of which no code and few details are public: a vision model
brings X-rays to a latent, a transition model says how the latent changes as the source moves on
by an angle. What is inferred here is said in the presets and in the documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.orbit_model import OrbitModel
from napari_cxr3d.models.vision import VisionModel
from napari_cxr3d.models.vit import TransformerBlock, initialise, position_embedding

__all__ = ["Moved", "RollOut", "Transition", "Xray2Xray"]

_ROWS_AT_ONCE = 256
_SAME_ANGLE = 1e-3  # degrees


class Moved(NamedTuple):
    """After one step.

    Attributes
    ----------
    state : Tensor, shape (M, N, D)
        The latent that is expected there.
    hidden : Tensor, shape (M, N, W)
        The transition model's last hidden states.
    """

    state: Tensor
    hidden: Tensor


class RollOut(NamedTuple):
    """After a roll-out to several angles.

    Attributes
    ----------
    states : Tensor, shape (B, K, N, D)
        The latents there.
    hidden : Tensor, shape (B, K, W)
        Hidden states of the last step to each angle, mean over the cells.
    """

    states: Tensor
    hidden: Tensor


class Transition(nn.Module):
    """One step about the patient: ``T(h, step)``.

    It sees the latent where the source stands, the latent of the picture that was given, the yaw
    there and the step. The state is changed in proportion to the step, so a step of 0 leaves it
    as it is, exactly. (Seeing the given picture is inferred: a latent that forgets it would have
    to carry all that is known of the patient through each step.)

    Parameters
    ----------
    grid : tuple of 2 int
        Rows and columns of cells.
    token_dim : int
        Numbers of a cell.
    dim, depth, heads : int
        Width, blocks and attention heads.
    unit : float
        Degrees that the network's step of 1 stands for.
    """

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        token_dim: int,
        dim: int,
        depth: int,
        heads: int,
        unit: float,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.unit = unit
        self.enter = nn.Linear(2 * token_dim, dim)
        self.action = nn.Linear(3, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.leave = nn.Linear(dim, token_dim)
        self.position: Tensor
        self.register_buffer("position", position_embedding(*grid, dim), persistent=False)
        initialise(self)
        # Three numbers among hundreds: at 0.02 their token would hardly differ with the angle.
        nn.init.normal_(self.action.weight, std=0.5)
        nn.init.zeros_(self.leave.weight)  # begin by copying

    def forward(self, state: Tensor, given: Tensor, yaw: Tensor, step: Tensor) -> Moved:
        """One step.

        Parameters
        ----------
        state, given : Tensor, shape (M, N, D)
            The latents where the source stands, and of the picture that was given.
        yaw, step : Tensor, shape (M,)
            Degrees from the given picture to where the source stands, and from there on.
        """
        radians = torch.deg2rad(yaw.float())
        step = step.float() / self.unit
        told = torch.stack([radians.sin(), radians.cos(), step], dim=-1)
        x = self.enter(torch.cat([state, given], dim=-1)) + self.position
        x = torch.cat([self.action(told)[:, None], x], dim=1)
        for block in self.blocks:
            x = block(x)
        hidden = self.norm(x[:, 1:])
        change = self.leave(hidden).float()
        return Moved(state + step[:, None, None] * change, hidden.float())


class Xray2Xray(OrbitModel):
    """The whole model; see the module.

    To reach an angle it takes whole strides, and one shorter step for what is left. Angles on the
    same side share their strides.

    Parameters
    ----------
    image_size : tuple of 2 int
        Rows and columns of its pictures.
    field_mm : float
        Edge of the detector along its columns.
    source_to_isocenter_mm, source_to_detector_mm : float
        Distances of the exposures that it was trained on.
    vision : dict
        Arguments of the `VisionModel`.
    transition : dict
        ``dim``, ``depth``, ``heads`` of the `Transition`.
    stride : float
        Degrees of a whole step.
    yaw_range, yaw_step : floats
        Degrees, over and by which it was trained.

    Attributes
    ----------
    stops : tuple of float
        The angles that whole strides reach, 0 among them: the orbit that `embed` looks over.
    """

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        field_mm: float,
        source_to_isocenter_mm: float,
        source_to_detector_mm: float,
        vision: dict[str, Any],
        transition: dict[str, int],
        stride: float = 15.0,
        yaw_range: Sequence[float] = (-90.0, 90.0),
        yaw_step: float = 3.0,
    ) -> None:
        rows, cols = (int(n) for n in image_size)
        model = VisionModel(**vision)
        if stride <= 0:
            raise InvalidInputError("The stride must be above 0 degrees", why=f"it is {stride:g}")
        super().__init__(
            detector_shape=(rows, cols),
            grid=(rows // model.factor, cols // model.factor),
            dim=model.dim,
            field_mm=field_mm,
            source_to_isocenter_mm=source_to_isocenter_mm,
            source_to_detector_mm=source_to_detector_mm,
            yaw_range=yaw_range,
            yaw_step=yaw_step,
        )
        self.stride = float(stride)
        self.vision = model
        self.transition = Transition(
            grid=self.grid, token_dim=self.dim, unit=self.stride, **transition
        )

    @property
    def stops(self) -> tuple[float, ...]:
        """See the class."""
        first, last = (int(end / self.stride) for end in self.yaw_range)
        return tuple(k * self.stride for k in range(first, last + 1))

    def encode(self, pictures: Tensor) -> Tensor:
        """See `OrbitModel.encode`."""
        return self.vision.encode(pictures)

    def predict(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """See `OrbitModel.predict`: a roll-out from 0 to each yaw.

        Raises
        ------
        InvalidInputError
            If a pitch or roll is asked for.
        """
        if bool(turns[..., 1:].any()):
            raise InvalidInputError(
                "This world model knows the yaw alone", remedy="leave pitch and roll at 0"
            )
        return self.roll_out(tokens, turns[..., 0]).states

    def render(self, tokens: Tensor) -> Tensor:
        """See `OrbitModel.render`."""
        return self.vision.decode(tokens, self.grid)

    def embed(self, pictures: Tensor) -> Tensor:
        """Hidden states over the orbit of whole strides, (B, W)."""
        return self.orbit(self.encode(pictures), self.stops)

    def orbit(self, tokens: Tensor, yaws: Sequence[float] | Tensor) -> Tensor:
        """The transition model's hidden states over an orbit, (B, W): mean over cells and angles.

        Parameters
        ----------
        tokens : Tensor, shape (B, N, D)
            From `encode`.
        yaws : sequence of float
            The orbit, degrees.
        """
        angles = torch.as_tensor(yaws, dtype=torch.float32)
        return self.roll_out(tokens, angles[None]).hidden.mean(1)

    def roll_out(self, tokens: Tensor, yaws: Tensor) -> RollOut:
        """Go from 0 to each yaw.

        Parameters
        ----------
        tokens : Tensor, shape (B, N, D)
            Of the given pictures.
        yaws : Tensor, shape (B or 1, K)
            Degrees.
        """
        yaws = yaws.detach().to("cpu", torch.float64).expand(len(tokens), -1)
        strides, rest = _strides(yaws, self.stride)
        back, ahead = max(0, -int(strides.min())), max(0, int(strides.max()))
        behind = self._walk(tokens, -self.stride, back)
        here = self._moved(tokens, tokens, torch.zeros(len(tokens)), torch.zeros(len(tokens)))
        before = self._walk(tokens, self.stride, ahead)
        stops = [*reversed(behind), Moved(tokens, here.hidden), *before]
        rows = torch.arange(len(tokens))[:, None]
        states = torch.stack([stop.state for stop in stops], dim=1)[rows, strides + back]
        pooled = torch.stack([stop.hidden for stop in stops], dim=1)[rows, strides + back]
        b, k = torch.nonzero(rest, as_tuple=True)
        if len(b):
            moved = self._moved(states[b, k], tokens[b], (yaws - rest)[b, k], rest[b, k])
            at = (b.to(states.device), k.to(states.device))
            states = states.index_put(at, moved.state)
            pooled = pooled.index_put(at, moved.hidden)
        return RollOut(states, pooled)

    def _walk(self, tokens: Tensor, step: float, count: int) -> list[Moved]:
        """Latents and pooled hidden states after 1, 2, ... `count` strides."""
        reached: list[Moved] = []
        state = tokens
        for index in range(count):
            yaw = torch.full((len(tokens),), index * step)
            reached.append(self._moved(state, tokens, yaw, torch.full_like(yaw, step)))
            state = reached[-1].state
        return reached

    def _moved(self, state: Tensor, given: Tensor, yaw: Tensor, step: Tensor) -> Moved:
        """One step, some rows at a time; the hidden states are pooled over the cells."""
        yaw, step = (a.to(state.device, torch.float32) for a in (yaw, step))
        parts = [
            self.transition(*rows)
            for rows in zip(
                *(torch.split(x, _ROWS_AT_ONCE) for x in (state, given, yaw, step)), strict=True
            )
        ]
        return Moved(
            torch.cat([part.state for part in parts]),
            torch.cat([part.hidden.mean(1) for part in parts]),
        )

    def describe(self) -> dict[str, Any]:
        """As `OrbitModel.describe`, with the stride."""
        return {**super().describe(), "stride": self.stride}


def _strides(yaws: Tensor, stride: float) -> tuple[Tensor, Tensor]:
    """Whole strides toward each yaw, int64, and the degrees that are left."""
    count = torch.trunc(yaws / stride + torch.sign(yaws) * _SAME_ANGLE / stride)
    rest = yaws - count * stride
    rest[rest.abs() <= _SAME_ANGLE] = 0.0
    return count.to(torch.int64), rest
