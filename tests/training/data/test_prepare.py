"""A dataset on disk: what goes in comes out, nothing identifies anybody, nothing is fatal."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr3d_training.data import mix, open_cohort
from cxr3d_training.data.conditioning import Conditioning, condition
from cxr3d_training.data.identity import PUBLIC, Identities
from cxr3d_training.data.manifest import SplitSettings
from cxr3d_training.data.prepare import Summary, prepare
from cxr3d_training.data.sources import Passed
from cxr3d_training.data.verify import verify
from napari_cxr3d.errors import (
    Cancelled,
    ExportError,
    InvalidInputError,
    UnreadableFileError,
)
from napari_cxr3d.io import read_ct, write_volume
from napari_cxr3d.progress import CancelToken, Progress

SETTINGS = Conditioning(spacing_mm=(12.0, 12.0, 12.0))


def run(source: Path | str, out: Path, **options: Any) -> Summary:
    return prepare(source, out, **{"settings": SETTINGS, **options})


def manifest_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return record


@pytest.fixture(scope="module")
def dataset(ct_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    summary = run(ct_folder, out)
    assert (summary.made, summary.broken) == (8, 0)
    return out


def test_what_is_read_back_is_what_conditioning_made(dataset: Path, ct_folder: Path) -> None:
    cohort = open_cohort(dataset)
    assert len(cohort) == 8
    by_source = {case.facts["source"]["content_sha256"]: case for case in cohort.cases}
    for path in ct_folder.rglob("scan*"):
        volume = read_ct(path)
        expected = condition(volume, SETTINGS)
        case = by_source[volume.content_sha256()]
        assert case.grid == expected.grid
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(case.read(name), array)
            assert case.read(name).dtype == array.dtype
        assert case.volume().grid == expected.grid
        assert case.volume() is case.volume()


def test_a_crop_read_from_disk_is_that_part(dataset: Path) -> None:
    case = open_cohort(dataset).cases[0]
    region = (slice(2, 20), slice(3, 9), slice(0, 31))
    part = case.read("hu", region)
    np.testing.assert_array_equal(part, case.hu[region])


def test_an_other_program_can_read_it_as_zarr_v3(dataset: Path) -> None:
    import zarr

    root = zarr.open_group(str(dataset), mode="r")
    assert root.metadata.zarr_format == 3
    names = list(root["cases"].group_keys())
    assert len(names) == 8
    hu = root["cases"][names[0]]["hu"]
    assert hu.metadata.dimension_names == ("I", "P", "L")
    assert hu.dtype == np.int16


def test_both_scans_of_a_patient_are_on_one_side(dataset: Path) -> None:
    cases = manifest_of(dataset)["cases"]
    assert len({case["patient"] for case in cases}) == 7
    twice = [c for c in cases if [d["patient"] for d in cases].count(c["patient"]) == 2]
    assert len(twice) == 2
    assert twice[0]["split"] == twice[1]["split"]


def test_the_same_again_changes_nothing(dataset: Path, ct_folder: Path) -> None:
    before = (dataset / "manifest.json").read_bytes()
    summary = run(ct_folder, dataset)
    assert (summary.made, summary.kept) == (0, 8)
    assert (dataset / "manifest.json").read_bytes() == before


def test_other_settings_are_refused_with_what_differs(dataset: Path, ct_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"spacing_mm was \[12.*and is now \[11"):
        run(ct_folder, dataset, settings=replace(SETTINGS, spacing_mm=(11.0, 11.0, 11.0)))
    with pytest.raises(InvalidInputError, match=r"split.seed was 0 and is now 1"):
        run(ct_folder, dataset, split=SplitSettings(seed=1))
    with pytest.raises(InvalidInputError, match=r"identities was public"):
        run(ct_folder, dataset, identities=Identities(b"another secret here"))


def test_a_folder_of_something_else_is_not_written_into(ct_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ExportError, match="something else"):
        run(ct_folder, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["thesis.tex"]


def test_scans_can_be_added_and_nobody_changes_sides(
    dataset: Path, make_chest, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    shutil.copytree(dataset, out)
    before = {case["id"]: case["split"] for case in manifest_of(out)["cases"]}
    more = tmp_path / "more"
    more.mkdir()
    for k in range(6):
        write_volume(make_chest(40 + k), more / f"new{k}.nrrd")
    summary = run(more, out)
    assert summary.made == 6
    after = {case["id"]: case["split"] for case in manifest_of(out)["cases"]}
    assert len(after) == 14
    assert {name: after[name] for name in before} == before


def test_broken_files_are_told_and_passed_over(
    ct_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "scans"
    shutil.copytree(ct_folder, source)
    whole = (source / "a" / "scan0_s1.nii.gz").read_bytes()
    (source / "a" / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (source / "a" / "noise.nrrd").write_bytes(bytes(range(256)) * 20)
    (source / "readme.txt").write_text("not a scan")
    (source / "odd").mkdir()
    for odd in sorted((data_folder / "dicom_odd").glob("*"))[:12]:
        shutil.copy(odd, source / "odd" / odd.name)
    told: list[Passed] = []
    summary = run(source, tmp_path / "set", tell=told.append)
    assert summary.made == 8
    assert {p.path.name for p in told if p.broken} >= {"cut.nii.gz", "noise.nrrd"}
    assert all(p.reason for p in told)
    skipped = manifest_of(tmp_path / "set")["skipped"]
    assert len(skipped) == len(told)
    assert sum(s["broken"] for s in skipped) == summary.broken >= 2
    again = run(source, tmp_path / "set")
    assert (again.made, again.kept, again.broken) == (0, 8, summary.broken)


def test_the_same_voxels_twice_are_one_case(make_chest, tmp_path: Path) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    write_volume(make_chest(1), source / "anna.nrrd")
    write_volume(make_chest(1), source / "copy-of-anna.nii.gz")
    write_volume(make_chest(2), source / "bert.nrrd")
    summary = run(source, tmp_path / "set")
    assert (summary.made, summary.same) == (2, 1)
    cases = manifest_of(tmp_path / "set")["cases"]
    assert sorted(len(case["sources"]) for case in cases) == [1, 2]


def test_patients_who_share_a_scan_share_a_side(make_chest, tmp_path: Path) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    for k in range(9):  # p0 and p1 have the scan 0 in common, and p1 another one
        write_volume(make_chest(k), source / f"p{k}.nrrd")
    write_volume(make_chest(0), source / "p1_s2.nrrd")
    run(source, tmp_path / "set")
    cases = {case["source_sha256"]: case for case in manifest_of(tmp_path / "set")["cases"]}
    shared = cases[read_ct(source / "p0.nrrd").content_sha256()]
    other = cases[read_ct(source / "p1.nrrd").content_sha256()]
    assert shared["patient"] == other["patient"]
    assert shared["split"] == other["split"]


def test_a_file_that_changed_is_read_again(make_chest, tmp_path: Path) -> None:
    source, out = tmp_path / "scans", tmp_path / "set"
    source.mkdir()
    for k in range(3):
        write_volume(make_chest(k), source / f"p{k}.nrrd")
    run(source, out)
    before = manifest_of(out)
    (source / "p1.nrrd").unlink()
    write_volume(make_chest(7), source / "p1.nrrd")
    summary = run(source, out)
    assert (summary.made, summary.kept, summary.unlisted) == (1, 2, 1)
    after = manifest_of(out)
    assert len(after["cases"]) == 3
    assert {c["sha256"] for c in after["cases"]} != {c["sha256"] for c in before["cases"]}


def test_nothing_in_the_dataset_tells_a_name_or_a_path(tmp_path: Path, make_chest) -> None:
    source = tmp_path / "Mustermann-Erika"
    source.mkdir()
    write_volume(make_chest(3), source / "mustermann_erika_1961.nrrd")
    (source / "mustermann_broken.nrrd").write_bytes(b"NRRD0004\n")
    table = tmp_path / "table.csv"
    table.write_text(
        "path,patient,birth_date,nodule\nmustermann_erika_1961.nrrd,Mustermann,1961-03-02,yes\n"
    )
    run(source, tmp_path / "set", table=table, identities=Identities(b"0123456789abcdef"))
    for path in (tmp_path / "set").rglob("*"):
        assert "mustermann" not in path.name.lower()
        if path.is_file():
            content = path.read_bytes().lower()
            assert b"mustermann" not in content, path
            assert b"1961" not in content, path


def test_dicom_patients_are_told_apart_by_their_number(tmp_path: Path, make_chest) -> None:
    from cxr3d_training.data.sources import find_sources

    source = tmp_path / "archive"
    source.mkdir()
    for k, number in enumerate(("P-77", "P-78", "P-77")):
        dicom_series(make_chest(k), source / f"series{k}", number)
    found = find_sources(source)
    assert len(found.sources) == 3
    texts = [s.patient_text() for s in found.sources]
    assert texts[0] == texts[2] != texts[1]
    summary = run(source, tmp_path / "set", identities=Identities(b"0123456789abcdef"))
    assert summary.made == 3
    patients = [case["patient"] for case in manifest_of(tmp_path / "set")["cases"]]
    assert len(set(patients)) == 2
    for path in (tmp_path / "set").rglob("*.json"):
        assert "P-7" not in path.read_text()


def dicom_series(volume: Any, folder: Path, patient: str) -> None:
    """The volume as a DICOM series of axial slices."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    folder.mkdir()
    series = f"1.2.826.0.1.{hash(folder.name) % 10**6}"
    x, y, z = volume.origin_lps
    for k, plane in enumerate(volume.hu):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = f"{series}.{k + 1}"
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, f"{series}.9"
        ds.PatientID, ds.PatientName, ds.Modality = patient, "Doe^Jane", "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Rows, ds.Columns = plane.shape
        ds.PixelSpacing = list(volume.spacing_mm[1:])
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [x, y, z - k * volume.spacing_mm[0]]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        ds.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


def test_the_table_says_who_where_and_what(ct_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "path,patient,split,licence,report,nodule,age,sex\n"
        "a/scan0_s1.nii.gz,ann,test,CC BY 4.0,Clear lungs.,no,61,F\n"
        "a/scan1_s1.nrrd,ann,test,CC BY 4.0,,yes,,F\n"
        "b,bob,validation,,,unknown,7.5,M\n"
        "missing.nrrd,eve,,,,,,\n"
    )
    summary = run(ct_folder, tmp_path / "set", table=table, licence="own")
    assert summary.rows_unused == 1
    cohort = open_cohort(tmp_path / "set")
    first = next(c for c in cohort.split("test") if c.report)
    assert first.labels == {"nodule": False, "age": 61, "sex": "F"}
    assert (first.report, first.licence) == ("Clear lungs.", "CC BY 4.0")
    assert len({c.patient for c in cohort.split("test")}) == 1
    bob = cohort.split("validation")
    assert len(bob) == 4  # the whole folder b
    assert bob[0].labels == {"nodule": None, "age": 7.5, "sex": "M"}
    assert bob[0].licence == "own"
    assert manifest_of(tmp_path / "set")["licences"] == {"CC BY 4.0": 2, "own": 6}

    table.write_text("path,nodule\na/scan1_s1.nrrd,no\n")  # a mended label needs no new reading
    summary = run(ct_folder, tmp_path / "set", table=table, licence="own")
    assert summary.made == 0
    labels = [c.labels.get("nodule") for c in open_cohort(tmp_path / "set").cases]
    assert sorted(map(str, labels)) == ["False", *["None"] * 7]


def test_a_table_that_puts_a_patient_on_two_sides_is_refused(
    ct_folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,patient,split\na,ann,train\nb,ann,test\n")
    with pytest.raises(InvalidInputError, match="two sides"):
        run(ct_folder, tmp_path / "set", table=table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na,1\n", "no column called 'path'"),
        ("path,split\na,dev\n", "no side called 'dev'.*row 2"),
        ("path\na\n./a\n", "Two rows"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    ct_folder: Path, tmp_path: Path, content: str, message: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        run(ct_folder, tmp_path / "set", table=table)


def test_a_list_names_the_scans(ct_folder: Path, tmp_path: Path) -> None:
    listed = ct_folder / "list.txt"
    listed.write_text("a/scan0_s1.nii.gz\n# nothing\n\nb/scan4_s1.nrrd\nnowhere.nrrd\n")
    try:
        summary = run(listed, tmp_path / "set")
    finally:
        listed.unlink()
    assert (summary.made, summary.broken) == (2, 1)


def test_cancelling_keeps_what_is_done(ct_folder: Path, tmp_path: Path) -> None:
    token = CancelToken()

    def stop_after_three(progress: Progress) -> None:
        if progress.message.startswith("case 3"):
            token.cancel()

    with pytest.raises(Cancelled):
        run(ct_folder, tmp_path / "set", progress=stop_after_three, cancel=token)
    with pytest.raises(UnreadableFileError, match="not complete"):
        open_cohort(tmp_path / "set")
    summary = run(ct_folder, tmp_path / "set")
    assert (summary.made, summary.kept) == (5, 3)


def test_a_second_run_on_the_same_dataset_is_refused(ct_folder: Path, tmp_path: Path) -> None:
    def another(progress: Progress) -> None:
        if progress.message.startswith("case"):
            with pytest.raises(ExportError, match="Another run"):
                run(ct_folder, tmp_path / "set")

    run(ct_folder, tmp_path / "set", progress=another)


def test_the_whole_is_verified_and_every_fault_is_found(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    shutil.copytree(dataset, out)
    assert verify(out).faults == ()
    cases = sorted((out / "cases").glob("ct-*"))
    chunk = next(p for p in (cases[0] / "hu" / "c").rglob("*") if p.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0xFF
    chunk.write_bytes(content)
    shutil.rmtree(cases[1])
    record = json.loads((cases[2] / "zarr.json").read_text())
    record["attributes"]["cxr3d"]["grid"]["origin_lps"][0] += 1.0
    (cases[2] / "zarr.json").write_text(json.dumps(record))
    report = verify(out)
    assert {fault.split(":")[0] for fault in report.faults} == {c.name for c in cases[:3]}
    with pytest.raises(UnreadableFileError):
        _ = next(c for c in open_cohort(out).cases if c.id == cases[0].name).hu


def test_an_option_that_contradicts_the_dataset_is_refused(dataset: Path) -> None:
    assert len(open_cohort(dataset, spacing_mm=12.0)) == 8
    with pytest.raises(InvalidInputError, match="another spacing_mm"):
        open_cohort(dataset, spacing_mm=2.0)


def test_mixing_by_name(dataset: Path, ct_folder: Path, tmp_path: Path, make_chest) -> None:
    other = tmp_path / "others"
    other.mkdir()
    for k in range(10):
        write_volume(make_chest(60 + k), other / f"n{k}.nrrd")
    run(other, tmp_path / "set")
    mixed = open_cohort(f"{dataset} + 25% {tmp_path / 'set'}")
    assert len(mixed) == 18
    np.testing.assert_allclose(mixed.split("train").shares, [0.75, 0.25])
    private = tmp_path / "private"
    run(other, private, identities=Identities(b"0123456789abcdef"))
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        mix(open_cohort(dataset), open_cohort(private), ratio=0.5)


def test_one_scan_in_two_datasets_cannot_be_on_two_sides(
    ct_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    run(ct_folder, tmp_path / "set", split=SplitSettings(seed=5))
    with pytest.raises(InvalidInputError, match="two sides"):
        mix(open_cohort(dataset), open_cohort(tmp_path / "set"), ratio=0.5)


def test_cropping_keeps_every_voxel_where_it_was(make_chest) -> None:
    volume = make_chest(5)
    whole = condition(volume, Conditioning(spacing_mm=None))
    cut = condition(volume, Conditioning(spacing_mm=None, crop_margin_mm=10.0))
    assert cut.arrays["hu"].size < whole.arrays["hu"].size
    start = whole.grid.lps_to_index(cut.grid.origin_lps).round().astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(start, cut.grid.shape, strict=True))
    for name in ("hu", "body", "lungs"):
        np.testing.assert_array_equal(cut.arrays[name], whole.arrays[name][box])
    assert cut.arrays["body"].sum() == whole.arrays["body"].sum()


def test_window_and_table_are_applied(make_chest) -> None:
    settings = Conditioning(spacing_mm=None, hu_range=(-900, 300), remove_table=True)
    prepared = condition(make_chest(5), settings)
    hu, body = prepared.arrays["hu"], prepared.arrays["body"]
    assert (hu.min(), hu.max()) == (-900, 300)
    assert set(np.unique(hu[~body])) == {-900}


def test_a_secret_is_made_once_and_read_again(tmp_path: Path) -> None:
    from cxr3d_training.data.identity import user_identities

    first = user_identities(tmp_path / "new" / "secret")
    again = user_identities(tmp_path / "new" / "secret")
    assert first.patient("x") == again.patient("x") != PUBLIC.patient("x")
    assert first.check == again.check
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o077 == 0
    (tmp_path / "short").write_text("abc")
    with pytest.raises(InvalidInputError, match="too short"):
        user_identities(tmp_path / "short")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("lungdx-a0002-s2_2mm.nii.gz", "lungdx-a0002"),
        ("lungdx-a0002_2mm.nii.gz", "lungdx-a0002"),
        ("lidc-0001_2mm.nii.gz", "lidc-0001"),
        ("cip-ct64_4mm.nii.gz", "cip-ct64"),
        ("sub-07_ses-01_ct.nii.gz", "sub-07"),
        ("sub-07_ses-02_run-1_ct.nii", "sub-07"),
        ("CASE 12 chest 1.25mm.mha", "case 12"),
        ("train_1_a_1.nii.gz", "train_1_a_1"),
    ],
)
def test_file_names_tell_patients_apart(name: str, patient: str) -> None:
    from cxr3d_training.data.identity import patient_from_name

    assert patient_from_name(name) == patient
