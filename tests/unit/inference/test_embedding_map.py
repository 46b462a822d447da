"""Maps of X-rays show what lies apart in their vectors, and are written to be opened again."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from napari_cxr3d.errors import BackendUnavailableError, ExportError, InvalidInputError
from napari_cxr3d.inference.embedding_map import map_embeddings, write_map

NAMES = [f"x-ray {k}" for k in range(40)]
LABELS = ["well"] * 20 + ["ill"] * 20


@pytest.fixture(scope="module")
def vectors() -> npt.NDArray[np.float32]:
    """Two groups of twenty, five deviations apart along one direction of sixteen."""
    found = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    found[20:, 3] += 8.0
    return found


def test_principal_components_keep_distances_and_say_how_much(
    vectors: npt.NDArray[np.float32],
) -> None:
    flat = np.zeros((6, 5))
    flat[:, 1], flat[:, 4] = [0, 1, 2, 3, 4, 9], [1, 0, 0, 2, 0, 0]
    found = map_embeddings(flat, NAMES[:6])
    wanted = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    got = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    assert got == pytest.approx(wanted, abs=1e-5)
    assert found.explained is not None
    assert sum(found.explained) == pytest.approx(1.0)
    turned = map_embeddings(-vectors, NAMES).points
    assert np.abs(turned) == pytest.approx(np.abs(map_embeddings(vectors, NAMES).points), abs=1e-4)


@pytest.mark.parametrize("mapping", ["pca", "tsne"])
def test_groups_that_lie_apart_are_seen_apart(
    vectors: npt.NDArray[np.float32], mapping: str
) -> None:
    if mapping == "tsne":
        pytest.importorskip("sklearn")
    found = map_embeddings(vectors, NAMES, LABELS, mapping=mapping)  # type: ignore[arg-type]
    gaps = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.argmin(1)
    assert np.mean((nearest < 20) == (np.arange(40) < 20)) > 0.9
    assert mapping.replace("pca", "Principal").replace("tsne", "t-SNE") in found.note
    again = map_embeddings(vectors, NAMES, LABELS, mapping=mapping)  # type: ignore[arg-type]
    assert np.array_equal(again.points, found.points)


def test_the_table_and_the_picture_hold_every_point(
    vectors: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    from PIL import Image

    found = map_embeddings(vectors, NAMES, LABELS)
    with write_map(found, tmp_path / "map.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES
    assert [row["label"] for row in rows] == LABELS
    table = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    assert table == pytest.approx(found.points, rel=1e-4, abs=1e-4)
    picture = np.asarray(Image.open(write_map(found, tmp_path / "map.png")).convert("RGB"))
    for colour in ((0, 114, 178), (230, 159, 0)):  # of the two labels
        assert (picture == colour).all(-1).sum() > 300
    with pytest.raises(ExportError):
        write_map(found, tmp_path / "map.png")


def test_what_makes_no_map_is_refused(
    vectors: npt.NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="one name"):
        map_embeddings(vectors, NAMES[:3])
    with pytest.raises(InvalidInputError, match="finite"):
        map_embeddings(vectors * np.nan, NAMES)
    with pytest.raises(InvalidInputError, match="No map by tsne"):
        map_embeddings(vectors[:3], NAMES[:3], mapping="tsne")
    with pytest.raises(InvalidInputError, match=r"\.gif"):
        write_map(map_embeddings(vectors, NAMES), tmp_path / "map.gif")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(BackendUnavailableError, match="scikit-learn"):
        map_embeddings(vectors, NAMES, mapping="tsne")
