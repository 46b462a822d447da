"""``cxr3d info`` tells what a file is, warns instead of failing, and names no patient."""

from __future__ import annotations

import json

import pytest

# Scripts rely on these.
CT_KEYS = {
    "kind",
    "file_kind",
    "shape",
    "spacing_mm",
    "axes",
    "hu_range",
    "orientation",
    "warnings",
    "consent_needed",
    "series",
}


def test_json_describes_a_ct(run, ct_file):
    result = run("info", ct_file, "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert set(record) >= CT_KEYS
    assert record["kind"] == "ct"
    assert record["shape"] == [20, 24, 28]
    assert record["spacing_mm"] == [10.0, 10.0, 10.0]
    assert record["axes"] == "IPL"
    assert record["hu_range"] == [-1000.0, 1000.0]
    assert record["consent_needed"] == record["series"] == []


def test_text_shows_the_same_facts(run, ct_file):
    text = run("info", ct_file).stdout
    for fact in ("CT (MetaImage)", "20 x 24 x 28", "10 x 10 x 10 mm", "-1000 to 1000", "IPL"):
        assert fact in text


def test_a_radiograph_has_the_same_keys(run, tmp_path):
    import imageio.v3 as imageio
    import numpy as np

    imageio.imwrite(tmp_path / "x.png", np.arange(4096, dtype=np.uint8).reshape(64, 64))
    record = json.loads(run("info", tmp_path / "x.png", "--json").stdout)
    assert record["kind"] == "cxr"
    assert record["hu_range"] is None
    assert set(record) >= CT_KEYS


def test_missing_slices_are_a_warning_that_names_the_consent(run, dicom_series):
    folder = dicom_series([0, 5, 10, 20, 25])
    result = run("info", folder, "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 0
    assert record["shape"] == [6, 8, 8]
    assert record["consent_needed"] == ["--allow-gaps"]
    assert any("needs --allow-gaps" in warning for warning in record["warnings"])
    assert "needs --allow-gaps" in run("info", folder).stdout


def test_given_consent_is_not_asked_for_again(run, dicom_series):
    folder = dicom_series([0, 5, 10, 20, 25])
    record = json.loads(run("info", folder, "--allow-gaps", "--json").stdout)
    assert record["consent_needed"] == []


def test_a_folder_of_several_series_lists_them_and_reads_the_chosen_one(run, dicom_series):
    folder = dicom_series([0, 5, 10, 15], "Thin")
    dicom_series([0, 5, 10], "Thick")
    record = json.loads(run("info", folder, "--json").stdout)
    assert [(s["number"], s["description"]) for s in record["series"]] == [
        (0, "Thin"),
        (1, "Thick"),
    ]
    assert record["shape"][0] == 4
    by_number = json.loads(run("info", folder, "--series", "1", "--json").stdout)
    by_uid = json.loads(
        run("info", folder, "--series", record["series"][1]["uid"], "--json").stdout
    )
    assert by_number["shape"] == by_uid["shape"] == [3, 8, 8]
    assert "Thick" in run("info", folder).stdout


def test_no_patient_name_is_shown(run, dicom_series):
    folder = dicom_series([0, 5, 10])
    assert "Secret" not in run("info", folder).output + run("info", folder, "--json").output


@pytest.mark.parametrize("name", ["nothing-there", "empty-folder", "text.dcm"])
def test_what_is_no_image_is_one_sentence_with_status_1(run, tmp_path, name):
    (tmp_path / "empty-folder").mkdir()
    (tmp_path / "text.dcm").write_text("not an image")
    result = run("info", tmp_path / name)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
