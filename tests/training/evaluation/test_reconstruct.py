"""Reconstructions are measured on the same patients and noise, once, and said as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr3d_training.data import Cohort
from cxr3d_training.data.grids import on_grid
from cxr3d_training.evaluation.reconstruct import evaluate_reconstruction
from cxr3d_training.evaluation.reconstruct_report import ReconstructionReport
from cxr3d_training.evaluation.reconstruct_tables import Plan
from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.metrics import psnr3d
from napari_cxr3d.progress import CancelToken, Progress

from .conftest import GRID, SPACING, Known  # noqa: TID252  (tests is no package)

Make = Callable[..., torch.nn.Module]
SMALL = Plan(
    steps=(1, 4), samples=3, step_cases=1, sample_cases=2, peer_cases=1, picture_cases=1,
    calibration_cases=2, peer_samplers=(("euler", 5),),
)  # fmt: skip


def evaluate(model, cohort: Cohort, plan: Plan, **settings) -> ReconstructionReport:
    return evaluate_reconstruction(
        model,
        cohort.split("test"),
        train_cases=cohort.split("train"),
        validation_cases=cohort.split("validation"),
        device=torch.device("cpu"),
        plan=plan,
        **settings,
    )


def value(report, method: str, metric: str, case: str = "p5") -> float:
    (row,) = [r for r in report.rows if (r.method, r.case) == (method, case)]
    (found,) = [m.value for m in row.metrics if m.name == metric]
    return found


@pytest.fixture(scope="module")
def whole(cohort: Cohort) -> tuple[ReconstructionReport, torch.nn.Module]:
    """Everything measured once, with a peer of another detector and without a coarse volume."""
    hu = np.asarray(cohort.split("train")[0].hu, np.float32).clip(-1000, 1000) / 1000
    peer = Known(hu, 0.3)
    peer.detector_shape = (20, 20)
    peer.has_coarse = False
    return evaluate(Known(hu), cohort, SMALL, peers={"gan": peer}), peer


def test_every_row_that_was_asked_for_is_in_its_table(whole) -> None:
    report, _ = whole
    assert report.methods[0] == "ours, 2 steps, consistent, 1 view"
    for method in ("ours, 2 steps, 1 view", "ours, coarse only, 2 views", "mean training volume",
                   "CG only, 1 view", "CG only, 2 views", "back-projection, 2 views"):  # fmt: skip
        assert method in report.methods
    assert set(report.parts) == {"steps", "samples", "uncertainty", "peers", "pictures"}
    assert len(report.parts["steps"].methods) == 12
    assert "ours, 1 step, 1 view" in report.parts["steps"].methods
    assert "gan, 5 steps euler, 1 view" in report.parts["peers"].methods
    assert (
        "ours, 2 steps, softly consistent, 2 views, realistic" in report.parts["pictures"].methods
    )
    assert report.parts["uncertainty"].methods == (
        "ours, mean of 3, 2 steps, consistent, 1 view",
        "ours, mean of 3, 2 steps, 1 view",
    )


def test_the_mean_training_volume_is_the_mean_of_training_patients(whole, cohort) -> None:
    report, _ = whole
    trained = [on_grid(c, GRID, SPACING)[0].hu.clip(-1000, 1000) for c in cohort.split("train")]
    truth, maps = on_grid(cohort.split("test")[0], GRID, SPACING)
    wanted = psnr3d(np.mean(trained, axis=0), truth.hu, (-1000.0, 1000.0), mask=maps["body"])
    assert value(report, "mean training volume", "psnr3d") == pytest.approx(wanted.value, abs=1e-3)
    assert "data range 2000 HU, voxels of the mask" in report.conventions["psnr3d"]


def test_views_that_agree_bring_the_projection_nearer(whole) -> None:
    report, _ = whole
    for views in ("1 view", "2 views"):
        plain = value(report, f"ours, 2 steps, {views}", "reprojection_input")
        agreed = value(report, f"ours, 2 steps, consistent, {views}", "reprojection_input")
        assert agreed < plain / 4
    # One view says nothing of the lateral one: of two views both are looked at.
    assert value(report, "CG only, 1 view", "reprojection_input") < 0.05
    assert value(report, "CG only, 1 view", "reprojection_held_out") > 0.05


def test_all_rows_are_drawn_from_the_same_noise(whole) -> None:
    """The known network gives the same volume by any number of steps."""
    steps = whole[0].parts["steps"]
    one, four = (value(steps, f"ours, {n}, 1 view", "psnr3d") for n in ("1 step", "4 steps"))
    assert one == pytest.approx(four, abs=1e-3)
    assert value(steps, "ours, 4 steps, 1 view", "evaluations") == 4
    assert value(steps, "ours, 1 step, 1 view", "evaluations") == 1
    samples = whole[0].parts["samples"]
    assert value(samples, "ours, mean of 3, 2 steps, 1 view", "evaluations") == 6
    assert value(samples, "ours, coarse only, 1 view", "evaluations") == 0


def test_a_batch_changes_no_figure(whole, known, cohort: Cohort) -> None:
    plan = replace(SMALL, tables=("main",), batch=2)
    together = evaluate(known(), cohort, plan)
    for case in ("p5", "p6"):
        for metric in ("psnr3d", "lung_dice", "reprojection_held_out"):
            alone = value(whole[0], "ours, 2 steps, 1 view", metric, case)
            assert value(together, "ours, 2 steps, 1 view", metric, case) == pytest.approx(
                alone, rel=1e-4
            )


def test_the_mean_of_samples_is_nearer_and_their_spread_is_calibrated_on_others(whole) -> None:
    report, _ = whole
    samples, spread = report.parts["samples"], report.parts["uncertainty"]
    several, single = "ours, mean of 3, 2 steps, 1 view", "ours, 2 steps, 1 view"
    assert value(samples, several, "psnr3d") > value(samples, single, "psnr3d")
    # 50 HU as it was made, times the mean of the standard deviation of 3 normal numbers.
    assert value(spread, several, "spread") == pytest.approx(50 * 0.886, rel=0.1)
    assert value(spread, several, "coverage") < 0.9
    assert value(spread, several, "coverage_calibrated") == pytest.approx(0.95, abs=0.05)
    assert report.uncertainty["scale"] > 1.5
    assert report.uncertainty["fitted_on"] == "2 validation cases"
    assert "rank_correlation" not in samples.conventions


def test_a_peer_is_shown_the_frontal_view_on_its_own_detector(whole) -> None:
    _, peer = whole
    (views,) = peer.seen
    assert views.integrals.shape == (1, 1, 20, 20)
    source = views.cameras[0, 0, :3].numpy()
    assert source == pytest.approx([0, 1600, 0], abs=1e-2)  # PA: behind the patient
    assert views.exact.tolist() == [[1.0]]


def test_realistic_pictures_are_shown_as_not_exact(known, cohort: Cohort) -> None:
    model = known()
    report = evaluate(model, cohort, replace(SMALL, tables=("main", "pictures"), steps=(2,)))
    shown = [views for views in model.seen if not views.exact.any()]
    assert {views.integrals.shape[1] for views in shown} == {1, 2}
    pictures = report.parts["pictures"]
    assert "ours, 2 steps, softly consistent, 1 view, realistic, as files" in pictures.methods
    exact = model.seen[0].integrals[0, 0]
    read = next(v for v in shown if v.integrals.shape[1] == 1).integrals[0, 0]
    correlation = np.corrcoef(exact.ravel(), read.ravel())[0, 1]
    assert 0.5 < correlation < 0.9999
    assert pictures.title.endswith("the first 1 cases")


def test_a_stopped_evaluation_goes_on_where_it_was(known, cohort: Cohort, tmp_path: Path) -> None:
    plan = replace(SMALL, tables=("main",), keep=tmp_path / "kept")
    cancel, model = CancelToken(), known()

    def stop(progress: Progress) -> None:
        if progress.done >= 2:
            cancel.cancel()

    with pytest.raises(Cancelled):
        evaluate(model, cohort, plan, progress=stop, cancel=cancel)
    begun = model.asked
    assert begun >= 4
    again = known()
    first = evaluate(again, cohort, plan)
    third = known()
    assert evaluate(third, cohort, plan).to_dict()["rows"] == first.to_dict()["rows"]
    fresh = known()
    evaluate(fresh, cohort, replace(plan, keep=None))
    assert third.asked == 0
    assert again.asked == fresh.asked - begun
    # Other weights are another model.
    other = known()
    with torch.no_grad():
        other.base += 0.01
    evaluate(other, cohort, plan)
    assert other.asked == fresh.asked


def test_the_report_says_the_same_to_people_and_programs(whole, tmp_path: Path) -> None:
    report = replace(whole[0], context={"command": "cxr3d-train evaluate reconstruct"})
    as_json, as_markdown = report.write(tmp_path)
    record = json.loads(as_json.read_text())
    page = as_markdown.read_text()
    assert record["parts"]["steps"]["summary"]["ours, 1 step, 1 view"]["psnr3d"]["patients"] == 1
    assert record["uncertainty"]["scale"] == report.uncertainty["scale"]
    assert (
        len(record["targets"])
        == len(report.targets)
        == page.count("| missed |") + page.count("| met |") + page.count("| not measured |")
    )
    order = ["# X-ray to CT", "## Targets", "## All cases", "## Steps of the sampler",
             "## Calibration", "## Cases", "## Made with"]  # fmt: skip
    places = [page.index(heading) for heading in order]
    assert places == sorted(places)
    assert "neither LPIPS nor FVD" in page
    assert page.count("| p5 | p5 | mean training volume |") == 1
    summary = (tmp_path / "tables.md").read_text()
    assert page.startswith(summary)
    assert "| p5 | p5 |" not in summary


def test_what_cannot_be_evaluated_is_said(known, cohort: Cohort) -> None:
    with pytest.raises(InvalidInputError, match="no table called colours"):
        replace(SMALL, tables=("main", "colours"))
    with pytest.raises(InvalidInputError, match="two samples"):
        replace(SMALL, samples=1)
    with pytest.raises(InvalidInputError, match="mean of training cases"):
        evaluate_reconstruction(
            known(), [], train_cases=cohort.split("train"), device=torch.device("cpu")
        )
    peer = known()
    peer.spacing_mm = (8.0, 8.0, 8.0)
    with pytest.raises(InvalidInputError, match="another grid"):
        evaluate(known(), cohort, SMALL, peers={"gan": peer})
