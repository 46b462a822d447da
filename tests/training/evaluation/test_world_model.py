"""World models are measured as what they are: one that knows all, one that copies, a tiny one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from cxr3d_training.cli.app import app
from cxr3d_training.data import CohortCase, open_cohort
from cxr3d_training.data.grids import on_grid
from cxr3d_training.evaluation.ablation import ablation_table
from cxr3d_training.evaluation.world_model import WorldModelPlan, evaluate_world_model
from cxr3d_training.evaluation.world_model_domains import _gap
from cxr3d_training.evaluation.world_model_landmarks import (
    Landmarks,
    Lens,
    RawLens,
    common_landmarks,
    landmark_rows,
    picture_of,
    tracking_rows,
)
from cxr3d_training.evaluation.world_model_predictions import bins, retrieval_rows
from cxr3d_training.evaluation.world_model_report import WorldModelReport
from cxr3d_training.evaluation.world_model_scenes import OrbitScene, OrbitStage, points_of_lungs
from napari_cxr3d.errors import Cancelled, InvalidInputError, UnreadableFileError
from napari_cxr3d.inference.similarity import PatchFeatures, features_from_tokens
from napari_cxr3d.metrics import Report
from napari_cxr3d.models.bundle import write_bundle
from napari_cxr3d.models.network import build_network
from napari_cxr3d.models.orbit_model import OrbitModel, standardised
from napari_cxr3d.models.world_model import XWin
from napari_cxr3d.progress import CancelToken

SPACING = 12.0
GEOMETRY = {
    "field_mm": 440.0, "source_to_isocenter_mm": 1600.0, "source_to_detector_mm": 1800.0,
    "yaw_step": 30.0,
}  # fmt: skip
CPU = torch.device("cpu")
TABLES = ("retrieval", "views", "landmarks", "tracking", "volumes")
PLAN = WorldModelPlan(
    tables=TABLES, queries=1, tracked=4, track_cases=1, volume_cases=1, self_match_cases=1,
    held_out=("carina", "T6"),
)  # fmt: skip


class Pixels(OrbitModel):
    """Its tokens are a patch's pixels and its place; what it predicts are those it was given."""

    def __init__(self) -> None:
        super().__init__(
            detector_shape=(32, 32), grid=(8, 8), dim=80, yaw_range=(-90, 90), **GEOMETRY
        )
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.ramp = torch.linspace(1, 5, 64)[:, None]  # or the mean token would be that of nothing
        self.read = 0

    def encode(self, pictures: Tensor) -> Tensor:
        self.read += len(pictures)
        patches = standardised(pictures).reshape(-1, 8, 4, 8, 4).transpose(2, 3)
        pixels = patches.reshape(len(pictures), 64, 16) * self.ramp
        place = 0.5 * torch.eye(64).expand(len(pictures), -1, -1)
        return torch.cat([pixels, place], dim=-1) * self.scale

    def predict(self, tokens: Tensor, turns: Tensor) -> Tensor:
        return tokens[:, None].expand(-1, turns.shape[1], -1, -1)

    def render(self, tokens: Tensor) -> Tensor:
        pixels = tokens[..., :16] / self.ramp
        return pixels.reshape(-1, 8, 8, 4, 4).transpose(2, 3).reshape(-1, 32, 32)


class Knowing(Pixels):
    """Knows what every patient of the stage shows from elsewhere."""

    def __init__(self, scenes: list[OrbitScene]) -> None:
        super().__init__()
        self.views = [torch.from_numpy(scene.integrals) for scene in scenes]
        own = [
            torch.from_numpy(np.stack([scene.shown(c) for c in ("DRR", "realistic X-ray")]))
            for scene in scenes
        ]
        self.own = [super(Knowing, self).encode(pictures) for pictures in own]

    def predict(self, tokens: Tensor, turns: Tensor) -> Tensor:
        (who,) = (
            k for k, own in enumerate(self.own)
            if min(float((tokens - one).abs().max()) for one in own) < 1e-3
        )  # fmt: skip
        self.asked = who
        wanted = [self.yaws.index(float(yaw)) for yaw in turns[0, :, 0]]
        return self.encode(self.views[who][wanted])[None]

    def render(self, tokens: Tensor) -> Tensor:
        flat = self.encode(torch.cat(self.views))
        nearest = torch.cdist(tokens.flatten(1), flat.flatten(1)).argmin(1)
        return torch.cat(self.views)[nearest]


@pytest.fixture(scope="module")
def cases() -> list[CohortCase]:
    """Three phantoms with their landmarks."""
    cohort = open_cohort("phantom:3", spacing_mm=(SPACING,) * 3, size_mm=(384.0,) * 3)
    return list(cohort.cases)


@pytest.fixture(scope="module")
def scenes(cases: list[CohortCase]) -> list[OrbitScene]:
    stage = OrbitStage.of(Pixels(), volume_shape=(32,) * 3, spacing_mm=(SPACING,) * 3)
    return [stage.scene(case) for case in cases]


@pytest.fixture(scope="module")
def copied(cases: list[CohortCase]) -> WorldModelReport:
    """The report of a model that predicts what it was given."""
    return evaluate_world_model(Pixels(), cases, device=CPU, plan=PLAN)


def mean(report: Report, method: str, metric: str) -> float:
    return report.intervals[method][metric].mean


def verdicts(report: WorldModelReport) -> dict[str, str]:
    return {target.claim: target.verdict for target in report.targets}


def test_a_model_that_knows_all_makes_no_error(
    cases: list[CohortCase], scenes: list[OrbitScene]
) -> None:
    plan = replace(PLAN, tables=("retrieval", "views", "volumes"))
    report = evaluate_world_model(Knowing(scenes), cases, device=CPU, plan=plan)
    for context in ("DRR", "realistic X-ray"):
        method = f"ours, predicted, of a {context}"
        assert mean(report, method, "latent_error") == pytest.approx(0, abs=1e-5)
        found = report.parts["retrieval"]
        assert mean(found, method, "angle_r1") == 1
        assert mean(found, method, "patient_r1") == 1
        assert mean(report.parts["views"], method, "psnr") > 100
        assert mean(report.parts["views"], method, "ssim") == pytest.approx(1)
        assert verdicts(report)[f"latent error over that of copying, from a {context}"] == "met"
        volumes = report.parts["volumes"]
        ceiling = mean(volumes, "FDK of 7 views, true views (the ceiling)", "psnr3d")
        assert mean(volumes, f"FDK of 7 views, {method}", "psnr3d") == pytest.approx(ceiling)
    # Seven angles and three patients: nothing could be ten times chance.
    assert verdicts(report)["right angle first, over chance, from a DRR"] == "not measured"


def test_a_model_that_copies_is_the_copy(copied: WorldModelReport) -> None:
    for context in ("DRR", "realistic X-ray"):
        ours, copy = (f"ours, {what}, of a {context}" for what in ("predicted", "copied"))
        for metric in copied.conventions:
            assert mean(copied, ours, metric) == pytest.approx(mean(copied, copy, metric))
        assert verdicts(copied)[f"latent error over that of copying, from a {context}"] == "missed"
    found = copied.parts["retrieval"]
    # The DRR itself is among the angles: that one is found, and no other.
    assert mean(found, "ours, predicted, of a DRR", "angle_r1") == pytest.approx(1 / 7)
    assert mean(found, "chance", "angle_r1") == pytest.approx(1 / 7)
    assert mean(found, "chance", "patient_r5") == 1


def test_the_error_is_that_of_tokens_worked_out_by_hand(
    copied: WorldModelReport, scenes: list[OrbitScene]
) -> None:
    scene = scenes[1]
    tokens = Pixels().encode(torch.from_numpy(scene.integrals)).detach().double()
    own = tokens[scene.stage.front]
    errors = []
    for k, yaw in enumerate(scene.stage.yaws):
        if yaw != 0:
            lengths = tokens[k].norm(dim=-1) * own.norm(dim=-1)
            errors.append(float((1 - (tokens[k] * own).sum(-1) / lengths).mean()))
    (row,) = (r for r in copied.rows if r.case == scene.case and r.method.endswith("d, of a DRR")
              and "copied" in r.method)  # fmt: skip
    by_name = {m.name: m.value for m in row.metrics}
    assert by_name["latent_error"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert by_name["latent_error_to_30"] == pytest.approx(np.mean(errors[2:4]), abs=1e-4)


def test_angles_are_told_by_how_far_they_turn() -> None:
    parts = bins((-90, -60, -30, 0, 30, 60, 90))
    assert parts == {"to_30": [2, 4], "to_60": [1, 5], "to_90": [0, 6]}


def test_retrieval_by_hand(scenes: list[OrbitScene]) -> None:
    # Two patients, two angles, in the plane.
    target = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [-1.0, 0.0]]])
    found = np.array([[[0.8, 0.6], [0.6, 0.8]], [[1.0, 0.0], [-1.0, 0.0]]])
    rows = retrieval_rows({"target": target, "m": found}, scenes[:2])
    values = [{m.name: m.value for m in row.metrics} for row in rows["m"]]
    # First: (.8, .6) is nearer to (1, 0) than to (0, 1); (.6, .8) nearer to (0, 1).
    assert [v["angle_r1"] for v in values] == [1.0, 1.0]
    # At the first angle (.8, .6) is nearer to the other patient's (.6, .8); (1, 0) too is not.
    assert [v["patient_r1"] for v in values] == [0.5, 0.5]
    same = {"target": np.ones((2, 3, 2)), "m": np.ones((2, 3, 2))}
    for row in retrieval_rows(same, scenes[:2])["m"]:  # what tells nothing apart finds nothing
        assert {m.name: m.value for m in row.metrics}["angle_r1"] == 0


# --- points ---


def test_landmarks_go_with_the_patient_onto_the_grid(
    cases: list[CohortCase], scenes: list[OrbitScene]
) -> None:
    # In a block that was cut otherwise, a landmark lies on the same voxel of the patient.
    case = cases[0]
    volume, _ = on_grid(case, (20, 40, 28), (SPACING,) * 3)
    whole = scenes[0]
    cut = OrbitStage.of(Pixels(), volume_shape=(20, 40, 28), spacing_mm=(SPACING,) * 3).scene(case)
    assert set(cut.points) == set(case.landmarks) == set(whole.points)
    assert cut.known
    for name in ("carina", "left_hilum", "T6"):
        here = [np.rint(s.volume.grid.lps_to_index(s.points[name])).astype(int)
                for s in (whole, cut)]  # fmt: skip
        lps = np.array(case.landmarks[name])
        there = np.rint(case.grid.lps_to_index(lps)).astype(int)
        for scene, index in zip((whole, cut), here, strict=True):
            assert scene.volume.hu[tuple(index)] == case.hu[tuple(there)]
    assert volume.shape == cut.volume.shape


def test_points_that_are_read_off_the_lungs_are_the_phantoms_own(
    cases: list[CohortCase], scenes: list[OrbitScene]
) -> None:
    errors: dict[str, list[float]] = {}
    for case, scene in zip(cases, scenes, strict=True):
        _, maps = on_grid(case, (32,) * 3, (SPACING,) * 3)
        found = points_of_lungs(maps["lungs"], scene.volume)
        assert set(found) >= {"left_lung_apex", "right_lung_apex", "left_costophrenic_angle",
                              "right_costophrenic_angle", "right_dome"}  # fmt: skip
        for name, point in found.items():
            front = (point - scene.points[name])[[0, 2]]
            errors.setdefault(name, []).append(float(np.linalg.norm(front)))
    for name, found_errors in errors.items():
        assert np.median(found_errors) < 2.5 * SPACING, name
    assert points_of_lungs(np.zeros((4, 4, 4), bool), scenes[0].volume) == {}


# --- landmarks ---


class Places(Lens):
    """A patch is like the patch at its own place, whatever is seen there."""

    def features(self, pictures: Any) -> tuple[PatchFeatures, ...]:
        tokens = np.eye(256, dtype=np.float32).reshape(16, 16, 256)
        return tuple(features_from_tokens(tokens, picture, "places") for picture in pictures)


def test_who_repeats_the_place_is_as_good_as_the_place(scenes: list[OrbitScene]) -> None:
    landmarks = common_landmarks(scenes, ("carina",))
    by_method, by_landmark = landmark_rows({"places": Places()}, scenes, landmarks, 2)
    assert set(by_landmark) == {*landmarks.used, "carina (held out)"}
    for pair in ("DRR to DRR", "DRR to X-ray", "X-ray to DRR"):
        ours, same = ([row.metrics[0].value for row in by_method[f"{who}, {pair}"]]
                      for who in ("places", "same place"))  # fmt: skip
        patch_mm = 440 / 16 * 1600 / 1800
        np.testing.assert_allclose(ours, same, atol=patch_mm / math.sqrt(2))
    # Patients stand otherwise, or repeating the place would be right.
    assert min(same) > 5
    chance = {m.name: m.value for m in by_method["chance"][0].metrics}
    assert chance["error_all"] > 2 * max(same)
    assert 0 < chance["hits_all"] < 0.02


def test_raw_patches_of_patients_who_are_magnified_otherwise_can_be_compared(
    scenes: list[OrbitScene],
) -> None:
    pixels = np.random.default_rng(0).random((128, 128), np.float32)
    sizes = set()
    for zoom in (0.93, 1.0, 1.07):
        view = replace(scenes[0].stage.base, detector_shape=(128, 128), pixel_mm=3.4375 * zoom)
        (features,) = RawLens().features([picture_of(view, pixels, exact=False)])
        sizes.add((features.tokens.shape, features.model))
    assert len(sizes) == 1
    assert sizes.pop()[0] == (128, 128, 17 * 17)


def test_errors_of_tracking_are_those_at_the_true_projections(scenes: list[OrbitScene]) -> None:
    landmarks = Landmarks(("carina",), (), ())
    rows = tracking_rows({"places": Places()}, scenes[:1], landmarks, 2)
    values = {m.name: m.value for m in rows["same place"][0].metrics}
    # At -90 degrees the offset along P is seen where that along L was, to first order.
    x, y, _ = scenes[0].points["carina"]
    assert values["error_-90"] == pytest.approx(abs(y), abs=abs(x) + 0.1 * abs(y) + 3)
    middle = {m.name: m.value for m in rows["middle of the band"][0].metrics}
    band = {m.name: m.value for m in rows["places, epipolar band"][0].metrics}
    assert middle["error_-90"] < 100
    assert band["error_-90"] < 250  # in the band, which is the patient's depth long


def test_a_gap_of_domains_by_hand() -> None:
    real = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)
    far = np.array([[0.0, 1.0]], np.float32)
    # 1 - cos to (0, 1): 1 and 0.4; 1 - cos to the other real one: 0.2 both.
    np.testing.assert_allclose(_gap(real, far), [5.0, 2.0], rtol=1e-5)


# --- the report ---


def test_the_page_says_targets_notes_and_conventions(copied: WorldModelReport) -> None:
    page = copied.to_markdown()
    assert page.index("## Targets") < page.index("## Notes") < page.index("## All cases")
    assert "a clicked patch finds itself | 100 % |" in page
    for part in ("Rendered views", "Each landmark", "Volumes from predicted views"):
        assert part in page
    assert "no other centring or scaling" in page
    assert "carina, T6" in page  # which landmarks the training did not see
    record = copied.to_dict()
    assert set(record["parts"]) == {*TABLES, "landmark_each", "self_match"}
    json.dumps(record)
    assert not any(math.isnan(m.value) for part in copied.parts.values()
                   for row in part.rows for m in row.metrics)  # fmt: skip


def test_what_was_measured_is_not_measured_again(cases: list[CohortCase], tmp_path: Path) -> None:
    plan = replace(PLAN, tables=("retrieval",), keep=tmp_path)
    model = Pixels()
    first = evaluate_world_model(model, cases, device=CPU, plan=plan)
    read = model.read
    again = evaluate_world_model(model, cases, device=CPU, plan=plan)
    assert model.read == read
    assert again.to_dict() == first.to_dict()
    with torch.no_grad():
        model.scale *= 2.0  # other weights, though the same cosines
    evaluate_world_model(model, cases, device=CPU, plan=plan)
    assert model.read == 2 * read
    (tmp_path / "predictions.json").write_text("{")
    evaluate_world_model(model, cases, device=CPU, plan=plan)
    assert model.read == 3 * read


def test_it_can_be_stopped_and_refuses_what_does_not_fit(cases: list[CohortCase]) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        evaluate_world_model(Pixels(), cases, device=CPU, plan=PLAN, cancel=token)
    with pytest.raises(InvalidInputError, match="no case"):
        evaluate_world_model(Pixels(), [], device=CPU)
    with pytest.raises(InvalidInputError, match="other pictures"):
        evaluate_world_model(Pixels(), cases, device=CPU, peers={"other": tiny(yaw_step=45.0)})
    with pytest.raises(InvalidInputError, match="table called colours"):
        WorldModelPlan(tables=("colours",))


def test_one_patient_alone_can_be_measured_beside_a_peer(cases: list[CohortCase]) -> None:
    plan = replace(PLAN, tables=("retrieval", "landmarks", "domains"))
    report = evaluate_world_model(
        Pixels(), cases[:1], device=CPU, plan=plan, peers={"random": tiny()}
    )
    assert report.parts == {}
    assert "random, predicted, of a DRR" in report.methods
    assert "ours, mean view" not in report.methods
    assert any("one patient" in note for note in report.notes)


def tiny(**changes: Any) -> XWin:
    return XWin(**{**NETWORK, **changes})


NETWORK: dict[str, Any] = {
    "image_size": (32, 32), **GEOMETRY,
    "encoder": {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2},
    "predictor": {"dim": 32, "depth": 1, "heads": 2},
    "renderer": {"channels": (16, 16, 16, 16)},
}  # fmt: skip


# --- the command ---


def test_a_bundle_is_measured_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR3D_CACHE", str(tmp_path / "cache"))
    network = {"_target_": "napari_cxr3d.models.world_model.XWin", **NETWORK}
    card = {
        "name": "untrained", "kind": "world-model", "version": "1.0.0", "licence": "BSD-3-Clause",
        "intended_use": "Tests.", "limits": "It has learned nothing.", "synthetic_training": True,
        "preprocessing": {}, "metrics": {}, "landmarks_held_out": ["carina"],
        "training": {"command": "", "seed": 0, "data": None, "checkpoint_sha256": "abc"},
    }  # fmt: skip
    state = build_network(network).state_dict()
    bundle = write_bundle(tmp_path / "untrained", network=network, state=state, card=card)
    out = tmp_path / "report"
    arguments = [
        "evaluate", "xwin", "--bundle", str(bundle), "--data", "phantom:5", "--split", "train",
        "--cases", "2", "--few", "1", "--tables", "retrieval,landmarks", "--out", str(out),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert result.stdout.startswith("# World model on held-out patients")
    assert "did not use: carina" in result.stdout
    record = json.loads((out / "report.json").read_text())
    assert record["context"]["model"] == "ours, predicted, of a DRR"
    assert record["context"]["bundle"].startswith("untrained 1.0.0, sha256 ")
    assert set(record["parts"]) == {"retrieval", "landmarks", "landmark_each", "self_match"}
    assert (out / "tables.md").read_text().strip() in (out / "report.md").read_text()

    def refused(*changed: str) -> str:
        again = CliRunner().invoke(app, [*arguments, "--overwrite", *changed])
        assert again.exit_code == 2
        return again.stderr

    assert "--batch" in refused("--batch", "2")
    assert "colours" in refused("--tables", "colours")
    seen = CliRunner().invoke(app, [*arguments, "--overwrite", "--split", "all"])
    assert seen.exit_code == 1
    assert "has seen" in seen.stderr


def test_a_sweep_is_told_as_an_ablation(tmp_path: Path) -> None:
    def row(name: str, weight: float, error: float | None) -> dict[str, Any]:
        done = {"state": "done", "step": 300, "seconds": 9.0, "error": None, "latent_ratio": error,
                "retrieval": 0.5}  # fmt: skip
        return {"run": name, "losses.nce": weight, **(done if error else {"state": "waiting",
                                                                           "step": 0})}  # fmt: skip

    table = {"monitor": "latent_ratio", "higher_is_better": False,
             "rows": [row("a", 1.0, 0.4), row("b", 0.0, 0.6), row("c", 2.0, None)]}  # fmt: skip
    (tmp_path / "sweep.json").write_text(json.dumps(table))
    report = tmp_path / "b" / "evaluation" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({
        "context": {"model": "m"},
        "summary": {"m": {"latent_error": {"mean": 0.25, "interval": [0.2, 0.3]}}},
    }))  # fmt: skip
    found = CliRunner().invoke(app, ["evaluate", str(tmp_path)])
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("| run | step | latent_ratio | retrieval | latent_ratio against")
    assert lines[2] == "| as it is | 300 | 0.4 | 0.5 | - |  |"
    assert lines[3] == "| losses.nce = 0.0 | 300 | 0.6 | 0.5 | +0.2 (worse) | 0.25 [0.2, 0.3] |"
    assert "1 of 3 runs have none yet" in found.stdout
    table["rows"] = [row("c", 2.0, None)]
    (tmp_path / "sweep.json").write_text(json.dumps(table))
    with pytest.raises(InvalidInputError, match="figures yet"):
        ablation_table(tmp_path)
    with pytest.raises(UnreadableFileError):
        ablation_table(tmp_path / "nothing")
