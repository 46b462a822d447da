"""``cxr3d drr``: the right picture, in the right form, and no file harmed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_cxr3d.imaging import XrayView, preset

SMALL = ("--size", "40", "--pixel-mm", "9")


@pytest.fixture(scope="module")
def direct(ct_file):
    """The line integrals of a view, from the library instead of the command."""
    from napari_cxr3d.io import read_ct
    from napari_cxr3d.xray import projector

    volume = read_ct(ct_file)

    def project(view: XrayView, **settings) -> np.ndarray:
        return projector("cpu", **settings).project(volume, [view])[0]

    return project


def test_npy_holds_the_line_integrals_alone_as_rows_and_columns(run, ct_file, tmp_path, direct):
    out = tmp_path / "view.npy"
    result = run("drr", ct_file, "--size", "30x40", "--pixel-mm", "9", "--out", out)
    assert result.exit_code == 0, result.stderr
    array = np.load(out)
    assert (array.shape, array.dtype) == ((30, 40), np.float32)
    view = XrayView(detector_shape=(30, 40), pixel_mm=9.0)
    np.testing.assert_allclose(array, direct(view), rtol=1e-5)


def test_every_geometry_option_reaches_the_projector(run, ct_file, tmp_path, direct):
    out = tmp_path / "view.npy"
    geometry = "--yaw -30 --pitch 10 --roll -5 --source-to-detector 1500 --source-to-isocenter 1200"
    result = run(
        "drr", ct_file, *geometry.split(), *SMALL, "--isocenter", "-20,110,-90", "--out", out
    )
    assert result.exit_code == 0, result.stderr
    view = XrayView(
        yaw=-30.0,
        pitch=10.0,
        roll=-5.0,
        source_to_detector_mm=1500.0,
        source_to_isocenter_mm=1200.0,
        detector_shape=(40, 40),
        pixel_mm=9.0,
        isocenter_lps=(-20.0, 110.0, -90.0),
    )
    np.testing.assert_allclose(np.load(out), direct(view), rtol=1e-5)


def test_options_override_the_preset(run, ct_file, tmp_path):
    out = tmp_path / "view.npy"
    assert (
        run("drr", ct_file, "--preset", "x-win", *SMALL, "--yaw", "0", "--out", out).exit_code == 0
    )
    (view,) = json.loads(out.with_name("view.npy.json").read_text())["views"]
    base = preset("x-win")
    assert (view["yaw"], view["detector_shape"], view["pixel_mm"]) == (0.0, [40, 40], 9.0)
    assert view["source_to_detector_mm"] == base.source_to_detector_mm
    assert view["source_to_isocenter_mm"] == base.source_to_isocenter_mm
    assert view["flip_columns"] is True


def test_left_stays_on_the_right_in_pa_and_ap(run, ct_file, tmp_path):
    for name in ("pa", "ap"):
        out = tmp_path / f"{name}.npy"
        assert run("drr", ct_file, "--preset", name, *SMALL, "--out", out).exit_code == 0
        row, column = np.unravel_index(np.load(out).argmax(), (40, 40))
        assert column > 20, "the dense block lies on the patient's left"
        assert row < 20, "and toward the head"


def test_energy_and_tube_voltage_change_the_reading(run, ct_file, tmp_path, direct):
    readings = {}
    for name, options in {"soft": ["--energy", "40"], "kv": ["--kv", "120"], "plain": []}.items():
        out = tmp_path / f"{name}.npy"
        assert run("drr", ct_file, *SMALL, *options, "--out", out).exit_code == 0
        readings[name] = np.load(out)
    view = XrayView(detector_shape=(40, 40), pixel_mm=9.0)
    np.testing.assert_allclose(readings["soft"], direct(view, energy_kev=40.0), rtol=1e-5)
    assert readings["soft"].max() > 1.1 * readings["plain"].max()
    assert not np.allclose(readings["kv"], readings["plain"], rtol=0.01)


def test_appearance_follows_the_format_unless_it_is_given(run, ct_file, tmp_path):
    def pixels(name: str, *options: str) -> np.ndarray:
        import imageio.v3 as imageio

        out = tmp_path / name
        shared = (*SMALL, "--quality", "exact", "--no-mark")
        assert run("drr", ct_file, *shared, *options, "--out", out).exit_code == 0
        return np.load(out) if out.suffix == ".npy" else imageio.imread(out)

    integrals = pixels("a.npy")
    assert integrals.max() > 2.0
    stretched = pixels("b.npy", "--appearance", "minmax")
    assert (stretched.min(), stretched.max()) == (0.0, 1.0)
    picture = pixels("c.png")
    assert picture.dtype == np.uint16
    linear = pixels("d.png", "--appearance", "integral")
    np.testing.assert_allclose(linear / 65535, integrals / integrals.max(), atol=1e-4)
    assert not np.array_equal(picture, linear)
    assert pixels("e.png", "--bits", "8").dtype == np.uint8


@pytest.mark.parametrize("suffix", [".png", ".dcm", ".npy", ".nrrd", ".nii.gz", ".mha"])
def test_every_format_is_written_and_its_path_printed(run, ct_file, tmp_path, suffix):
    out = tmp_path / f"view{suffix}"
    result = run("drr", ct_file, *SMALL, "--out", out)
    assert result.exit_code == 0, result.stderr
    printed = result.stdout.splitlines()
    assert printed[0] == str(out)
    assert sorted(printed) == sorted(str(p) for p in tmp_path.iterdir())


def test_formats_of_one_name_lie_side_by_side(run, ct_file, tmp_path):
    for suffix in (".npy", ".nrrd", ".png"):
        assert run("drr", ct_file, *SMALL, "--out", tmp_path / f"view{suffix}").exit_code == 0


def test_dicom_is_marked_as_derived(run, ct_file, tmp_path):
    import pydicom

    out = tmp_path / "view.dcm"
    assert run("drr", ct_file, *SMALL, "--out", out).exit_code == 0
    dataset = pydicom.dcmread(out)
    assert list(dataset.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "SYNTHETIC" in dataset.SeriesDescription


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(run, ct_file, tmp_path):
    out = tmp_path / "view.npy"
    out.write_bytes(b"precious")
    result = run("drr", ct_file, *SMALL, "--out", out)
    assert result.exit_code == 1
    assert out.read_bytes() == b"precious"
    assert run("drr", ct_file, *SMALL, "--overwrite", "--out", out).exit_code == 0
    assert np.load(out).shape == (40, 40)


def test_the_ct_itself_is_never_overwritten(run, ct_file, tmp_path):
    import shutil

    copy = shutil.copy(ct_file, tmp_path / "ct.mha")
    before = copy.read_bytes()
    result = run("drr", copy, *SMALL, "--overwrite", "--out", copy)
    assert result.exit_code == 1
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "view.bmp"],
        ["--out", "view"],
        ["--out", "view.gif"],
        ["--preset", "lordotic", "--out", "view.npy"],
        ["--pitch", "95", "--out", "view.npy"],
        ["--size", "big", "--out", "view.npy"],
        ["--energy", "5", "--out", "view.npy"],
        ["--kv", "10", "--out", "view.npy"],
        ["--kv", "120", "--energy", "70", "--out", "view.npy"],
        ["--backend", "gpu", "--out", "view.npy"],
        ["--bits", "12", "--out", "view.png"],
        ["--yaw", "left", "--out", "view.npy"],
        [],
    ],
    ids=lambda options: " ".join(options) or "no output",
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(
    run, ct_file, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)
    result = run("drr", ct_file, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nothing.nrrd", "note.txt", "damaged.nrrd"])
def test_an_unreadable_ct_is_one_sentence_with_status_1(run, tmp_path, name):
    (tmp_path / "note.txt").write_text("not a CT")
    (tmp_path / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: short\n")
    out = tmp_path / "view.npy"
    result = run("drr", tmp_path / name, "--out", out)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert name in result.stderr
    assert not out.exists()


def test_a_gap_needs_consent_and_the_sentence_names_the_option(run, dicom_series, tmp_path):
    folder = dicom_series([0, 5, 10, 20, 25])
    out = tmp_path / "view.npy"
    refused = run("drr", folder, *SMALL, "--out", out)
    assert refused.exit_code == 1
    assert "--allow-gaps" in refused.stderr
    assert run("drr", folder, *SMALL, "--allow-gaps", "--out", out).exit_code == 0


def test_the_series_that_was_chosen_is_told_on_stderr(run, dicom_series, tmp_path):
    folder = dicom_series([0, 5, 10, 15], "Thin")
    dicom_series([0, 5, 10], "Thick")
    result = run("drr", folder, *SMALL, "--out", tmp_path / "view.npy")
    assert result.exit_code == 0
    assert "Thin" in result.stderr
    assert "Thin" not in result.stdout


def test_a_detector_that_crops_the_patient_is_told(run, ct_file, tmp_path):
    cropped = run("drr", ct_file, "--size", "40", "--out", tmp_path / "a.npy")
    whole = run("drr", ct_file, *SMALL, "--out", tmp_path / "b.npy")
    assert "--pixel-mm" in cropped.stderr
    assert whole.stderr == ""


def test_the_table_can_be_removed(run, tmp_path):
    import SimpleITK as sitk

    hu = np.full((20, 60, 60), -1000, np.int16)
    hu[:, 10:35, 15:45] = 0
    hu[:, 50:53, 5:55] = 200
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((6.0, 6.0, 6.0))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    sums = []
    for name, options in (("with", []), ("without", ["--remove-table"])):
        out = tmp_path / f"{name}.npy"
        assert run("drr", tmp_path / "ct.nrrd", *SMALL, *options, "--out", out).exit_code == 0
        sums.append(np.load(out).sum())
    assert sums[1] < 0.9 * sums[0]


def test_a_realistic_picture_is_drawn_from_its_seed(run, ct_file, tmp_path):
    def picture(name: str, *options: str) -> np.ndarray:
        out = tmp_path / name
        result = run("drr", ct_file, *SMALL, "--appearance", "realistic", *options, "--out", out)
        assert result.exit_code == 0, result.stderr
        record = json.loads(out.with_name(f"{name}.json").read_text())
        assert record["provenance"]["synthetic"] is True
        return np.load(out)

    default, zero, five = (
        picture("a.npy"), picture("b.npy", "--seed", "0"), picture("c.npy", "--seed", "5")
    )  # fmt: skip
    np.testing.assert_array_equal(default, zero)
    assert not np.array_equal(zero, five)


def test_a_beam_or_seed_that_the_appearance_does_not_have_is_refused(run, ct_file, tmp_path):
    for options in (
        ("--appearance", "radiograph", "--seed", "1"),
        ("--appearance", "realistic", "--energy", "60"),
        ("--appearance", "x-win", "--kv", "100"),
    ):
        result = run("drr", ct_file, *SMALL, *options, "--out", tmp_path / "x.png")
        assert result.exit_code == 2, options
        assert not (tmp_path / "x.png").exists()


def test_the_published_mean_projection_has_its_own_geometry(run, ct_file, tmp_path):
    out = tmp_path / "clip.npy"
    result = run("drr", ct_file, "--appearance", "x2ct-clip", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "parallel" in result.stderr
    (view,) = json.loads(out.with_name("clip.npy.json").read_text())["views"]
    assert view["pixel_mm"] == 1.0
    assert tuple(view["detector_shape"]) == np.load(out).shape
