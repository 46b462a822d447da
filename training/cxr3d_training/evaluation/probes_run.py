"""The work of a probe: features, tables, and the bundle they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxr3d_training.data import Cohort
from cxr3d_training.data.cohort import CaseList
from cxr3d_training.data.split import SIDES
from cxr3d_training.engine.records import cohort_sha256
from cxr3d_training.evaluation.preflight import device_in_words, require_place, told
from cxr3d_training.evaluation.probes import (
    Features,
    Probe,
    few_shot_probe,
    frozen_features,
    linear_probe,
    over_seeds,
    pixel_features,
)
from cxr3d_training.evaluation.probes_data import FIVE, probe_set, usable_labels
from cxr3d_training.evaluation.probes_orbit import (
    at_high_risk,
    fit_hazard,
    fit_head,
    orbit_yaws,
    read_orbit,
    survival,
)
from cxr3d_training.evaluation.probes_report import (
    ProbePlan,
    ProbeReport,
    ProbeTable,
    lines,
    shown,
    told_p,
)
from cxr3d_training.evaluation.probes_supervised import (
    FitPlan,
    few_shot_fine_tuned,
    fit_classifier,
    scores_of,
)
from cxr3d_training.evaluation.world_model_bundles import open_world_model, world_cohort
from napari_cxr3d.device import resolve_device
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics.statistics import (
    concordance,
    delong_auroc,
    delong_test,
    macro_auroc,
    macro_difference,
)
from napari_cxr3d.models.network import build_network
from napari_cxr3d.models.orbit_model import OrbitModel
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["MODEL", "PIXELS", "RANDOM", "SUPERVISED", "probe_bundle", "probe_report"]

MODEL, RANDOM, PIXELS = "world model", "same, random weights", "pixels, PCA"
SUPERVISED = "same, trained on the labels"
_MACRO = "mean of all labels"


def probe_bundle(
    bundle: str | Path,
    *,
    data: str,
    out: str | Path,
    peers: Mapping[str, str | Path] | None = None,
    plan: ProbePlan | None = None,
    device: str = "auto",
    command: str = "",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[ProbeReport, tuple[Path, Path]]:
    """Probe a bundle beside the same network with random weights, other bundles, and pixels.

    Parameters
    ----------
    bundle : str or path-like
        A world model: a bundle's path, or the name of an installed model.
    data : str
        Labelled cases with all three sides, as `open_cohort` takes them. That no patient of the
        test side was among those that the world model was trained on is the caller's to see to.
    out : path-like
        Folder of the report.
    peers : mapping of str to (str or path-like), optional
        Other world models on the same detector, by the names they get.
    plan : ProbePlan, optional
        What is probed.
    device, command, overwrite, progress, cancel
        As `evaluate_world_bundles`.

    Raises
    ------
    InvalidInputError
        If a bundle is no world model, a side has no case, or no label can be used.
    ExportError
        If the report cannot be written.
    """
    plan = plan or ProbePlan()
    target = Path(out)
    require_place(target, overwrite=overwrite)
    chosen = torch.device(resolve_device(device))
    opened, model = open_world_model(bundle)
    others = {name: open_world_model(where) for name, where in (peers or {}).items()}
    torch.manual_seed(plan.seed)
    fresh = build_network(opened.description)
    assert isinstance(fresh, OrbitModel)  # the bundle's was
    cohort = world_cohort(data)
    report = probe_report(
        model,
        fresh,
        cohort,
        plan,
        peers={name: peer for name, (_, peer) in others.items()},
        context={
            "bundle": told(opened),
            **{f"peer {name}": told(peer) for name, (peer, _) in others.items()},
            "command": command,
            "data": cohort.name,
            "data_sha256": cohort_sha256(cohort),
            "device": device_in_words(chosen),
        },
        device=chosen,
        progress=progress,
        cancel=cancel,
    )
    target.mkdir(parents=True, exist_ok=True)
    return report, report.write(target, overwrite=overwrite)


def probe_report(
    model: OrbitModel,
    fresh: OrbitModel,
    cohort: Cohort,
    plan: ProbePlan,
    *,
    peers: Mapping[str, OrbitModel] | None = None,
    context: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> ProbeReport:
    """Probe a network.

    Parameters
    ----------
    model : OrbitModel
        What is probed.
    fresh : OrbitModel
        The same network with random weights: a peer, and where the supervised one begins.
    cohort : Cohort
        Labelled cases.
    plan : ProbePlan
        What is probed.
    peers : mapping, optional
        Other networks.
    context : mapping, optional
        For the record.
    device, progress, cancel
        As `probe_bundle`.
    """
    networks = {MODEL: model, **(peers or {}), RANDOM: fresh}
    for name, network in networks.items():
        if network.base_view != model.base_view:
            raise InvalidInputError(
                f"{name} sees other pictures than the model", remedy="probe it by itself"
            )
    empty = [side for side in SIDES if not len(cohort.split(side))]
    if empty:
        raise InvalidInputError(
            f"There is no case to probe on the side {', '.join(empty)}",
            remedy="name data with more patients",
        )
    work = _Work(networks, cohort, plan, device, progress, cancel)
    tables = [work.by_label()]
    if "few" in plan.tables:
        tables.append(work.few())
    if "orbit" in plan.tables:
        tables.append(work.orbit())
    counts = ", ".join(f"{len(cohort.split(side))} {side}" for side in SIDES)
    hashes = {
        f"frozen weights of {name}": f"sha256 {found.sha256[:16]}, the same before and after"
        for name, found in work.features.items()
        if found.sha256
    }
    told = {**(context or {}), "cases": counts, "plan": asdict(plan), **hashes}
    return ProbeReport(tuple(tables), work.figures, told, tuple(work.notes))


class _Work:
    """Sides, features and tables, and how far the whole has come."""

    def __init__(
        self,
        networks: Mapping[str, OrbitModel],
        cohort: Cohort,
        plan: ProbePlan,
        device: str | torch.device,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self.plan, self.networks, self._device = plan, networks, device
        self._progress, self._cancel = progress, cancel or CancelToken()
        self._done, self._doing = 0, "X-rays"
        self.figures: dict[str, Any] = {}
        self.notes: list[str] = []
        cases: dict[str, CaseList] = {side: cohort.split(side) for side in SIDES}
        labels = usable_labels(cases, plan.least)
        self.train, self.validation, self.test = (
            probe_set(cases[side], networks[MODEL], labels, plan.look, step=self._step)
            for side in ("train", "validation", "test")
        )
        self.features: dict[str, Features] = {}
        for name, network in networks.items():
            self._doing = f"features of {name}"
            self._step()
            self.features[name] = frozen_features(
                network, self.train, self.validation, self.test, device=device
            )
        self.features[PIXELS] = pixel_features(self.train, self.validation, self.test)
        self.supervised = self._supervised() if plan.epochs else None

    def by_label(self) -> ProbeTable:
        """AUROC of every label and their mean."""
        test = self.test
        scores: dict[str, Any] = {}
        chosen = []
        for name, found in self.features.items():
            self._doing = f"probe of {name}"
            self._step()
            probe: Probe = linear_probe(found, self.train, self.validation)
            scores[name] = probe.test
            chosen.append(f"{name} {probe.strength:g}")
        if self.supervised is not None:
            scores[SUPERVISED] = self.supervised[:, : len(test.labels)]
        figures: dict[str, Any] = {name: {} for name in scores}
        rows = []
        for k, label in enumerate(test.labels):
            truth = test.truth[:, k]
            cells = []
            for name, columns in scores.items():
                one = delong_auroc(truth, columns[:, k])
                figures[name][label] = [one.value, one.low, one.high]
                cells.append(shown(one.value, one.low, one.high))
            rows.append([f"{label} ({int(truth.sum())})", *cells])
        means, gains = [], []
        for name, columns in scores.items():
            mean = macro_auroc(test.truth, columns, test.patients)
            figures[name][_MACRO] = [mean.mean, mean.low, mean.high]
            means.append(shown(mean.mean, mean.low, mean.high))
            if name == MODEL:
                gains.append("")
                continue
            gain = macro_difference(test.truth, scores[MODEL], columns, test.patients)
            figures[name]["world model's gain"] = [gain.mean, gain.low, gain.high]
            gains.append(shown(gain.mean, gain.low, gain.high))
        rows = [[f"**{_MACRO}**", *means], ["world model's gain", *gains], *rows]
        self.figures["labels"] = figures
        told = (
            "AUROC on the test side, by linear probe of frozen weights; in brackets 95% DeLong of "
            "a label, 95% percentile bootstrap over patients of the mean and of the gain (2000 "
            "resamples). After a label stand its positives.",
            f"Inverse penalty chosen on the validation side: {', '.join(chosen)}.",
            f"{SUPERVISED!r}: all weights, from random ones, {self.plan.epochs} epochs, no probe.",
        )[: 3 if self.supervised is not None else 2]
        return ProbeTable("Findings", ("label", *scores), lines(rows), told)

    def few(self) -> ProbeTable:
        """Learning from few, by probe and, if the plan says so, by fine-tuning."""
        plan = self.plan
        counts: tuple[int | None, ...] = (*plan.shots, None)
        rows, figures = [], {}
        for name, found in self.features.items():
            self._doing = f"few cases, {name}"
            cells = []
            for count in counts:
                self._step()
                seeds = range(plan.draws if count is not None else 1)
                values = [few_shot_probe(found, self.train, self.test, count, s) for s in seeds]
                cells.append(over_seeds(values))
            figures[f"probe, {name}"] = [[c.mean, c.low, c.high] for c in cells]
            rows.append([f"probe, {name}", *(shown(c.mean, c.low, c.high) for c in cells)])
        five = tuple(label for label in FIVE if label in self.train.labels)
        told = [
            f"Mean AUROC over {len(self.test.labels)} labels, a probe for each that sees so many "
            f"cases with and without it; in brackets 95% Student over {plan.draws} draws, which "
            "tells the luck of the draw and not that of the test patients.",
            "The inverse penalty is one over the number of features, nothing is chosen.",
        ]
        if plan.fine_tune and five:
            told.append(f"Fine-tuning: {', '.join(five)} alone.")
            for name in (MODEL, RANDOM):
                cells = [self._tuned(name, five, count) for count in plan.shots]
                label = f"fine-tuning, {name}"
                figures[label] = [[c.mean, c.low, c.high] for c in cells]
                shown_cells = [shown(c.mean, c.low, c.high) for c in cells]
                rows.append([label, *shown_cells, "-"])
        self.figures["few"] = figures
        heads = ("learner", *("all" if c is None else f"{c} + {c}" for c in counts))
        return ProbeTable("Learning from few cases", heads, lines(rows), tuple(told))

    def orbit(self) -> ProbeTable:
        """Risk and the five findings from predicted orbits, beside the supervised network."""
        sides = (self.train, self.validation, self.test)
        five = tuple(label for label in FIVE if label in self.train.labels)
        columns = [self.train.labels.index(label) for label in five]
        high = [at_high_risk(side.risk, self.train.risk) for side in sides]
        truth = [
            np.column_stack([side.truth[:, columns], h])
            for side, h in zip(sides, high, strict=True)
        ]
        follow = [survival(side.risk, self.plan.seed + k) for k, side in enumerate(sides)]
        names = (*five, "risk above the median")
        scores: dict[str, Any] = {}
        times: dict[str, float] = {}
        for name, network in self.networks.items():
            self._doing = f"orbit of {name}"
            yaws = orbit_yaws(network, self.plan.angles)
            a, b, c = read_orbit(network, sides, yaws, device=self._device, step=self._step)
            head = fit_head(a, truth[0], (b, truth[1]), seed=self.plan.seed)
            hazard = fit_hazard(a, follow[0], (b, follow[1]), seed=self.plan.seed)
            with torch.no_grad():
                scores[name] = head(c).double().numpy()
                found = hazard(c).double().numpy()[:, 0]
            times[name] = concordance(follow[2].times, follow[2].events, found)
        base = MODEL
        if self.supervised is not None:
            scores[SUPERVISED] = self.supervised[:, [*columns, len(self.test.labels)]]
            base = SUPERVISED
        figures: dict[str, Any] = {name: {} for name in scores}
        rows = []
        for k, label in enumerate(names):
            known = truth[2][:, k]
            cells = []
            for name, columns_of in scores.items():
                one = delong_auroc(known, columns_of[:, k])
                test = delong_test(known, columns_of[:, k], scores[base][:, k])
                figures[name][label] = {"auroc": [one.value, one.low, one.high], "p": test.p}
                p = "" if name == base else f", p {told_p(test.p)}"
                cells.append(shown(one.value, one.low, one.high) + p)
            rows.append([f"{label} ({int(known.sum())})", *cells])
        rows.append(
            ["time to event, C", *(f"{times[n]:.3f}" if n in times else "-" for n in scores)]
        )
        ceiling = concordance(follow[2].times, follow[2].events, self.test.risk)
        self.figures["orbit"] = {**figures, "C": {**times, "true risk": ceiling}}
        yaws = orbit_yaws(self.networks[MODEL], self.plan.angles)
        told = (
            f"Attention heads on the mean tokens predicted at {len(yaws)} angles from "
            f"{yaws[0]:g} to {yaws[-1]:g} degrees; the world model stays frozen.",
            f"AUROC with 95% DeLong; p by DeLong's paired test against {base!r}.",
            "Events are drawn at a constant hazard that gives each patient his stated ten-year "
            f"risk: {int(follow[0].events.sum())} of {len(self.train)} patients of the training "
            f"side have one, {int(follow[2].events.sum())} of {len(self.test)} of the test side. "
            f"C is Harrell's; the true risk itself reaches {ceiling:.3f}. The head is Cox's.",
        )
        return ProbeTable("Risk and findings of the orbit", ("outcome", *scores), lines(rows), told)

    def _supervised(self) -> Any:
        """Scores of the network trained on the labels and, where it is known, on the risk."""
        plan, sides = self.plan, (self.train, self.validation, self.test)
        self._doing = "supervised network"
        tables = [side.truth for side in sides]
        if "orbit" in plan.tables:
            tables = [
                np.column_stack([side.truth, at_high_risk(side.risk, self.train.risk)])
                for side in sides
            ]
        net = fit_classifier(
            self.networks[RANDOM], self.train.pictures, tables[0],
            FitPlan(epochs=plan.epochs, seed=plan.seed),
            validation=(self.validation.pictures, tables[1]), device=self._device, step=self._step,
        )  # fmt: skip
        return scores_of(net, self.test.pictures, self._device)

    def _tuned(self, name: str, five: tuple[str, ...], count: int) -> Any:
        self._doing = f"fine-tuning {name}"
        plan = FitPlan(epochs=20, batch=16, rate=1e-4)
        values = []
        for seed in range(self.plan.draws):
            self._step()
            values.append(
                few_shot_fine_tuned(
                    self.networks[name], self.train, self.test, five, count, seed, plan,
                    device=self._device,
                )
            )  # fmt: skip
        return over_seeds(values)

    def _step(self) -> None:
        self._cancel.raise_if_cancelled()
        self._done += 1
        if self._progress is not None:
            self._progress(Progress(self._done, 0, self._doing))
