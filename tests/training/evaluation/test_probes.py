"""Probes find what is planted, no more, move no weight, and say how sure they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cxr3d_training.data.cohort import Cohort, CohortCase, Region
from cxr3d_training.evaluation import probes_run
from cxr3d_training.evaluation.probes import (
    few_shot_probe,
    frozen_features,
    linear_probe,
    over_seeds,
    pixel_features,
    shots,
)
from cxr3d_training.evaluation.probes_data import ProbeSet, probe_set, usable_labels
from cxr3d_training.evaluation.probes_orbit import (
    at_high_risk,
    fit_hazard,
    fit_head,
    orbit_yaws,
    read_orbit,
    survival,
)
from cxr3d_training.evaluation.probes_report import ProbePlan, ProbeReport
from cxr3d_training.evaluation.probes_run import MODEL, PIXELS, RANDOM, SUPERVISED, probe_report
from cxr3d_training.evaluation.probes_supervised import FitPlan, fit_classifier, scores_of
from napari_cxr3d.errors import Cxr3dError, InvalidInputError
from napari_cxr3d.imaging import Grid, Volume
from napari_cxr3d.metrics.statistics import auroc, concordance
from napari_cxr3d.models.bundle import write_bundle
from napari_cxr3d.models.world_model import XWin

LABELS = ("cardiomegaly", "oedema")
NETWORK: dict[str, Any] = {
    "image_size": [32, 32], "field_mm": 440, "source_to_isocenter_mm": 1600,
    "source_to_detector_mm": 1800, "predictor": {"dim": 32, "depth": 1, "heads": 2},
    "encoder": {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
}  # fmt: skip


def network(seed: int = 0) -> XWin:
    torch.manual_seed(seed)
    return XWin(**NETWORK)


class Block:
    """A chest of water with a heart that is denser in some; a label that is chance alone."""

    names = ("hu", "body", "lungs")

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        big, other = bool(seed % 2), bool(rng.random() < 0.5)
        self.grid = Grid.centered((16, 16, 16), (24.0, 24.0, 24.0))
        hu = np.full((16, 16, 16), -1000, np.int16)
        hu[1:15, 4:12, 2:14] = -300 + rng.integers(-40, 40)
        hu[8:12, 5:9, 8:11] = 900 if big else 0
        self._hu = hu
        labels = {"cardiomegaly": big, "oedema": other, "age": 60}
        risk = 0.6 if big else 0.1
        self.facts = {"labels": labels, "measures": {"cardiovascular_risk": risk + seed * 1e-4}}

    def read(self, name: str, region: Region | None = None) -> npt.NDArray[Any]:
        whole = {"hu": self._hu, "body": self._hu > -900, "lungs": np.zeros((16,) * 3, bool)}[name]
        return whole if region is None else whole[region]

    def volume(self) -> Volume:
        return Volume(hu=self._hu, spacing_mm=self.grid.spacing_mm, origin_lps=self.grid.origin_lps)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    sides: list[Any] = ["train"] * 32 + ["validation"] * 14 + ["test"] * 22
    return Cohort(
        [
            (CohortCase(f"phantom-{k}", f"phantom-{k}", Block(k), synthetic=True), side)
            for k, side in enumerate(sides)
        ],
        name="blocks",
    )


@pytest.fixture(scope="module")
def sides(cohort: Cohort) -> tuple[ProbeSet, ProbeSet, ProbeSet]:
    a, b, c = (
        probe_set(cohort.split(side), network(), LABELS, "drr")
        for side in ("train", "validation", "test")
    )
    return a, b, c


def test_labels_are_those_with_enough_of_both_kinds(cohort: Cohort) -> None:
    cases = {side: cohort.split(side) for side in ("train", "validation", "test")}
    assert usable_labels(cases, 4) == LABELS
    assert usable_labels(cases, 11) == ("cardiomegaly",)
    with pytest.raises(InvalidInputError, match="enough of both kinds"):
        usable_labels(cases, 12)


def test_a_planted_label_is_found_and_chance_is_not(sides: tuple[ProbeSet, ...]) -> None:
    train, validation, test = sides
    found = frozen_features(network(), train, validation, test)
    for features in (found, pixel_features(train, validation, test)):
        scores = linear_probe(features, train, validation).test
        assert auroc(test.truth[:, 0], scores[:, 0]) > 0.9
        assert auroc(test.truth[:, 1], scores[:, 1]) < 0.85
    assert found.train.shape == (32, 32)
    assert len(found.sha256) == 64


def test_weights_that_move_are_not_frozen(sides: tuple[ProbeSet, ...]) -> None:
    class Moving(XWin):
        def encode(self, pictures: Tensor) -> Tensor:
            with torch.no_grad():
                self.encoder.patches.weight.add_(1e-3)
            return super().encode(pictures)

    with pytest.raises(Cxr3dError, match="not frozen"):
        frozen_features(Moving(**NETWORK), *sides)


def test_draws_of_few_are_balanced_nested_and_of_their_seed() -> None:
    truth = np.arange(40) % 4 == 0
    few, more = shots(truth, 4, 1), shots(truth, 8, 1)
    assert truth[few].sum() == 4
    assert len(few) == 8
    assert set(few) < set(more)
    assert not np.array_equal(few, shots(truth, 4, 2))
    assert truth[shots(truth, 30, 0)].sum() == 10  # all that there are


def test_more_cases_teach_more(sides: tuple[ProbeSet, ...]) -> None:
    train, validation, test = sides
    features = frozen_features(network(), train, validation, test)
    one = ProbeSet(
        train.cases, train.patients, train.labels[:1], train.pictures, train.truth[:, :1],
        train.risk,
    )  # fmt: skip
    means = [
        np.mean([few_shot_probe(features, one, test, count, seed) for seed in range(3)])
        for count in (2, None)
    ]
    assert means[1] > 0.9
    assert means[1] >= means[0] - 0.02


def test_the_interval_over_draws_is_students() -> None:
    found = over_seeds([0.6, 0.7, 0.8])
    assert found.mean == pytest.approx(0.7)
    assert found.low is not None
    assert found.mean - found.low == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert over_seeds([0.6]).low is None


def test_a_network_learns_labels_and_the_one_it_began_from_stays(
    sides: tuple[ProbeSet, ...],
) -> None:
    train, validation, test = sides
    begun = network()
    before = {name: tensor.clone() for name, tensor in begun.state_dict().items()}
    plan = FitPlan(epochs=25, batch=8, rate=3e-3, shift=1)
    net = fit_classifier(
        begun, train.pictures, train.truth, plan, validation=(validation.pictures, validation.truth)
    )
    assert auroc(test.truth[:, 0], scores_of(net, test.pictures)[:, 0]) > 0.9
    assert all(torch.equal(before[name], tensor) for name, tensor in begun.state_dict().items())
    moved = net.model.state_dict()
    assert not torch.equal(moved["encoder.patches.weight"], before["encoder.patches.weight"])
    assert torch.equal(moved["predictor.enter.weight"], before["predictor.enter.weight"])


def test_events_come_as_often_as_the_risk_says() -> None:
    risk = np.repeat([0.05, 0.4], 5000)
    drawn = survival(risk, 0)
    assert drawn.events[:5000].mean() == pytest.approx(0.05, abs=0.012)
    assert drawn.events[5000:].mean() == pytest.approx(0.4, abs=0.025)
    assert drawn.times.max() == 10.0
    assert not drawn.events[drawn.times == 10.0].any()
    assert 0.6 < concordance(drawn.times, drawn.events, risk) < 0.9
    assert np.array_equal(survival(risk, 0).times, drawn.times)


def test_heads_read_risk_off_the_orbit(sides: tuple[ProbeSet, ...]) -> None:
    train = sides[0]
    model = network()
    yaws = orbit_yaws(model, 3)
    assert yaws == (-90.0, 0.0, 90.0)
    a, b, c = read_orbit(model, sides, yaws)
    assert a.shape == (32, 3, 32)
    high = [at_high_risk(side.risk, train.risk)[:, None] for side in sides]
    head = fit_head(a, high[0], (b, high[1]))
    with torch.no_grad():
        assert auroc(high[2][:, 0], head(c)[:, 0].numpy()) > 0.9
    known = [survival(side.risk, k) for k, side in enumerate(sides)]
    hazard = fit_hazard(a, known[0], (b, known[1]))
    with torch.no_grad():
        assert auroc(high[2][:, 0], hazard(c)[:, 0].numpy()) > 0.8
    with pytest.raises(InvalidInputError, match="not known"):
        at_high_risk(np.array([np.nan]), train.risk)


@pytest.fixture(scope="module")
def report(cohort: Cohort) -> ProbeReport:
    plan = ProbePlan(look="drr", least=4, shots=(2,), draws=2, epochs=2, angles=2, fine_tune=True)
    return probe_report(network(), network(1), cohort, plan)


def test_the_report_holds_every_table_with_its_peers(report: ProbeReport) -> None:
    figures = report.figures
    assert set(figures["labels"]) == {MODEL, RANDOM, PIXELS, SUPERVISED}
    value, low, high = figures["labels"][MODEL]["cardiomegaly"]
    assert low <= value <= high
    assert set(figures["few"]) >= {f"probe, {MODEL}", f"fine-tuning, {RANDOM}"}
    assert len(figures["few"][f"probe, {PIXELS}"]) == 2
    orbit = figures["orbit"]
    assert orbit[MODEL]["risk above the median"]["auroc"][0] > 0.8
    assert orbit[SUPERVISED]["oedema"]["p"] == 1.0
    assert 0 < orbit["C"]["true risk"] <= 1
    page = report.to_markdown()
    for said in ("| cardiomegaly (11) |", "the same before and after", "| 2 + 2 | all |",
                 "Student over 2 draws", "time to event, C", "DeLong's paired test"):  # fmt: skip
        assert said in page


def test_the_command_writes_the_report_of_a_bundle(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxr3d_training.cli.app import app

    bundle = _bundle(tmp_path / "tiny")
    monkeypatch.setattr(probes_run, "world_cohort", lambda source: cohort)
    run = CliRunner()
    order = ["probe", str(bundle), "--data", "blocks", "--out", str(tmp_path / "out"), "--look",
             "drr", "--least", "4", "--tables", "none", "--epochs", "0", "--device", "cpu",
             "--peer", f"again={bundle}"]  # fmt: skip
    done = run.invoke(app, order)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(record["figures"]) == {"labels"}
    again = record["figures"]["labels"]["again"]
    assert again.pop("world model's gain") == [0.0, 0.0, 0.0]
    assert again == record["figures"]["labels"][MODEL]  # the very same network
    assert "## Findings" in (tmp_path / "out" / "report.md").read_text()
    assert run.invoke(app, order).exit_code != 0  # the report is there
    assert run.invoke(app, [*order, "--peer", "nothing"]).exit_code == 2
    assert run.invoke(app, [*order, "--tables", "nothing"]).exit_code == 2


def test_a_cohort_without_a_side_is_refused(cohort: Cohort) -> None:
    only = Cohort([(case, "train") for case in cohort.split("train")])
    with pytest.raises(InvalidInputError, match="on the side validation, test"):
        probe_report(network(), network(1), only, ProbePlan(least=4))


def _bundle(where: Path) -> Path:
    card = {
        "name": "tiny", "kind": "world-model", "version": "1.0.0", "licence": "BSD-3-Clause",
        "intended_use": "Tests.", "limits": "It has learned nothing.", "synthetic_training": True,
        "preprocessing": {}, "metrics": {},
        "training": {"command": "", "seed": 0, "data": None, "checkpoint_sha256": "abc"},
    }  # fmt: skip
    described = {"_target_": "napari_cxr3d.models.world_model.XWin", **NETWORK}
    write_bundle(where, network=described, state=network().state_dict(), card=card)
    return where
