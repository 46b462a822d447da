"""A feature distance bears a published name only with the published network."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cxr3d.errors import InvalidInputError, UnreadableFileError
from napari_cxr3d.metrics.feature_distances import (
    SELF,
    FeatureNetwork,
    frechet_distance,
    open_published,
    own_features,
    picture_distance,
)

WINDOW = (-1000.0, 1000.0)
RNG = np.random.default_rng(0)


class Vgg(nn.Module):
    """With the call of StyleGAN2-ADA's vgg16.pt."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips
        assert not resize_images
        return x.mean((2, 3)) / 255


class I3d(nn.Module):
    """With the call of StyleGAN-V's i3d_torchscript.pt."""

    def forward(
        self,
        x: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        assert x.dim() == 5
        return torch.stack([x.mean((1, 2, 3, 4)), x[:, 0, 0].mean((1, 2))], dim=1) / 255


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files with the calling convention of the published ones."""
    paths = {"lpips": tmp_path / "vgg.pt", "fvd": tmp_path / "i3d.pt"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
        torch.jit.script(Vgg()).save(str(paths["lpips"]))
        torch.jit.script(I3d()).save(str(paths["fvd"]))
    return paths


def volumes(count: int, mean: float = 0.0) -> list[np.ndarray]:
    return [RNG.normal(mean, 100.0, (6, 8, 8)) + RNG.normal(0, 100) for _ in range(count)]


def test_lpips_is_called_so_with_its_network(files: dict[str, Path]) -> None:
    network = open_published("lpips", files["lpips"])
    low, high = np.full((20, 8, 8), -1000.0), np.full((20, 8, 8), 1000.0)
    metric = picture_distance(network, low, high, WINDOW)
    assert metric.name == "lpips"
    assert metric.value == pytest.approx(3.0)  # one unit in each of three channels
    assert not metric.higher_is_better
    assert "sha256" in metric.convention
    assert picture_distance(network, high, high, WINDOW).value == 0.0


def test_another_network_is_never_called_by_a_published_name() -> None:
    network = own_features(lambda x: x.mean((2, 3)), "the encoder of codec-demo")
    metric = picture_distance(network, *volumes(2), WINDOW)
    assert metric.name == SELF
    assert "the encoder of codec-demo: neither LPIPS, FID nor FVD" in metric.convention
    of_sets = frechet_distance(network, volumes(4), volumes(4), WINDOW)
    assert of_sets.name == f"{SELF}_frechet"
    assert "neither LPIPS" in of_sets.convention


def test_fvd_sees_a_volume_as_a_video_and_grows_with_the_distance(files: dict[str, Path]) -> None:
    network = open_published("fvd", files["fvd"])
    truth = volumes(12)
    near = frechet_distance(network, volumes(12), truth, WINDOW)
    far = frechet_distance(network, volumes(12, mean=400.0), truth, WINDOW)
    assert near.name == far.name == "fvd"
    assert 0 <= near.value < 0.3 * far.value
    assert far.value > 0.04  # (400 / 2000)^2 for the mean, in each of two features


def test_the_distance_of_normal_sets_is_the_closed_form() -> None:
    """Of features with diagonal covariances: squared differences of means and of deviations."""
    rng = np.random.default_rng(1)
    a = rng.normal((0, 1, 2), (1.0, 2.0, 3.0), (40_000, 3))
    b = rng.normal((1, 1, 4), (1.5, 2.0, 1.0), (40_000, 3))

    table = [*np.array_split(a, 2), *np.array_split(b, 2)]
    network = FeatureNetwork("fid", "a table", lambda _: torch.from_numpy(table.pop(0)))
    distance = frechet_distance(network, volumes(2), volumes(2), WINDOW)
    assert distance.value == pytest.approx(1 + 4 + 0.25 + 4, rel=0.02)


def test_what_cannot_be_compared_is_said(files: dict[str, Path], tmp_path: Path) -> None:
    fvd = open_published("fvd", files["fvd"])
    with pytest.raises(InvalidInputError, match="compares sets"):
        picture_distance(fvd, *volumes(2), WINDOW)
    with pytest.raises(InvalidInputError, match="two volumes"):
        frechet_distance(fvd, volumes(1), volumes(3), WINDOW)
    own = FeatureNetwork(SELF, "x", lambda x: x.mean((2, 3)))
    with pytest.raises(InvalidInputError, match="one grid"):
        picture_distance(own, volumes(1)[0], volumes(1)[0][1:], WINDOW)
    with pytest.raises(InvalidInputError, match="no published"):
        open_published("dists", files["fvd"])  # type: ignore[arg-type]
    with pytest.raises(UnreadableFileError, match="lpips"):
        open_published("lpips", tmp_path / "missing.pt")
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"no network")
    with pytest.raises(UnreadableFileError, match="TorchScript"):
        open_published("lpips", wrong)
