"""NIfTI, NRRD and MetaImage volumes lie where the patient lay, or are refused."""

from __future__ import annotations

import gzip
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from napari_cxr3d.errors import (
    ConsentRequiredError,
    GeometryError,
    OutOfMemoryError,
    UnreadableFileError,
    UnsupportedFileError,
)
from napari_cxr3d.io import list_series, read_ct

SHAPE = (4, 5, 6)  # i, j, k: the fastest axis first
SPACING = (2.0, 3.0, 4.0)
ORIGIN = (-10.0, -20.0, 7.0)
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

ORIENTATIONS = [
    np.array([np.eye(3)[axis] * sign for axis, sign in zip(axes, signs, strict=True)]).T
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def _affine(direction=None, spacing=SPACING):
    """From (i, j, k) to LPS."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if direction is None else direction) * np.array(spacing)
    affine[:3, 3] = ORIGIN
    return affine


def _values(affine, place_hu):
    index = np.stack(np.indices(SHAPE), axis=-1)
    return np.rint(place_hu(index @ affine[:3, :3].T + affine[:3, 3])).astype(np.int16)


def write_nifti(path, affine, values, *, edit=None, sform=2, qform=0):
    import nibabel

    image = nibabel.Nifti1Image(values, None)
    image.header.set_sform(RAS @ affine, code=sform)
    if qform:
        image.header.set_qform(RAS @ affine, code=qform)
    if edit is not None:
        edit(image.header)
    nibabel.save(image, path)
    return path


def write_nrrd(path, affine, values, *, space="space: left-posterior-superior\n", more=""):
    directions = " ".join("({:.9g},{:.9g},{:.9g})".format(*affine[:3, k]) for k in range(3))
    sizes = " ".join(map(str, values.shape))
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\n{space}sizes: {sizes}\n"
        f"space directions: {directions}\nspace origin: ({ORIGIN[0]},{ORIGIN[1]},{ORIGIN[2]})\n"
        f"{more}endian: little\nencoding: raw\n\n"
    )
    path.write_bytes(header.encode() + values.astype("<i2").tobytes(order="F"))
    return path


def write_metaimage(path, affine, values, *, matrix=True, more=""):
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = (affine[:3, :3] / spacing).T.ravel()
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        f"Offset = {ORIGIN[0]} {ORIGIN[1]} {ORIGIN[2]}",
        f"ElementSpacing = {' '.join(f'{s:.9g}' for s in spacing)}",
        f"DimSize = {' '.join(map(str, values.shape))}",
        *([f"TransformMatrix = {' '.join(f'{v:.9g}' for v in direction)}"] if matrix else []),
        *([more] if more else []),
        "ElementType = MET_SHORT",
        "ElementDataFile = LOCAL\n",
    ]
    path.write_bytes("\n".join(lines).encode() + values.astype("<i2").tobytes(order="F"))
    return path


WRITERS = {
    ".nii": write_nifti,
    ".nii.gz": write_nifti,
    ".nrrd": write_nrrd,
    ".mha": write_metaimage,
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("direction", ORIENTATIONS, ids=lambda d: str(d.astype(int).tolist()))
def test_every_axis_order_and_direction_lies_where_the_patient_lay(
    tmp_path, place_hu, in_place, suffix, direction
):
    affine = _affine(direction)
    path = WRITERS[suffix](tmp_path / f"ct{suffix}", affine, _values(affine, place_hu))
    volume = read_ct(path)
    assert volume.hu.dtype == np.int16
    in_place(volume)
    order, grid = volume.source.grid.order, volume.source.grid
    restored = order.invert(volume.hu)
    np.testing.assert_array_equal(restored, _values(affine, place_hu).T)
    np.testing.assert_allclose(grid.affine_lps[:, [2, 1, 0, 3]], affine, atol=1e-5)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", ["oblique", "sheared"])
def test_axes_off_the_patients_need_consent(tmp_path, place_hu, suffix, kind):
    c, s = np.cos(0.2), np.sin(0.2)
    direction = np.array([[1, 0, 0], [0, c, -s if kind == "oblique" else 0], [0, s, c]])
    if kind == "sheared":
        direction[:, 2] = (0, 0, 1)
    affine = _affine(direction)
    path = WRITERS[suffix](tmp_path / f"ct{suffix}", affine, _values(affine, place_hu))
    with pytest.raises(ConsentRequiredError) as refusal:
        read_ct(path)
    assert refusal.value.consent == "allow_resampling"
    volume = read_ct(path, allow_resampling=True)
    center = (np.array(SHAPE) - 1) / 2 @ affine[:3, :3].T + affine[:3, 3]
    i, p, ell = np.rint(volume.grid.lps_to_index(center)).astype(int)
    here = volume.grid.index_to_lps((i, p, ell))
    assert volume.hu[i, p, ell] == pytest.approx(place_hu(here), abs=1.0)


@pytest.mark.parametrize(("code", "factor"), [(1, 1e-3), (3, 1e3), (0, 1.0)])
def test_nifti_units_are_honoured(tmp_path, place_hu, in_place, code, factor):
    affine = _affine()
    scaled = affine.copy()
    scaled[:3] *= factor

    def edit(header):
        header["xyzt_units"] = code

    in_place(read_ct(write_nifti(tmp_path / "c.nii", scaled, _values(affine, place_hu), edit=edit)))


def test_nifti_scaling_is_applied(tmp_path, place_hu, in_place):
    affine = _affine()
    values = _values(affine, place_hu)

    def edit(header):
        header.set_slope_inter(1.0, -1024.0)

    path = write_nifti(tmp_path / "c.nii.gz", affine, values, edit=edit)
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:352] + (values + 1024).astype("<i2").tobytes(order="F")))
    volume = read_ct(path)
    assert volume.hu.dtype == np.int16
    in_place(volume)


def test_a_nifti_without_orientation_is_refused(tmp_path, place_hu):
    affine = _affine()
    path = write_nifti(tmp_path / "c.nii", affine, _values(affine, place_hu), sform=0)
    with pytest.raises(GeometryError, match="left and right are unknown"):
        read_ct(path)


def test_a_nifti_whose_two_orientations_contradict_is_refused(tmp_path, place_hu):
    def edit(header):
        header.set_sform(np.diag([-1.0, 1.0, 1.0, 1.0]) @ RAS @ _affine(), code=1)

    path = write_nifti(
        tmp_path / "c.nii", _affine(), _values(_affine(), place_hu), qform=1, edit=edit
    )
    with pytest.raises(GeometryError, match="contradict"):
        read_ct(path)


def test_a_shifted_sform_is_taken_with_a_note(tmp_path, place_hu, in_place):
    affine = _affine()

    def edit(header):
        moved = affine.copy()
        moved[:3, 3] += 50
        header.set_qform(RAS @ moved, code=1)

    volume = read_ct(write_nifti(tmp_path / "c.nii", affine, _values(affine, place_hu), edit=edit))
    in_place(volume)
    assert any("disagree" in n for n in volume.source.notes)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_truncated_file_is_refused_not_filled(tmp_path, place_hu, suffix):
    path = WRITERS[suffix](tmp_path / f"c{suffix}", _affine(), _values(_affine(), place_hu))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UnreadableFileError):
        read_ct(path)


def test_a_fourth_axis_of_one_is_dropped_and_of_two_refused(tmp_path, place_hu, in_place):
    affine = _affine()
    values = _values(affine, place_hu)
    in_place(read_ct(write_nifti(tmp_path / "one.nii", affine, values[..., None])))
    path = write_nifti(tmp_path / "two.nii", affine, np.stack([values, values], axis=-1))
    with pytest.raises(UnsupportedFileError, match="4-dimensional"):
        read_ct(path)


def test_a_single_slice_and_a_flat_image_are_refused(tmp_path, place_hu):
    values = _values(_affine(), place_hu)
    for name, part in (("slice", values[:, :, :1]), ("flat", values[:, :, 0])):
        with pytest.raises(UnsupportedFileError):
            read_ct(write_nifti(tmp_path / f"{name}.nii", _affine(), part))


def test_colour_volumes_are_refused(tmp_path):
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(UnsupportedFileError, match="colours"):
        read_ct(write_nifti(tmp_path / "c.nii", _affine(), rgb))


def test_values_that_are_not_numbers_become_air_and_all_of_them_an_error(tmp_path, place_hu):
    values = _values(_affine(), place_hu).astype(np.float32)
    values[0, 0, 0] = np.nan
    volume = read_ct(write_nifti(tmp_path / "c.nii", _affine(), values))
    assert volume.hu.dtype == np.int16
    assert volume.hu[-1, 0, 0] == -1024
    assert any("not numbers" in n for n in volume.source.notes)
    values[:] = np.nan
    with pytest.raises(UnreadableFileError, match="holds no numbers"):
        read_ct(write_nifti(tmp_path / "d.nii", _affine(), values))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 1, "normalised"),
        (0, 255, "8-bit"),
        (0, 4000, "rescale intercept"),
        (-100, 900, "no whole chest"),
        (7, 7, "empty"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_called_so(tmp_path, low, high, words):
    values = np.linspace(low, high, np.prod(SHAPE)).reshape(SHAPE).astype(np.float32)
    volume = read_ct(write_nifti(tmp_path / "c.nii", _affine(), values))
    assert any(words in n for n in volume.source.notes)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))],
)
def test_nrrd_spaces_are_turned_to_lps(tmp_path, place_hu, in_place, space, signs):
    affine = _affine()
    lps = np.diag([*signs, 1.0]) @ affine
    path = write_nrrd(
        tmp_path / "c.nrrd", affine, _values(lps, place_hu), space=f"space: {space}\n"
    )
    in_place(read_ct(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": "space dimension: 3\n"}, "left and right are unknown"),
        ({"space": "space: scanner-xyz\n"}, "left and right are unknown"),
        ({"more": 'space units: "um" "um" "um"\n'}, "not in millimetres"),
    ],
)
def test_an_nrrd_with_unknown_space_is_refused(tmp_path, place_hu, change, words):
    path = write_nrrd(tmp_path / "c.nrrd", _affine(), _values(_affine(), place_hu), **change)
    with pytest.raises(GeometryError, match=words):
        read_ct(path)


def test_a_metaimage_without_matrix_is_read_with_a_note(tmp_path, place_hu, in_place):
    values = _values(_affine(), place_hu)
    volume = read_ct(write_metaimage(tmp_path / "c.mha", _affine(), values, matrix=False))
    in_place(volume)
    assert any("no transform matrix" in n for n in volume.source.notes)
    path = write_metaimage(
        tmp_path / "d.mha", _affine(), values, matrix=False, more="AnatomicalOrientation = LPS"
    )
    with pytest.raises(GeometryError, match="anatomical orientation"):
        read_ct(path)


def test_a_metaimage_intensity_function_is_applied(tmp_path, place_hu, in_place):
    values = (_values(_affine(), place_hu) + 1024).astype(np.int16)
    path = write_metaimage(
        tmp_path / "c.mha", _affine(), values, more="ElementToIntensityFunctionOffset = -1024"
    )
    in_place(read_ct(path))


@pytest.mark.parametrize(("suffix", "field"), [(".nhdr", "data file: gone.raw\n"), (".mhd", "")])
def test_a_header_without_its_data_file_says_so(tmp_path, place_hu, suffix, field):
    values = _values(_affine(), place_hu)
    path = tmp_path / f"c{suffix}"
    if suffix == ".nhdr":
        write_nrrd(path, _affine(), values, more=field)
    else:
        write_metaimage(path, _affine(), values)
        path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= gone.raw"))
    with pytest.raises(UnreadableFileError, match="voxels that it names are missing"):
        read_ct(path)


def test_a_spacing_that_no_scanner_has_is_refused(tmp_path, place_hu):
    affine = _affine(spacing=(0.002, 0.003, 0.004))
    with pytest.raises(GeometryError, match="spacing cannot be right"):
        read_ct(write_nifti(tmp_path / "c.nii", affine, _values(_affine(), place_hu)))


def test_a_volume_too_small_for_a_chest_is_called_so(tmp_path, place_hu):
    affine = _affine(spacing=(0.2, 0.3, 0.4))
    volume = read_ct(write_nifti(tmp_path / "c.nii", affine, _values(_affine(), place_hu)))
    assert any("no chest" in n for n in volume.source.notes)


def test_an_absurd_size_is_refused_before_anything_is_allocated(tmp_path, place_hu):
    path = write_nrrd(tmp_path / "c.nrrd", _affine(), _values(_affine(), place_hu))
    path.write_bytes(path.read_bytes().replace(b"sizes: 4 5 6", b"sizes: 40000 50000 60000"))
    with pytest.raises((OutOfMemoryError, UnreadableFileError)):
        read_ct(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(
    "content", [b"", b"not a volume", bytes(400)], ids=["empty", "text", "zeros"]
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"c{suffix}"
    path.write_bytes(content)
    with pytest.raises((UnreadableFileError, UnsupportedFileError, GeometryError)):
        read_ct(path)


def test_a_description_does_not_come_from_the_files_name(tmp_path, place_hu):
    values = _values(_affine(), place_hu)
    path = write_nifti(tmp_path / "Doe_Jane_1970.nii", _affine(), values)
    volume = read_ct(path)
    assert volume.source.description == f"NIfTI {volume.source.content_sha256[:6]}"
    assert volume.source.path == Path(path)
    assert "Doe" not in str(volume.source.to_metadata())
    (entry,) = list_series(path)
    assert "Doe" not in entry.description


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, place_hu):
    values = _values(_affine(), place_hu)
    for folder, offset in (("a", 0), ("b", 100)):
        (tmp_path / folder).mkdir()
        write_nifti(tmp_path / folder / "ct.nii", _affine(), values + np.int16(offset))
    first, second = (read_ct(tmp_path, series=e.uid) for e in list_series(tmp_path))
    np.testing.assert_array_equal(second.hu, first.hu + 100)


def test_a_folder_of_volume_files_lists_them(tmp_path, place_hu, in_place):
    values = _values(_affine(), place_hu)
    write_nifti(tmp_path / "a.nii", _affine(), values)
    write_nrrd(tmp_path / "b.nrrd", _affine(), values)
    entries = list_series(tmp_path)
    assert [e.kind for e in entries] == ["ct", "ct"]
    assert entries[0].shape == (6, 5, 4)
    in_place(read_ct(tmp_path, series=entries[1].uid))
