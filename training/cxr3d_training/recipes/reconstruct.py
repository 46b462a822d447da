"""The recipe ``reconstruct``: a CT from X-rays, coarse in one pass and drawn by a flow.

Every step renders new X-rays of augmented volumes. The lift learns the mean latent, and how far
the truth lies from it; the flow learns what the lift leaves out, in units of that distance
(Lipman et al., ICLR 2023, arXiv 2210.02747; Liu et al., ICLR 2023, arXiv 2209.03003).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxr3d_training.data import CaseList, CohortCase
from cxr3d_training.data.augment import augment, augmentation
from cxr3d_training.data.clinical_poses import ClinicalPoses
from cxr3d_training.data.grids import on_grid
from cxr3d_training.data.poses import FixedPoses
from cxr3d_training.data.views import ViewRenderer
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Recipe,
    RecipeConfig,
    Sampler,
    Work,
)
from cxr3d_training.engine.schedules import Schedule
from cxr3d_training.recipes.xray_batches import (
    XrayAppearance,
    clinical_batch,
    rendered_batch,
    validation_views,
)
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import Report
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.reconstruction import ViewBatch
from napari_cxr3d.models.reconstructor import FlowReconstructor
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["ReconstructConfig", "ReconstructRecipe"]

_STATISTICS_STEPS = 100  # in which the latent's mean and deviation are measured
_FARTHEST = 6.0
_VALIDATION_SEED = 20261124


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(RecipeConfig):
    """Settings of the reconstruction's training; the presets say where each value comes from.

    Attributes
    ----------
    model : dict
        ``_target_`` mapping of a `FlowReconstructor`; its codec, if it has weights, is begun
        from `codec_bundle` and stays frozen.
    codec_bundle : str or None
        Bundle of the trained codec; None for one without weights.
    begin_from : str or None
        Bundle of a reconstructor whose lift is taken over, and whose flow where it is of the same
        shape: the stages can so be trained one after the other.
    poses : ClinicalPoses
        Where the X-rays are taken from.
    appearance : XrayAppearance
        How they are spoiled.
    augmentation : {"none", "light", "full"}
        Of the volumes.
    hide : float
        Part of the samples whose condition is hidden from the flow, for guidance.
    time_spread : float
        Standard deviation of the logit of the flow's time (Esser et al., ICML 2024, arXiv
        2403.03206: logit-normal, 1).
    ema : Schedule
        Momentum of the weights' averages, which are evaluated and exported.
    """

    model: dict[str, Any]
    codec_bundle: str | None = None
    begin_from: str | None = None
    poses: ClinicalPoses = field(default_factory=ClinicalPoses)
    appearance: XrayAppearance = field(default_factory=XrayAppearance)
    augmentation: str = "full"
    hide: float = 0.1
    time_spread: float = 1.0
    ema: Schedule


class ReconstructRecipe(Recipe):
    """See the module."""

    name = "reconstruct"
    Config = ReconstructConfig
    monitor = "objective"
    paths = ("begin_from", "codec_bundle")
    config: ReconstructConfig

    def __init__(self, config: ReconstructConfig) -> None:
        super().__init__(config)
        outline = outline_network(config.model)
        if not isinstance(outline, FlowReconstructor):
            raise InvalidInputError("The setting 'model' must describe a FlowReconstructor")
        if config.poses.detector_shape != outline.detector_shape:
            raise InvalidInputError(
                "The X-rays must be rendered on the model's detector",
                why=f"poses.detector_shape is {config.poses.detector_shape}, "
                f"the model's {outline.detector_shape}",
            )
        self.outline = outline
        self.window: HuWindow = outline.window

    # --- networks -------------------------------------------------------------------------------

    @property
    def players(self) -> tuple[Player, ...]:
        """The lift, and after it the flow on what the lift left out."""
        return (
            Player("lift", ("lift",), ("coarse", "spread")),
            Player("flow", ("flow",), ("flow",)),
        )

    def networks(self) -> dict[str, nn.Module]:
        """The model's stages, and its frozen codec."""
        model = self._model()
        if self.config.begin_from is not None:
            self._take_over(model, self.config.begin_from)
        return {"lift": model.lift_stage, "flow": model.flow_stage, "codec": model.codec}

    @property
    def averages(self) -> dict[str, Average]:
        """Both stages' weights, averaged: what is kept in the end."""
        ema = self.config.ema
        return {"lift_average": Average("lift", ema), "flow_average": Average("flow", ema)}

    def _model(self) -> FlowReconstructor:
        model = build_network(self.config.model)
        assert isinstance(model, FlowReconstructor)  # its outline was one
        if self.config.codec_bundle is not None:
            from napari_cxr3d.models.bundle import open_bundle

            codec = open_bundle(self.config.codec_bundle).network("cpu")
            model.codec.load_state_dict(codec.state_dict())
        return model

    def _take_over(self, model: FlowReconstructor, path: str) -> None:
        """Weights of a bundle, stage by stage."""
        from napari_cxr3d.models.bundle import open_bundle

        taken = open_bundle(path).network("cpu")
        if not isinstance(taken, FlowReconstructor):
            raise InvalidInputError(
                "The setting 'begin_from' must name a bundle of a FlowReconstructor",
                why=f"its network is a {type(taken).__name__}",
            )
        model.lift_stage.load_state_dict(taken.lift_stage.state_dict())
        given, wanted = (m.flow_stage.state_dict() for m in (taken, model))
        if {k: v.shape for k, v in given.items()} == {k: v.shape for k, v in wanted.items()}:
            model.flow_stage.load_state_dict(given)

    def model_of(self, nets: Networks) -> FlowReconstructor:
        """The whole model around networks of this recipe."""
        model = self._model()
        for name, stage in (("lift_stage", "lift"), ("flow_stage", "flow"), ("codec", "codec")):
            setattr(model, name, nets[stage])
        return model.eval()

    # --- data -----------------------------------------------------------------------------------

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """Augmented volumes with X-rays of them, and the noise and time of the flow."""
        assert isinstance(cases, CaseList)
        config, outline = self.config, self.outline
        look = config.appearance
        views = ViewRenderer(config.poses, domain=look.domain)
        steps = augmentation(config.augmentation)

        def sample(rng: np.random.Generator) -> dict[str, Any]:
            volume, maps = on_grid(cases.draw(rng), outline.volume_shape, outline.spacing_mm)
            changed = augment(volume, steps, rng, {"lungs": maps["lungs"]}).volume
            rendered = views.sample(changed, rng)
            return {
                **rendered,
                **look.draw(rng, config.poses.count, config.poses.detector_shape),
                "hu": changed.hu[None],
                "noise": rng.standard_normal(outline.latent_shape, np.float32),
                "time": np.float32(1 / (1 + np.exp(-rng.normal(0, config.time_spread)))),
                "shown": np.float32(rng.random() >= config.hide),
            }

        def finish(batch: dict[str, Tensor], rngs: Any) -> dict[str, Tensor]:
            rendered = views.finish(batch, rngs)
            kept = {name: batch[name] for name in ("noise", "time", "shown")}
            ct = self.window.encode(rendered["hu"])
            return {"ct": ct, **kept, **clinical_batch(rendered)._asdict()}

        return {"volumes": Sampler(sample, finish)}

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The terms of the player whose turn it is."""
        batch = work.batches["volumes"]
        if player == "flow":
            if "residual" not in work.scratch:  # the lift is not trained
                with torch.no_grad():
                    self._lift(nets, batch, work.scratch)
            return {"flow": self._flow(nets, batch, work.scratch)}
        error, log_spread = self._lift(nets, batch, work.scratch)
        unit = _buffers(nets["lift"])["latent_std"]
        terms: dict[str, Callable[[], Tensor]] = {
            # The wavelet is orthonormal: this is the voxels' mean square, in the range -1 to 1.
            "coarse": lambda: error.square().mean(),
            "spread": lambda: _normal_nll(error.detach() / unit, log_spread),
        }
        return {name: term() for name, term in terms.items() if work.now.on(name)}

    @staticmethod
    def _lift(
        nets: Networks, batch: Mapping[str, Tensor], scratch: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """What the lift leaves of the latent, and how far it expects the truth."""
        codec = nets["codec"]
        assert isinstance(codec, Codec)
        with torch.no_grad():
            latent = codec.encode(batch["ct"]).float()
        lift: Any = nets["lift"]
        views = ViewBatch(*(batch[name] for name in ViewBatch._fields))
        features, mean, log_spread = lift(views)
        error = latent - mean
        spread = log_spread.detach().exp() * _buffers(lift)["latent_std"]
        scratch.update(
            latent=latent, features=features.detach(), mean=mean.detach(),
            residual=error.detach() / spread,
        )  # fmt: skip
        return error, log_spread

    @staticmethod
    def _flow(nets: Networks, batch: Mapping[str, Tensor], scratch: Mapping[str, Any]) -> Tensor:
        noise, time = batch["noise"], batch["time"]
        residual = scratch["residual"][:, : noise.shape[1]].clamp(-_FARTHEST, _FARTHEST)
        t = time.reshape(-1, 1, 1, 1, 1)
        state = (1 - t) * residual + t * noise
        buffers = _buffers(nets["lift"])
        coarse = (scratch["mean"] - buffers["latent_mean"]) / buffers["latent_std"]
        flow: Any = nets["flow"]
        velocity = flow(state, time, scratch["features"], coarse, batch["shown"])
        error: Tensor = velocity - (residual - noise)
        return error.square().mean()

    def after_step(self, nets: Networks, work: Work) -> None:
        """Measure the latent's mean and deviation over the first steps."""
        if work.now.step >= _STATISTICS_STEPS or self.config.begin_from is not None:
            return
        latent, buffers = work.scratch["latent"], _buffers(nets["lift"])
        share = 1 / (work.now.step + 1)
        axes, mean, std = (0, 2, 3, 4), buffers["latent_mean"], buffers["latent_std"]
        second = std.square() + mean.square()
        if work.now.step == 0:
            second = torch.zeros_like(second)
        first = mean.lerp(latent.mean(axes).reshape(mean.shape), share)
        second = second.lerp(latent.square().mean(axes).reshape(mean.shape), share)
        mean.copy_(first)
        std.copy_((second - first.square()).clamp_min(1e-8).sqrt())

    # --- what a run shows, and its end ------------------------------------------------------------

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """Middle slices of a volume: as it is, and as one pass gives it; the first X-ray."""
        batch = batches["volumes"]
        views = ViewBatch(*(batch[name][:1] for name in ViewBatch._fields))
        coarse = self.model_of(nets).condition(views).coarse
        assert coarse is not None
        pictures = {"xray": (views.integrals[0, 0] / 6).clamp(0, 1)}
        for name, axis in (("axial", 2), ("coronal", 3), ("sagittal", 4)):
            middle = coarse.shape[axis] // 2
            pair = [v.select(axis, middle)[0, 0] for v in (batch["ct"][:1], coarse)]
            pictures[name] = torch.cat(pair, dim=1) / 2 + 0.5
        return pictures

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """Errors of the coarse volume and of the flow, and the objective that they make.

        ``coarse_mse`` of a frontal view and ``coarse_mse_two_views`` of a frontal and a lateral
        one are of voxels, range -1 to 1; ``velocity_mse`` is the flow's loss at times and noise
        that are the same at every validation; ``objective`` their weighted sum.
        """
        model = self.model_of(nets).to(device)
        views = validation_views(model.detector_shape, self.config.poses.field_mm)
        render = ViewRenderer(FixedPoses(views))
        found: dict[str, list[float]] = {}
        for index, case in enumerate(cases):
            volume, _ = on_grid(case, model.volume_shape, model.spacing_mm)
            truth = self.window.encode(torch.from_numpy(np.array(volume.hu))[None, None].to(device))
            rendered = render.render(volume, [v.resolved(volume.grid) for v in views])
            for name, count in (("coarse_mse", 1), ("coarse_mse_two_views", 2)):
                condition = model.condition(rendered_batch(rendered, count).to(device))
                assert condition.coarse is not None
                error = float((condition.coarse - truth).square().mean())
                found.setdefault(name, []).append(error)
            rng = np.random.default_rng([_VALIDATION_SEED, index])
            noise = torch.from_numpy(rng.standard_normal((1, *model.latent_shape), np.float32))
            time = torch.tensor([(index + 0.5) / len(cases)], device=device, dtype=torch.float32)
            residual, noise = model.encode(truth, condition), noise.to(device)
            state = model.process.add_noise(residual, noise, time)
            velocity = model.predict(state, time, condition)
            wanted = model.process.target(residual, noise, time)
            found.setdefault("velocity_mse", []).append(float((velocity - wanted).square().mean()))
        figures = {name: float(np.mean(values)) for name, values in found.items()}
        steps = self.config.run.steps
        weight = {name: loss.at(steps - 1, steps) for name, loss in self.config.losses.items()}
        figures["objective"] = (
            weight["coarse"] * (figures["coarse_mse"] + figures["coarse_mse_two_views"]) / 2
            + weight["flow"] * figures["velocity_mse"]
        )
        return figures

    # --- evaluation and export --------------------------------------------------------------------

    def evaluate(
        self,
        nets: Networks,
        cases: Sequence[CohortCase],
        device: torch.device,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Report:
        """The table of `cxr3d_training.evaluation.reconstruct` on held-out patients."""
        from cxr3d_training.evaluation.reconstruct import evaluate_reconstruction

        cohort = self.cohort()
        report: Report = evaluate_reconstruction(
            self.model_of(nets).to(device),
            cases,
            train_cases=cohort.split("train"),
            validation_cases=cohort.split("validation"),
            device=device,
            progress=progress,
            cancel=cancel,
        )
        return report

    def bundle(self, nets: Networks) -> BundleParts:
        """The whole model with averaged weights."""
        model = self.model_of(nets)
        card = {
            "kind": "reconstructor",
            "preprocessing": {
                **model.window.to_dict(),
                "spacing_mm": list(model.spacing_mm),
                "volume_shape": list(model.volume_shape),
                "detector_shape": list(model.detector_shape),
                "field_mm": self.config.poses.field_mm,
            },
            "sampler": {"steps": model.default_steps, "method": "euler"},
            "intended_use": "research: a volume that agrees with one or more chest X-rays, and "
            "how far it is settled by them",
            "limits": "not a medical device, and what it makes is no CT: SYNTHETIC, at "
            f"{model.spacing_mm[0]:g} mm, most of its depth from the training volumes rather than "
            "from the X-ray; nothing is to be diagnosed from it",
        }
        return BundleParts(self.config.model, model.state_dict(), card)


def _buffers(module: Any) -> dict[str, Tensor]:
    """Buffers by their own names, whatever the module is wrapped in."""
    return {name.rpartition(".")[2]: value for name, value in module.named_buffers()}


def _normal_nll(error: Tensor, log_spread: Tensor) -> Tensor:
    """Negative logarithm of a normal density, without its constant, mean over the numbers."""
    return (0.5 * (error * (-log_spread).exp()).square() + log_spread).mean()
