"""``cxr3d phantom`` writes a whole patient, or nothing."""

from __future__ import annotations

import json

import numpy as np

from napari_cxr3d.io import read_ct
from napari_cxr3d.phantom import FINDINGS, make_thorax

SMALL = ("--spacing-mm", "6", "--no-picture")


def test_a_patient_is_written_with_everything_that_is_known(run, tmp_path):
    out = tmp_path / "case"
    done = run("phantom", "--seed", 7, "--finding", "pe", "--out", out, *SMALL)
    assert done.exit_code == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    files = {"ct.nii.gz", "labels.nii.gz", "findings.nii.gz", "report.txt", "case.json"}
    assert files <= names
    assert {line.rsplit("/")[-1] for line in done.stdout.split()} == files

    case = make_thorax(7, spacing_mm=6.0, findings="pe")
    volume = read_ct(out / "ct.nii.gz")
    assert volume.synthetic
    assert np.array_equal(volume.hu, case.volume.hu)
    record = json.loads((out / "case.json").read_text())
    assert record["labels"]["pulmonary_embolism"] is True
    assert record["finding_bits"]["pulmonary_embolism"] == 0
    assert record["label_values"]["aorta"] == 32
    assert (out / "report.txt").read_text().strip() == case.report.strip()


def test_label_maps_keep_every_bit(run, tmp_path):
    import SimpleITK as sitk

    out = tmp_path / "case"
    words = ("--finding", "pacemaker", "--format", "nrrd")
    assert run("phantom", "--seed", 3, *words, "--out", out, *SMALL).exit_code == 0
    case = make_thorax(3, spacing_mm=6.0, findings=["pacemaker"])
    for name, array in (("labels", case.labels), ("findings", case.finding_bits)):
        image = sitk.ReadImage(str(out / f"{name}.nrrd"))
        assert np.array_equal(sitk.GetArrayFromImage(image), array)


def test_the_picture_is_a_marked_radiograph(run, tmp_path):
    from PIL import Image

    done = run("phantom", "--out", tmp_path, "--spacing-mm", "8")
    assert done.exit_code == 0, done.stderr
    with Image.open(tmp_path / "pa.png") as picture:
        assert picture.size == (512, 512)
        assert "SYNTHETIC" in str(picture.info)


def test_nothing_is_replaced_unasked(run, tmp_path):
    assert run("phantom", "--out", tmp_path, *SMALL).exit_code == 0
    before = (tmp_path / "ct.nii.gz").read_bytes()
    refused = run("phantom", "--seed", 1, "--out", tmp_path, *SMALL)
    assert refused.exit_code == 1
    assert "exists" in refused.stderr
    assert (tmp_path / "ct.nii.gz").read_bytes() == before
    assert run("phantom", "--seed", 1, "--out", tmp_path, "--overwrite", *SMALL).exit_code == 0
    assert (tmp_path / "ct.nii.gz").read_bytes() != before


def test_wrong_usage_says_what_is_wrong(run, tmp_path):
    for arguments, word in (
        (["--finding", "pnumothorax"], "pneumothorax"),
        (["--size-mm", "3,4"], "I,P,L"),
        (["--device", "abacus"], "cpu"),
    ):
        done = run("phantom", *arguments, "--out", tmp_path / "x", *SMALL)
        assert done.exit_code == 2, done.stderr
        assert word in done.stderr
    assert run("phantom").exit_code == 2
    assert not (tmp_path / "x").exists()


def test_every_finding_is_listed_with_what_its_severity_measures(run):
    text = run("phantom", "--list-findings").stdout
    for kind in FINDINGS:
        assert kind.name in text
        assert kind.measure in text
