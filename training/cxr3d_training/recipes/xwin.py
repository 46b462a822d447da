"""The recipe ``xwin``: X-WIN, a world model of the chest X-ray.

Yang et al., CVPR 2026 (arXiv 2511.14918). One X-ray of a patient is encoded; a predictor that is
told a turn says what an encoder of slowly moving weights would make of the X-ray from there. Its
terms, each with a weight of its own:

- ``nce``, ``affinity``: predictions find their targets among all of a step, with hard labels and
  with labels softened by how alike the targets are;
- ``mim``: hidden patches of real and simulated X-rays are predicted (I-JEPA);
- ``structure``, ``domain``, and ``cls`` of the critic: predictions stay near their targets, while
  a critic, frozen for them, takes them for real;
- ``landmark`` (ours): a landmark's token lights up where the landmark is in another picture;
- ``render``: a decoder draws the line integrals that a prediction stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr3d_training.data import CohortCase
from cxr3d_training.data.orbits import LandmarkSet
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Sampler,
    Work,
)
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.losses.world_model import (
    Blocks,
    affinities,
    affinity_alignment,
    gathered,
    info_nce,
    landmark_maps,
    looks_real,
    tells_domains,
)
from cxr3d_training.recipes.orbit_recipe import OrbitConfig, OrbitRecipe
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.orbit_model import standardised
from napari_cxr3d.models.vit_hub import begin_from_dinov2, read_dinov2
from napari_cxr3d.models.world_model import DomainCritic, MaskPredictor, XWin

__all__ = ["XWinConfig", "XWinRecipe"]

Feed = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class XWinConfig(OrbitConfig):
    """Settings of X-WIN's training; the presets say where each value comes from.

    The model is an `XWin` with a renderer. Of a bundle that a training begins from, mask predictor
    and critic begin anew: no bundle holds them. Without radiographs, realistic X-rays stand for
    the real domain.

    Attributes
    ----------
    masker : dict
        ``dim``, ``depth`` and ``heads`` of the `MaskPredictor`.
    critic_dim : int
        Width of the `DomainCritic`.
    encoder_from : str or None
        Folder of a DINOv2 or of RAD-DINO whose weights the encoders begin with; the encoder of
        `model` then needs their width and depth, and ``learned_position``.
    real_share : float
        Part of the real domain that is of them; the rest are realistic X-rays.
    real_batch : int
        Pictures of the real domain in a step.
    blocks : Blocks
        The masks.
    temperature, affinity_temperature : float
        tau of the contrastive terms, and of the affinities.
    landmark_temperature, landmark_spread : float
        Of the similarity maps, and of the Gaussian in patches that they are compared with.
    landmarks_held_out : tuple of str
        Landmarks that only the evaluation sees.
    render_detached : bool
        Whether the renderer's loss stops at the renderer, as published, or shapes the rest too.
    ema : Schedule
        Momentum of the target encoder.
    """

    masker: dict[str, int]
    critic_dim: int
    encoder_from: str | None = None
    real_share: float = 0.5
    real_batch: int = 8
    blocks: Blocks = field(default_factory=Blocks)
    temperature: float = 0.1
    affinity_temperature: float = 0.1
    landmark_temperature: float = 0.07
    landmark_spread: float = 0.6
    landmarks_held_out: tuple[str, ...] = ()
    render_detached: bool = True
    ema: Schedule


class XWinRecipe(OrbitRecipe):
    """See the module."""

    name = "xwin"
    Config = XWinConfig
    monitor = "latent_ratio"
    unused_parameters = True  # a term that is off leaves its network out
    paths = ("begin_from", "encoder_from", "radiographs")
    config: XWinConfig

    def __init__(self, config: XWinConfig) -> None:
        super().__init__(config)
        outline = outline_network(config.model)
        if not isinstance(outline, XWin) or outline.renderer is None:
            raise InvalidInputError("The setting 'model' must describe an XWin with a renderer")
        self.require_poses_of(outline)
        self.outline: XWin = outline

    # --- networks -------------------------------------------------------------------------------

    @property
    def players(self) -> tuple[Player, ...]:
        """The world model, and the critic of domains."""
        world = ("nce", "affinity", "mim", "structure", "domain", "landmark", "render")
        return (
            Player("world", ("encoder", "predictor", "masker", "renderer"), world),
            Player("critic", ("critic",), ("cls",)),
        )

    def networks(self) -> dict[str, nn.Module]:
        """The model's parts, and the two that it does not keep."""
        model = build_network(self.config.model)
        assert isinstance(model, XWin)  # its outline was one
        assert model.renderer is not None
        if self.config.encoder_from is not None:
            state = read_dinov2(self.config.encoder_from)
            for encoder in (model.encoder, model.target_encoder):
                begin_from_dinov2(encoder, state)
        if self.config.begin_from is not None:
            _take_over(model, self.config.begin_from)
        return {
            "encoder": model.encoder,
            "target": model.target_encoder,
            "predictor": model.predictor,
            "renderer": model.renderer,
            "masker": MaskPredictor(grid=model.grid, token_dim=model.dim, **self.config.masker),
            "critic": DomainCritic(model.dim, self.config.critic_dim),
        }

    @property
    def averages(self) -> dict[str, Average]:
        """The target encoder follows the context encoder."""
        return {"teacher": Average("encoder", self.config.ema)}

    def network_averages(self) -> dict[str, str]:
        """The model keeps both encoders: the average stands for the second one."""
        return {"target": "teacher"}

    def model_of(self, nets: Networks) -> XWin:
        """The whole model around networks of this recipe."""
        model = build_network(self.config.model)
        assert isinstance(model, XWin)
        names = {"encoder": "encoder", "target_encoder": "target"}
        for part, name in {**names, "predictor": "predictor", "renderer": "renderer"}.items():
            setattr(model, part, nets[name])
        return model.eval()

    # --- data -----------------------------------------------------------------------------------

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """Orbits of patients, and pictures of the real domain."""
        config, outline = self.config, self.outline
        episodes = self.episodes(cases, LandmarkSet(cases, config.landmarks_held_out))
        radiographs = self.real_radiographs()

        def real(rng: np.random.Generator) -> dict[str, Any]:
            if radiographs is not None and rng.random() < config.real_share:
                return {"picture": episodes.collimated(radiographs.draw(rng), rng)}
            return {"picture": episodes.realistic(rng)}

        def masked(
            batch: dict[str, Tensor], rngs: Sequence[np.random.Generator]
        ) -> dict[str, Tensor]:
            shown, hidden = config.blocks.draw(rngs, outline.grid)
            device = next(iter(batch.values())).device
            return {**batch, "shown": shown.to(device), "hidden": hidden.to(device)}

        return {
            "orbits": Sampler(episodes.sample, masked),
            "real": Sampler(real, masked, config.real_batch),
        }

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The terms of the player whose turn it is."""
        orbits, real = work.batches["orbits"], work.batches["real"]
        if player == "critic":
            if "masked" not in work.scratch:
                with torch.no_grad():
                    self._mask(nets, orbits, real, work.scratch)
            of_real, of_simulated = work.scratch["masked"]
            critic = nets["critic"]
            return {"cls": tells_domains(critic(of_real), critic(of_simulated))}
        b, k = orbits["turns"].shape[:2]
        tokens = nets["encoder"](standardised(orbits["context"]))
        with torch.no_grad():
            views = standardised(orbits["integrals"]).flatten(0, 1)
            targets = nets["teacher"](views).unflatten(0, (b, k))
        predicted = nets["predictor"](tokens, orbits["turns"])
        t, z = (gathered(x.mean(2).flatten(0, 1)) for x in (targets, predicted))
        config = self.config

        def affinity() -> Tensor:
            labels = affinities(t, config.affinity_temperature)
            return affinity_alignment(t, z, labels, config.temperature)

        terms: dict[str, Callable[[], Tensor]] = {
            "nce": lambda: info_nce(t, z, config.temperature),
            "affinity": affinity,
            "mim": lambda: self._mask(nets, orbits, real, work.scratch),
            "structure": lambda: (predicted.float() - targets.float()).square().mean(),
            "domain": lambda: looks_real(nets["critic"](predicted)),
            "landmark": lambda: self._landmarks(nets, orbits, tokens),
            "render": lambda: self._render(nets, orbits, predicted),
        }
        return {name: term() for name, term in terms.items() if work.now.on(name)}

    @staticmethod
    def _mask(nets: Networks, orbits: Feed, real: Feed, scratch: dict[str, Any]) -> Tensor:
        """Half the mean squared error of hidden patches of each domain."""
        errors: list[Tensor] = []
        predictions: list[Tensor] = []
        for pictures, blocks in ((real["picture"], real), (orbits["context"], orbits)):
            shown, hidden = blocks["shown"], blocks["hidden"]
            pictures = standardised(pictures)
            with torch.no_grad():
                whole = nets["teacher"](pictures).float()
                whole = functional.layer_norm(whole, whole.shape[-1:])
                wanted = whole.gather(1, hidden[..., None].expand(-1, -1, whole.shape[-1]))
            seen = nets["encoder"](pictures, shown)
            found = nets["masker"](seen, shown, hidden)
            errors.append((found.float() - wanted).square().mean())
            predictions.append(found.detach())
        scratch["masked"] = predictions
        return 0.5 * (errors[0] + errors[1])

    def _landmarks(self, nets: Networks, orbits: Feed, tokens: Tensor) -> Tensor:
        """Maps from each X-ray to the next patient's, and to another view of its own patient."""
        patch = self.outline.detector_shape[0] / self.outline.grid[0]
        places, known = (orbits["marks"] + 0.5) / patch - 0.5, orbits["marked"]
        here, there = places[:, 0], known[:, 0]
        options: Any = {
            "temperature": self.config.landmark_temperature,
            "spread": self.config.landmark_spread,
        }
        grid = self.outline.grid
        both = there & there.roll(-1, 0)
        losses = [
            landmark_maps(tokens, tokens.roll(-1, 0), here, here.roll(-1, 0), both, grid, **options)
        ]
        part = max(1, len(tokens) // 2)
        turned = nets["encoder"](standardised(orbits["integrals"][:part, 0]))
        both = (known[:, 0] & known[:, 1])[:part]
        pair = ((tokens[:part], here[:part]), (turned, places[:part, 1]))
        for (query, at), (key, wanted) in (pair, pair[::-1]):
            losses.append(landmark_maps(query, key, at, wanted, both, grid, **options))
        return torch.stack(losses).mean()

    def _render(self, nets: Networks, orbits: Feed, predicted: Tensor) -> Tensor:
        """Mean absolute error of one view a sample, in the renderer's unit."""
        shown = predicted[:, -1]
        lines = nets["renderer"](shown.detach() if self.config.render_detached else shown)
        error: Tensor = (lines.float() - orbits["integrals"][:, -1]).abs().mean()
        renderer = self.outline.renderer
        assert renderer is not None  # checked when the recipe was made
        return error / renderer.scale

    # --- what a run shows, and its end ------------------------------------------------------------

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """An X-ray, and another view: true beside predicted."""
        batch = batches["orbits"]
        model = self.model_of(nets)
        tokens = model.encode(batch["context"][:1])
        lines = model.render(model.predict(tokens, batch["turns"][:1, -1:])[0])
        pair = torch.cat([batch["integrals"][0, -1], lines[0]], dim=1)
        seen = batch["context"][0]
        low, high = seen.amin(), seen.amax()
        return {"xray": (seen - low) / (high - low).clamp_min(1e-6), "view": (pair / 8).clamp(0, 1)}

    # --- export -----------------------------------------------------------------------------------

    @property
    def landmarks_held_out(self) -> tuple[str, ...]:
        """Landmarks that only the evaluation sees."""
        return self.config.landmarks_held_out

    def bundle(self, nets: Networks) -> BundleParts:
        """The model with both encoders."""
        return self.parts(
            nets,
            landmarks_held_out=list(self.config.landmarks_held_out),
            intended_use="research: what a chest X-ray would show from elsewhere, and where "
            "the same anatomy lies in another picture",
            limits="not a medical device; predicted views are SYNTHETIC, blurred, and mostly "
            "what the training patients had in common; nothing is to be diagnosed from them",
        )


def _take_over(model: XWin, path: str) -> None:
    """Weights of a bundle, all of them."""
    from napari_cxr3d.models.bundle import open_bundle

    taken = open_bundle(path).network("cpu")
    given, wanted = (m.state_dict() for m in (taken, model))
    if {k: v.shape for k, v in given.items()} != {k: v.shape for k, v in wanted.items()}:
        raise InvalidInputError(
            "The setting 'begin_from' must name a bundle of an XWin of the same shapes",
            why=f"its network is a {type(taken).__name__} of other weights",
        )
    model.load_state_dict(given)
