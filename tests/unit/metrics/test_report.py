"""A report compares like with like, and says the same to people and programs."""

from __future__ import annotations

import json
import math

import pytest

from napari_cxr3d.errors import ExportError, InvalidInputError
from napari_cxr3d.metrics import Metric, Report, Row
from napari_cxr3d.models.card import check_card


def psnr(value: float, convention: str = "3D, data range 2000 HU") -> Metric:
    return Metric("psnr3d", value, convention, "dB")


def mae(value: float) -> Metric:
    return Metric("mae_hu", value, "HU clipped to -1000 to 1000", "HU", higher_is_better=False)


@pytest.fixture
def report() -> Report:
    rows = [
        Row(f"case-{k}", f"patient-{k // 2}", method, (psnr(30 + k + gain), mae(20 - k)))
        for k in range(8)
        for method, gain in (("codec", 2.0), ("wavelet", 0.0))
    ]
    return Report("Codec round trip", rows, {"seed": 7}, resamples=300)


def test_the_summary_is_over_patients(report) -> None:
    assert report.methods == ("codec", "wavelet")
    interval = report.intervals["codec"]["psnr3d"]
    assert interval.patients == 4
    assert interval.mean == pytest.approx(35.5)
    assert interval.low < 35.5 < interval.high


def test_methods_are_compared_case_by_case(report) -> None:
    difference = report.difference("codec", "wavelet", "psnr3d")
    assert (difference.low, difference.mean, difference.high) == pytest.approx((2, 2, 2))
    shuffled = Report(report.title, report.rows[::-1], resamples=300)
    assert shuffled.difference("codec", "wavelet", "psnr3d").mean == pytest.approx(2)
    with pytest.raises(InvalidInputError, match="no method"):
        report.difference("codec", "gan", "psnr3d")
    with pytest.raises(InvalidInputError, match="no metric"):
        report.difference("codec", "wavelet", "lpips")


def test_people_and_programs_read_the_same(report, tmp_path) -> None:
    as_json, as_markdown = report.write(tmp_path)
    record = json.loads(as_json.read_text())
    assert record["summary"]["codec"]["psnr3d"]["mean"] == pytest.approx(35.5)
    assert record["metrics"]["psnr3d"]["convention"] == "3D, data range 2000 HU"
    assert record["metrics"]["mae_hu"]["higher_is_better"] is False
    assert len(record["rows"]) == 16
    assert record["rows"][0] == {
        "case": "case-0",
        "patient": "patient-0",
        "method": "codec",
        "psnr3d": 32.0,
        "mae_hu": 20.0,
    }
    low, high = record["summary"]["codec"]["psnr3d"]["interval"]
    page = as_markdown.read_text()
    assert f"| codec | 35.5 [{low:.4g}, {high:.4g}] |" in page
    assert "8 cases of 4 patients" in page
    assert "`psnr3d`: 3D, data range 2000 HU." in page
    assert "| case-7 | patient-3 | wavelet | 37 | 13 |" in page


def test_a_report_is_not_written_over_and_never_by_half(report, tmp_path) -> None:
    report.write(tmp_path)
    with pytest.raises(ExportError, match="exists"):
        report.write(tmp_path)
    report.write(tmp_path, overwrite=True)
    (tmp_path / "report.md").unlink()
    with pytest.raises(ExportError, match="exists"):
        report.write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_infinite_numbers_are_valid_json(tmp_path) -> None:
    rows = [Row(f"c{k}", f"p{k}", "identity", (psnr(math.inf),)) for k in range(3)]
    as_json, _ = Report("Identity", rows).write(tmp_path)
    record = json.loads(as_json.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["summary"]["identity"]["psnr3d"] == {
        "mean": "inf",
        "interval": None,
        "patients": 3,
        "interval_convention": "no interval: an infinite value (3 patients)",
    }
    assert record["rows"][0]["psnr3d"] == "inf"


def test_a_bundles_card_takes_the_numbers(report) -> None:
    metrics = report.to_card("codec")
    assert metrics["psnr3d"]["value"] == pytest.approx(35.5)
    assert metrics["psnr3d"]["unit"] == "dB"
    assert metrics["psnr3d"]["patients"] == 4
    check_card(
        {
            "name": "codec-demo",
            "version": "1.0",
            "kind": "codec",
            "licence": "BSD-3-Clause",
            "intended_use": "Research.",
            "limits": "No diagnosis.",
            "synthetic_training": True,
            "preprocessing": {},
            "training": {"command": "x", "seed": 1, "data": []},
            "metrics": metrics,
        }
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "nothing to report"),
        ([Row("a", "a", "m", (psnr(1),))] * 2, "twice"),
        (
            [Row("a", "a", "m", (psnr(1),)), Row("b", "b", "n", (psnr(1),))],
            "same cases",
        ),
        (
            [Row("a", "a", "m", (psnr(1),)), Row("b", "b", "m", (mae(1),))],
            "same metrics",
        ),
        (
            [Row("a", "a", "m", (psnr(1),)), Row("b", "b", "m", (psnr(1, "slice mean"),))],
            "measured in two ways",
        ),
    ],
)
def test_unlike_numbers_are_not_put_into_one_table(rows, told) -> None:
    with pytest.raises(InvalidInputError, match=told):
        Report("Mixed", rows)
