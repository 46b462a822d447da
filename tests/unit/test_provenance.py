"""Provenance is complete, plain, and free of the patient."""

from __future__ import annotations

import json

import numpy as np

from napari_cxr3d.imaging import SourceInfo, Volume
from napari_cxr3d.provenance import Provenance, library_versions


def test_a_record_is_json_and_says_synthetic():
    record = json.loads(json.dumps(Provenance("drr", {"yaw": 30.0}, ("ab",)).to_dict()))
    assert record["synthetic"] is True
    assert record["parameters"] == {"yaw": 30.0}
    assert record["inputs"] == ["ab"]
    assert record["versions"]["numpy"] == np.__version__


def test_versions_name_this_package():
    assert "napari-cxr3d" in library_versions()


def test_a_source_s_metadata_leaves_its_path_out(tmp_path):
    source = SourceInfo("DICOM", "Chest", path=tmp_path / "DOE^JANE")
    volume = Volume(np.zeros((2, 2, 2), np.int16), (1, 1, 1), source=source)
    assert "DOE" not in json.dumps(source.to_metadata())
    assert "DOE" not in repr(volume.source)
