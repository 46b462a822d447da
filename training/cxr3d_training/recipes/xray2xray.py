"""The recipe ``xray2xray``: a world model that turns about the patient step by step.

Yang et al., 2025 (arXiv 2506.19055); the article's details are not public, so the terms are
inferred from its kind: Ha and Schmidhuber, *World Models*, 2018 (arXiv 1803.10122), with the
losses of VQ-GAN (Esser et al., CVPR 2021, arXiv 2012.09841). First the vision model:

- ``l1``, ``random_feature``, ``adversarial``: DRRs from any angle there and back, and the DRR of
  the same exposure from a realistic X-ray;
- ``align``: the realistic X-ray's latent is that of its DRR;
- ``real``: real radiographs, against the integrals that are read from their greys, but for scale;
- ``commitment``: with a codebook, latents stay near their codes.

Then the transition model, on the vision model's latents:

- ``latent``, ``cosine``, ``codes``: one step from the true latent (teacher forcing);
- ``rollout``: several steps, each from the latent before, as it will be used;
- ``decoded``: what is drawn from a roll-out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr3d_training.data import CohortCase
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Sampler,
    Work,
)
from cxr3d_training.losses.adversarial import discriminator_loss, generator_loss
from cxr3d_training.losses.features import RandomFeatures, feature_distance
from cxr3d_training.recipes.orbit_recipe import OrbitRecipe
from cxr3d_training.recipes.xray2xray_config import Xray2XrayConfig
from cxr3d_training.recipes.xray2xray_validation import RollOutValidation
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.transition import Xray2Xray
from napari_cxr3d.xray.calibration import approximate_integrals

__all__ = ["Xray2XrayConfig", "Xray2XrayRecipe"]

_VISION = ("l1", "align", "real", "commitment", "adversarial", "random_feature")
_TRANSITION = ("latent", "cosine", "codes", "rollout", "decoded")


class Xray2XrayRecipe(OrbitRecipe):
    """See the module."""

    name = "xray2xray"
    Config = Xray2XrayConfig
    monitor = "objective"
    unused_parameters = True  # a term that is off leaves parts out
    forward_methods: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vision": ("encode", "decode", "nearest", "code_logits")
    }
    paths = ("begin_from", "radiographs")
    config: Xray2XrayConfig
    validation = RollOutValidation

    def __init__(self, config: Xray2XrayConfig) -> None:
        super().__init__(config)
        outline = outline_network(config.model)
        if not isinstance(outline, Xray2Xray):
            raise InvalidInputError("The setting 'model' must describe an Xray2Xray")
        self.require_poses_of(outline, stride=(config.poses.stride, outline.stride))
        off = {name for name, weight in config.losses.items() if weight.never}
        if outline.vision.codebook is None and not {"commitment", "codes"} <= off:
            raise InvalidInputError(
                "The losses 'commitment' and 'codes' need a codebook",
                remedy="set model.vision.n_codes, or both weights to 0",
            )
        if config.radiographs is None and "real" not in off:
            raise InvalidInputError(
                "The loss 'real' needs real radiographs",
                remedy="name their folder by the setting 'radiographs', or set the weight to 0",
            )
        self.outline: Xray2Xray = outline

    # --- networks -------------------------------------------------------------------------------

    @property
    def players(self) -> tuple[Player, ...]:
        """The vision model, the judge of what it draws, and the transition model."""
        return (
            Player("vision", ("vision",), _VISION),
            Player("judge", ("judge",), ("judge",)),
            Player("transition", ("transition",), _TRANSITION),
        )

    def networks(self) -> dict[str, nn.Module]:
        """The model's stages, the judge, and the frozen encoder of the feature term."""
        model = build_network(self.config.model)
        assert isinstance(model, Xray2Xray)  # its outline was one
        if self.config.begin_from is not None:
            _take_over(model, self.config.begin_from)
        features = self.config.features
        return {
            "vision": model.vision,
            "transition": model.transition,
            "judge": build_network(self.config.discriminator),
            "features": RandomFeatures(features.channels, seed=features.seed, spatial_dims=2),
        }

    @property
    def averages(self) -> dict[str, Average]:
        """Both stages' weights, averaged: what is kept in the end."""
        ema = self.config.ema
        return {
            "vision_average": Average("vision", ema),
            "transition_average": Average("transition", ema),
        }

    def model_of(self, nets: Networks) -> Xray2Xray:
        """The whole model around networks of this recipe."""
        model = build_network(self.config.model)
        assert isinstance(model, Xray2Xray)
        for stage in ("vision", "transition"):
            setattr(model, stage, nets[stage])
        return model.eval()

    # --- data -----------------------------------------------------------------------------------

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """Walks about patients, and real radiographs where a folder of them is named."""
        config = self.config
        episodes = self.episodes(cases)
        radiographs = self.real_radiographs()

        def walk(rng: np.random.Generator) -> dict[str, Any]:
            # "pick" tells which steps of the walk are looked at, where not all are.
            return {**episodes.sample(rng), "pick": rng.permutation(config.poses.count - 1)}

        feeds = {"walks": Sampler(walk)}
        if radiographs is not None:

            def real(rng: np.random.Generator) -> dict[str, Any]:
                picture = radiographs.draw(rng)
                read, _ = approximate_integrals(picture, polarity="trust")
                covered = (picture > 0).astype(np.float32)
                return {"picture": picture, "integrals": read, "covered": covered}

            feeds["real"] = Sampler(real, batch_size=config.real_batch)
        return feeds

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The terms of the player whose turn it is."""
        if player == "vision":
            return self._vision(nets, work)
        if player == "transition":
            return self._transition(nets, work)
        if "drawn" not in work.scratch:  # the vision model is not trained
            with torch.no_grad():
                self._draw(nets["vision"], work)
        drawn, truth = (work.scratch[name][:, None] for name in ("drawn", "truth"))
        judge = nets["judge"]
        kind = self.config.adversarial_kind
        return {"judge": discriminator_loss(judge(truth)[-1], judge(drawn)[-1], kind)}

    def _draw(self, vision: Any, work: Work) -> tuple[Tensor, Tensor]:
        """Latents of a step's pictures, and what is decoded from them, in units of the scale.

        The pictures are the given X-rays, their DRRs, views of the walks, and real radiographs
        where ``real`` is on.
        """
        walks = work.batches["walks"]
        rows = torch.arange(len(walks["context"]), device=walks["context"].device)[:, None]
        views = walks["integrals"][rows, walks["pick"][:, : self.config.vision_views] + 1]
        views = views.flatten(0, 1)
        pictures = [walks["context"], walks["frontal"], views]
        if work.now.on("real"):
            pictures.append(work.batches["real"]["picture"])
        cells = vision.encode(torch.cat(pictures))
        drawn = vision.decode(cells, self.outline.grid) / vision.scale
        truth = torch.cat([walks["frontal"], walks["frontal"], views]) / vision.scale
        work.scratch.update(cells=cells.detach(), drawn=drawn[: len(truth)].detach(), truth=truth)
        return cells, drawn

    def _vision(self, nets: Networks, work: Work) -> dict[str, Tensor]:
        vision: Any = nets["vision"]
        cells, drawn = self._draw(vision, work)
        truth = work.scratch["truth"]
        seen, b = drawn[: len(truth)], len(work.batches["walks"]["context"])

        def real() -> Tensor:
            batch = work.batches["real"]
            there = batch["covered"]
            pair = (_gradation(x, there) for x in (drawn[len(truth) :], batch["integrals"]))
            error = torch.sub(*pair).abs() * there
            return error.sum() / there.sum().clamp_min(1)

        def commitment() -> Tensor:
            codes: Tensor = vision.nearest(cells.detach()).codes
            return (cells - codes).square().mean()

        kind, features = self.config.adversarial_kind, nets["features"]
        terms: dict[str, Callable[[], Tensor]] = {
            "l1": lambda: (seen - truth).abs().mean(),
            "align": lambda: (cells[:b] - cells[b : 2 * b].detach()).square().mean(),
            "real": real,
            "commitment": commitment,
            "adversarial": lambda: generator_loss(nets["judge"](seen[:, None])[-1], kind),
            "random_feature": lambda: feature_distance(
                features(seen[:, None]), features(truth[:, None])
            ),
        }
        return {name: term() for name, term in terms.items() if work.now.on(name)}

    def _transition(self, nets: Networks, work: Work) -> dict[str, Tensor]:
        walks, now, vision = work.batches["walks"], work.now, nets["vision"]
        yaws = walks["turns"][..., 0]
        steps, pick = yaws.diff(dim=1), walks["pick"]
        pictures = torch.cat([walks["context"][:, None], walks["integrals"]], dim=1)
        with torch.no_grad():
            encode: Any = vision.encode
            cells = encode(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        given, true = cells[:, 0], cells[:, 1:]
        start = torch.where(yaws[:, :1, None] == 0, given, true[:, 0])
        states = torch.cat([start[:, None], true[:, 1:]], dim=1)
        rows = torch.arange(len(yaws), device=yaws.device)[:, None]
        terms: dict[str, Tensor] = {}
        if any(now.on(name) for name in ("latent", "cosine", "codes")):
            at = pick[:, : self.config.teacher_views]
            before = (states[rows, at], given[:, None].expand(-1, at.shape[1], -1, -1))
            moved = nets["transition"](
                *(x.flatten(0, 1) for x in (*before, yaws[rows, at], steps[rows, at]))
            )
            terms |= _agreement(vision, moved.state, true[rows, at + 1].flatten(0, 1))
        if now.on("rollout") or now.on("decoded"):
            wanted = self.config.rollout_steps.at(now.step, now.steps)
            count = min(max(1, round(wanted)), steps.shape[1])
            state, reached = start, []
            for index in range(count):
                state = nets["transition"](state, given, yaws[:, index], steps[:, index]).state
                reached.append(state)
            rolled = torch.stack(reached, dim=1)
            error = _agreement(vision, rolled.flatten(0, 1), true[:, 1 : count + 1].flatten(0, 1))
            terms["rollout"] = error.get("codes", error["latent"] + error["cosine"])
            if now.on("decoded"):
                at = pick[:, : self.config.decoded_views] % count
                decode: Any = vision.decode
                drawn = decode(rolled[rows, at].flatten(0, 1), self.outline.grid)
                lines = walks["integrals"][rows, at + 1].flatten(0, 1)
                terms["decoded"] = (drawn - lines).abs().mean() / self.outline.vision.scale
        return {name: term for name, term in terms.items() if now.on(name)}

    def after_step(self, nets: Networks, work: Work) -> None:
        """Let the codebook follow the latents, while the vision model is trained."""
        vision: Any = nets["vision"]
        if vision.codebook is not None and any(work.now.on(name) for name in _VISION):
            cells = work.scratch["cells"].transpose(1, 2)
            momentum, rare = self.config.codebook_momentum, self.config.rare
            vision.codebook.update(cells, momentum=momentum, rare=rare)

    # --- what a run shows, and its end ------------------------------------------------------------

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """A given X-ray with its DRR, true and decoded; a view, true, decoded and rolled out to."""
        walks, model = batches["walks"], self.model_of(nets)
        own = model.encode(walks["context"][:1])
        truth = walks["integrals"][:1, -1]
        rolled = model.predict(own, walks["turns"][:1, -1:])[0]
        scale = self.outline.vision.scale
        frontal = torch.cat([walks["frontal"][:1], model.render(own)], dim=-1)[0]
        view = torch.cat([truth, model.render(model.encode(truth)), model.render(rolled)], -1)[0]
        pictures = {"given": walks["context"][0], "frontal": frontal / scale, "view": view / scale}
        return {name: picture.float().clamp(0, 1) for name, picture in pictures.items()}

    # --- export -----------------------------------------------------------------------------------

    def bundle(self, nets: Networks) -> BundleParts:
        """The whole model with averaged weights."""
        return self.parts(
            nets,
            intended_use="research: what a chest X-ray would show from elsewhere, reached "
            "step by step, and a description of the patient from that orbit",
            limits="not a medical device; predicted views are SYNTHETIC, blurred, and mostly "
            "what the training patients had in common; errors grow along a roll-out; nothing is "
            "to be diagnosed from them",
        )


def _take_over(model: Xray2Xray, path: str) -> None:
    """Weights of a bundle, stage by stage."""
    from napari_cxr3d.models.bundle import open_bundle

    taken = open_bundle(path).network("cpu")
    if not isinstance(taken, Xray2Xray):
        raise InvalidInputError(
            "The setting 'begin_from' must name a bundle of an Xray2Xray",
            why=f"its network is a {type(taken).__name__}",
        )
    model.vision.load_state_dict(taken.vision.state_dict())
    given, wanted = (m.transition.state_dict() for m in (taken, model))
    if {k: v.shape for k, v in given.items()} == {k: v.shape for k, v in wanted.items()}:
        model.transition.load_state_dict(given)


def _agreement(vision: Any, found: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Mean square, 1 - cosine, and with a codebook the cross entropy of the true codes."""
    terms = {
        "latent": (found - true).square().mean(),
        "cosine": 1 - functional.cosine_similarity(found, true, dim=-1).mean(),
    }
    if vision.codebook is not None:
        logits = vision.code_logits(found)
        numbers = vision.nearest(true).numbers
        terms["codes"] = functional.cross_entropy(logits.flatten(0, 1), numbers.flatten())
    return terms


def _gradation(pictures: Tensor, there: Tensor) -> Tensor:
    """Pictures (B, rows, cols) with mean 0 and deviation 1 where they are covered."""
    count = there.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (pictures * there).sum((-2, -1), keepdim=True) / count
    centred = pictures - mean
    variance = (centred.square() * there).sum((-2, -1), keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-6)
