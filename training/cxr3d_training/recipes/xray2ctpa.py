"""X-ray2CTPA's training: a diffusion of slice latents in four stages, with all terms' gradients.

Cahan et al., 2024 (arXiv 2406.16109). The stages: 1, without any X-ray, on many CTs; 2, on DRRs of
them (the paper's largest single gain); 3, without X-ray, on one's own CTs; 4, on one's own pairs of
CT and X-ray. Each is a run of its own that begins from the one before (``init``).

Two of the paper's terms have no effect on the U-Net in its code: the perceptual distance is
computed without gradients, and the adversarial one trains the discriminator alone. Here each
reaches the U-Net; a test holds every term to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.checkpoint import checkpoint

from cxr3d_training.data import CaseList, CohortCase
from cxr3d_training.data.augment import augment, augmentation
from cxr3d_training.data.grids import on_grid
from cxr3d_training.data.views import ViewRenderer
from cxr3d_training.engine.recipe import (
    Average,
    Batches,
    BundleParts,
    Networks,
    Player,
    Recipe,
    Sampler,
    Work,
)
from cxr3d_training.losses.adversarial import discriminator_loss, generator_loss
from cxr3d_training.losses.features import RandomFeatures, feature_distance
from cxr3d_training.recipes.xray2ctpa_config import UNTRAINED, Xray2CtpaConfig
from cxr3d_training.recipes.xray2ctpa_data import (
    UNKNOWN,
    LatentCache,
    Pairs,
    Views,
    label_of,
    latent_limits,
)
from cxr3d_training.recipes.xray2ctpa_parts import (
    begin_from,
    classifier_of,
    codec_weights,
    encoder_weights,
)
from cxr3d_training.recipes.xray_batches import rendered_batch, validation_views
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.io.guard import existing_path
from napari_cxr3d.metrics import Report
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.network import build_network, outline_network
from napari_cxr3d.models.xray2ctpa.embedding import pictures_of
from napari_cxr3d.models.xray2ctpa.lora import add_adapters, merge_adapters
from napari_cxr3d.models.xray2ctpa.model import LatentRange, Xray2Ctpa
from napari_cxr3d.progress import CancelToken, ProgressCallback

__all__ = ["Xray2CtpaRecipe"]

_PARTS = ("unet", "encoder", "codec", "range")  # of the model; networks of the recipe too
_JUDGED_TIMES = (0.25, 0.5, 0.75)
_JUDGED_CASES = 16
_EVALUATED_STEPS = (25, 50, 250)  # beside the thousand of the publication


class Xray2CtpaRecipe(Recipe):
    """See the module."""

    name = "xray2ctpa"
    Config = Xray2CtpaConfig
    monitor = "l1"
    paths = (
        "init",
        "codec_bundle",
        "encoder_weights",
        "classifier_bundle",
        "radimagenet",
        "xrays",
    )
    config: Xray2CtpaConfig

    def __init__(self, config: Xray2CtpaConfig) -> None:
        super().__init__(config)
        outline = outline_network(config.model)
        if not isinstance(outline, Xray2Ctpa):
            raise InvalidInputError("The setting 'model' must describe an Xray2Ctpa")
        config.check(outline.detector_shape)
        self.outline = outline
        self.window = outline.window
        self.process = outline.process
        self._latents = LatentCache()
        self._absent: str | None = None
        self._to_measure: Callable[[Codec, torch.device], tuple[float, float]] | None = None

    @property
    def conditional(self) -> bool:
        """Whether this stage is shown X-rays."""
        return self.config.stage in (2, 4)

    # --- networks -------------------------------------------------------------------------------

    @property
    def _trained(self) -> tuple[str, ...]:
        """What the denoiser's terms move."""
        config = self.config
        with_encoder = self.conditional and config.train_encoder and config.lora is None
        return ("unet", "encoder") if with_encoder else ("unet",)

    @property
    def players(self) -> tuple[Player, ...]:
        """The denoiser, and after it the discriminator of its estimates."""
        terms = ("l1", "self_feature", "lpips", "adversarial", "classifier")
        return (
            Player("denoiser", self._trained, terms),
            Player("discriminator", ("discriminator",), ("discriminator",)),
        )

    def networks(self) -> dict[str, nn.Module]:
        """The model's parts, those of the stage before; discriminator; what terms look through.

        Files that are gone are an error only once a training begins: a checkpoint holds all that
        came from them.
        """
        config, look = self.config, self.config.perceptual
        model = self._model()
        if config.codec_bundle != UNTRAINED and self._there(config.codec_bundle):
            codec_weights(model.codec, config.codec_bundle)
        if config.init is not None:
            if self._there(config.init):
                begin_from(model, config.init)
        elif self._there(config.encoder_weights):
            encoder_weights(model.encoder, config.encoder_weights)
        nets: dict[str, nn.Module] = {part: getattr(model, part) for part in _PARTS}
        if config.lora is not None:
            add_adapters(model.unet, config.lora.rank, config.lora.scale)
        nets["discriminator"] = build_network(config.discriminator)
        nets["features"] = RandomFeatures(look.channels, seed=look.seed, spatial_dims=2)
        if self._there(config.radimagenet):
            from cxr3d_training.losses.radimagenet import RadImageNetFeatures

            nets["radimagenet"] = RadImageNetFeatures(config.radimagenet)
        if self._there(config.classifier_bundle):
            nets["classifier"] = classifier_of(config.classifier_bundle, self.outline.latent_shape)
        return nets

    def _there(self, source: str | None) -> TypeGuard[str]:
        """Whether a file is named and there; one that is not is remembered."""
        if source is None:
            return False
        found = Path(source).expanduser().exists()
        self._absent = self._absent if found else source
        return found

    @property
    def averages(self) -> dict[str, Average]:
        """What is trained, averaged: what is kept in the end."""
        return {f"{name}_average": Average(name, self.config.ema) for name in self._trained}

    def _model(self) -> Xray2Ctpa:
        model = build_network(self.config.model)
        assert isinstance(model, Xray2Ctpa)  # its outline was one
        return model

    def model_of(self, nets: Networks) -> Xray2Ctpa:
        """The whole model around networks of this recipe."""
        model = self._model()
        for part in _PARTS:
            setattr(model, part, nets[part])
        return model.eval()

    # --- data -----------------------------------------------------------------------------------

    def samplers(self, cases: Sequence[CohortCase]) -> dict[str, Sampler]:
        """Volumes with an X-ray of each, and the noise and step of the diffusion."""
        assert isinstance(cases, CaseList)
        config, outline = self.config, self.outline
        if self._absent is not None:
            existing_path(self._absent)
        if config.codec_bundle is None and config.init is None:
            raise InvalidInputError(
                "The codec of the latents has no weights",
                why="neither 'codec_bundle' nor 'init' is set",
                remedy="name a trained slice codec by codec_bundle=BUNDLE",
            )
        if config.lora is not None and config.init is None:
            raise InvalidInputError(
                "Adapters need a trained network",
                why="the setting 'init' names none",
                remedy="give the run or bundle that is to be adapted",
            )
        shape, spacing = outline.volume_shape, outline.spacing_mm
        pairs = None
        if config.stage == 4:
            pairs = Pairs(
                cases,
                config.xrays,
                config.xray_column,
                outline.detector_shape,
                config.poses.field_mm,
            )
            cases = pairs.cases
        views = Views(config.poses, config.appearance, pairs)
        steps = augmentation(config.augmentation)
        keys = {case.id: k for k, case in enumerate(cases)}
        latent = outline.latent_shape
        self._to_measure = lambda codec, device: self._measured(cases, codec, device)

        def sample(rng: np.random.Generator) -> dict[str, Any]:
            case = cases.draw(rng)
            volume, maps = on_grid(case, shape, spacing)
            changed = augment(volume, steps, rng, {"lungs": maps["lungs"]}).volume
            shown = views.sample(case, changed, rng) if self.conditional else {}
            return {
                **shown,
                "hu": changed.hu[None],
                "key": np.int64(keys[case.id]),
                "label": np.float32(label_of(case, config.label)),
                "noise": rng.standard_normal(latent, np.float32),
                "step": np.int64(rng.integers(1, self.process.timesteps + 1)),
                "slices": rng.choice(latent[1], config.perceptual.slices, replace=False),
                "shown": np.float32(self.conditional and rng.random() >= config.hide),
            }

        names = ("key", "label", "noise", "step", "slices", "shown")

        def finish(batch: dict[str, Tensor], rngs: Any) -> dict[str, Tensor]:
            kept = {name: batch[name] for name in names}
            if self.conditional:
                kept["picture"] = pictures_of(views.finish(batch, rngs))
            return {**kept, "ct": self.window.encode(batch["hu"])}

        return {"volumes": Sampler(sample, finish)}

    def _measured(self, cases: CaseList, codec: Codec, device: torch.device) -> tuple[float, float]:
        """Limits of the latents over some training cases."""
        rng, found = np.random.default_rng(self.config.run.seed), []
        for _ in range(self.config.range_cases):
            volume, _ = on_grid(cases.draw(rng), self.outline.volume_shape, self.outline.spacing_mm)
            hu = torch.from_numpy(np.array(volume.hu))[None, None].to(device)
            found.append(codec.encode(self.window.encode(hu)).cpu())
        return latent_limits(found, self.config.range_share)

    def _clean(self, nets: Networks, batch: Mapping[str, Tensor]) -> Tensor:
        """The batch's latents in the diffusion's range; the range is measured at the first."""
        codec, limits, ct = nets["codec"], nets["range"], batch["ct"]
        assert isinstance(codec, Codec)
        assert isinstance(limits, LatentRange)
        with torch.no_grad():
            if not limits.measured and self._to_measure is not None:
                limits.set(*self._to_measure(codec, ct.device))
            if self.config.cached_latents:
                latent = self._latents.encode(codec, ct, batch["key"].tolist())
            else:
                latent = codec.encode(ct).float()
            clean: Tensor = limits(latent)
        return clean

    # --- losses ---------------------------------------------------------------------------------

    def losses(self, player: str, nets: Networks, work: Work) -> dict[str, Tensor]:
        """The terms of the player whose turn it is."""
        batch, now = work.batches["volumes"], work.now
        if player == "discriminator":
            if "clean" not in work.scratch:  # all terms of the denoiser are off
                with torch.no_grad():
                    self._estimate(nets, batch, work.scratch)
            real = nets["discriminator"](work.scratch["clean"])[-1]
            fake = nets["discriminator"](work.scratch["estimate"])[-1]
            return {"discriminator": discriminator_loss(real, fake, "least_squares")}

        output, target, clean, estimate = self._estimate(nets, batch, work.scratch)
        slices = batch["slices"]
        terms: dict[str, Callable[[], Tensor]] = {
            "l1": lambda: (output - target).abs().mean(),
            "self_feature": lambda: self._seen(nets, "features", clean, estimate, slices),
            "lpips": lambda: self._seen(nets, "radimagenet", clean, estimate, slices),
            "adversarial": lambda: generator_loss(
                nets["discriminator"](estimate)[-1], "least_squares"
            ),
            "classifier": lambda: self._classified(nets, estimate, batch["label"]),
        }
        return {name: term() for name, term in terms.items() if now.on(name)}

    def _estimate(
        self, nets: Networks, batch: Mapping[str, Tensor], scratch: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output and target of the U-Net, the clean latent, and the estimate of it."""
        clean = self._clean(nets, batch)
        noise, step = batch["noise"], batch["step"]
        time = step / self.process.timesteps
        state = self.process.add_noise(clean, noise, time)
        if self.conditional:
            vectors = nets["encoder"](batch["picture"])
        else:
            vectors = torch.zeros(len(state), self.outline.unet.condition, device=state.device)
        output = nets["unet"](state, step - 1, vectors, batch["shown"]).float()
        estimate, _ = self.process.split(state, output, time)
        scratch.update(clean=clean, estimate=estimate.detach())
        return output, self.process.target(clean, noise, time), clean, estimate

    @staticmethod
    def _seen(
        nets: Networks, through: str, clean: Tensor, estimate: Tensor, slices: Tensor
    ) -> Tensor:
        """Distance of some decoded slices in a frozen network's features.

        The decoder's activations are computed again on the way back, to save memory.
        """
        limits, codec, features = nets["range"], nets["codec"], nets[through]
        assert isinstance(limits, LatentRange)
        assert isinstance(codec, Codec)
        places = slices[:, None, :, None, None].expand(-1, *_around(clean))
        chosen = [limits.back(z.gather(2, places)) for z in (estimate, clean)]
        seen = checkpoint(codec.decode, chosen[0], use_reentrant=False)
        with torch.no_grad():
            truth = codec.decode(chosen[1])
        a, b = (v.transpose(1, 2).flatten(0, 1) for v in (seen, truth))
        return feature_distance(features(a), features(b))

    def _classified(self, nets: Networks, estimate: Tensor, label: Tensor) -> Tensor:
        """Whether a frozen classifier finds in the estimate what the CT shows."""
        logits = nets["classifier"](estimate)[:, 0].float()
        known = (label != UNKNOWN).float()
        weight = torch.tensor(self.config.positive_weight, device=logits.device)
        each = binary_cross_entropy_with_logits(
            logits, label.clamp_min(0), pos_weight=weight, reduction="none"
        )
        return (each * known).sum() / known.sum().clamp_min(1)

    # --- what a run shows, and its end ------------------------------------------------------------

    def images(self, nets: Networks, batches: Batches) -> dict[str, Tensor]:
        """Middle slices: decoded from the latent, and from its estimate; the X-ray."""
        batch = {name: tensor[:1] for name, tensor in batches["volumes"].items()}
        *_, clean, estimate = self._estimate(nets, batch, {})
        limits, codec = nets["range"], nets["codec"]
        assert isinstance(limits, LatentRange)
        assert isinstance(codec, Codec)
        both = [codec.decode(limits.back(z)).float().clamp(-1, 1) for z in (clean, estimate)]
        pictures = {"xray": batch["picture"][0, 0]} if self.conditional else {}
        for name, axis in (("axial", 2), ("coronal", 3), ("sagittal", 4)):
            rows = [v.select(axis, v.shape[axis] // 2)[0, 0] for v in both]
            pictures[name] = torch.cat(rows, dim=1) / 2 + 0.5
        return pictures

    def validate(
        self, nets: Networks, cases: Sequence[CohortCase], device: torch.device
    ) -> dict[str, float]:
        """L1 of the objective at three times, of some cases; shown a DRR where the stage is."""
        model = self.model_of(nets).to(device)
        views = validation_views(model.detector_shape, self.config.poses.field_mm)[:1]
        renderer = ViewRenderer(self.config.poses)
        errors: list[float] = []
        for k, case in enumerate(cases[:_JUDGED_CASES]):
            volume, _ = on_grid(case, model.volume_shape, model.spacing_mm)
            ct = self.window.encode(torch.from_numpy(np.array(volume.hu))[None, None].to(device))
            drawn = [view.resolved(volume.grid) for view in views]
            batch = rendered_batch(renderer.render(volume, drawn), 1).to(device)
            condition = model.condition(batch)
            clean = model.encode(ct, condition)
            generator = torch.Generator().manual_seed(k)
            for t in _JUDGED_TIMES:
                noise = torch.randn(clean.shape, generator=generator).to(device)
                time = torch.full((1,), t, device=device)
                state = self.process.add_noise(clean, noise, time)
                output = model.predict(state, time, condition, float(self.conditional))
                target = self.process.target(clean, noise, time)
                errors.append(float((output - target).abs().mean()))
        return {"l1": float(np.mean(errors))}

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
        """The tables of `cxr3d_training.evaluation.reconstruct` on held-out patients."""
        from cxr3d_training.evaluation.reconstruct import evaluate_reconstruction
        from cxr3d_training.evaluation.reconstruct_tables import Plan

        cohort = self.cohort()
        report: Report = evaluate_reconstruction(
            self.model_of(nets).to(device),
            cases,
            train_cases=cohort.split("train"),
            validation_cases=cohort.split("validation"),
            device=device,
            plan=Plan(
                label="X-ray2CTPA", steps=_EVALUATED_STEPS, field_mm=self.config.poses.field_mm
            ),
            progress=progress,
            cancel=cancel,
        )
        return report

    def bundle(self, nets: Networks) -> BundleParts:
        """The whole model with averaged weights; adapters become part of their layers."""
        model = self.model_of(nets)
        merge_adapters(model.unet)
        card = {
            "kind": "reconstructor",
            "preprocessing": {
                **model.window.to_dict(),
                "spacing_mm": list(model.spacing_mm),
                "volume_shape": list(model.volume_shape),
                "detector_shape": list(model.detector_shape),
                "field_mm": self.config.poses.field_mm,
                "picture": "line integrals, percentiles 1 and 99 of the picture to 0 and 1",
            },
            "sampler": {"steps": model.default_steps, "method": "ddpm"},
            "stage": self.config.stage,
            "intended_use": "research: the published X-ray2CTPA method, to be compared with",
            "limits": "not a medical device, and what it makes is no CT: SYNTHETIC; it is told of "
            "one frontal X-ray by a vector alone, so that nothing in its volume need agree with "
            "the X-ray",
        }
        return BundleParts(self.config.model, model.state_dict(), card)


def _around(latent: Tensor) -> tuple[int, int, int, int]:
    """What a choice of slices is expanded to: channels, the choice itself, rows, columns."""
    return (latent.shape[1], -1, latent.shape[3], latent.shape[4])
