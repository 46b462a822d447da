"""Telling what a path holds, in words and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_cxr3d.errors import ConsentRequiredError, UnreadableFileError, UnsupportedFileError
from napari_cxr3d.io import inspect_path, sniff


def test_a_ct_is_summed_up(tmp_path, series):
    series().write(tmp_path)
    found = inspect_path(tmp_path)
    assert (found.kind, found.file_kind, found.axes) == ("ct", "DICOM", "IPL")
    assert found.shape == (6, 8, 10)
    assert found.spacing_mm == (4.0, 2.0, 3.0)
    assert found.orientation == "LPS→IPL"
    assert found.flipped == "I"
    assert not found.resampled
    assert found.n_series == 1
    record = json.loads(json.dumps(found.to_dict()))
    assert record["hu_range"] == list(found.value_range)
    assert record["spacing_mm"] == [4.0, 2.0, 3.0]
    assert "secret" not in str(record).lower()


def test_a_ct_with_gaps_is_described_unless_consent_is_withheld(tmp_path, series):
    positions = [(0.0, 0.0, 4.0 * k) for k in (0, 1, 2, 4, 5)]
    series(positions=positions).write(tmp_path)
    assert any("missing" in w for w in inspect_path(tmp_path).warnings)
    with pytest.raises(ConsentRequiredError):
        inspect_path(tmp_path, allow_gaps=False)


def test_the_number_of_series_counts_those_that_can_be_read(tmp_path, series):
    series(uid="1.1").write(tmp_path / "a")
    series(uid="1.2").write(tmp_path / "b")

    def other_modality(ds, k):
        ds.Modality = "MR"

    series(uid="1.3", edit=other_modality).write(tmp_path / "c")
    assert inspect_path(tmp_path).n_series == 2


def test_a_radiograph_is_summed_up(tmp_path):
    Image.fromarray(np.tile(np.arange(50, dtype=np.uint8), (40, 1))).save(tmp_path / "a.png")
    record = inspect_path(tmp_path / "a.png").to_dict()
    assert (record["kind"], record["shape"], record["value_range"]) == ("cxr", [40, 50], [0, 49])
    assert record["spacing_mm"] is None
    assert "hu_range" not in record


def test_what_is_neither_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("neither")
    with pytest.raises(UnsupportedFileError, match="neither a CT nor a chest X-ray"):
        inspect_path(tmp_path / "a.txt")
    with pytest.raises(UnreadableFileError):
        inspect_path(tmp_path / "gone")


def test_kinds_are_told_by_content(tmp_path, series, write_dicom):
    ct = series().write(tmp_path / "ct", "IM{}")
    assert sniff(tmp_path / "ct") == sniff(ct[0]) == "ct"

    def radiograph(ds, k):
        ds.Modality = "DX"

    dx = series(edit=radiograph).write(tmp_path / "dx", "IM{}")
    assert sniff(dx[0]) == "cxr"
    assert sniff(tmp_path / "dx") == "unknown"
    Image.new("L", (40, 40)).save(tmp_path / "a.tif")
    assert sniff(tmp_path / "a.tif") == "cxr"
    (tmp_path / "a.bin").write_bytes(bytes(200))
    assert sniff(tmp_path / "a.bin") == "unknown"


def test_a_dicom_file_that_starts_like_a_tiff_is_dicom(tmp_path, series):
    path = series().write(tmp_path)[0]
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])
    assert sniff(path) == "ct"
