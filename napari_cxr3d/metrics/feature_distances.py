"""Distances in the features of a network: LPIPS, FID and FVD where their networks are given.

These names belong to networks: LPIPS to a VGG with weights that were fitted to human judgement
(Zhang et al., CVPR 2018), FID to an Inception v3 of ImageNet (Heusel et al., NeurIPS 2017), FVD
to an I3D of Kinetics (Unterthiner et al., 2018, arXiv 1812.01717). None of them comes with the
program. Who has their TorchScript files, as StyleGAN2-ADA and StyleGAN-V publish them, names them;
whatever else is compared is called by `SELF` and by the network that it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError, UnreadableFileError
from napari_cxr3d.metrics.image_quality import Metric, Range

if TYPE_CHECKING:
    import torch

__all__ = [
    "SELF",
    "FeatureNetwork",
    "Published",
    "frechet_distance",
    "open_published",
    "own_features",
    "picture_distance",
]

Array = npt.NDArray[Any]
Published = Literal["lpips", "fid", "fvd"]

SELF = "self_feature"
"""What a distance is called whose network nobody published for it."""

_CALLS: dict[str, dict[str, bool]] = {
    "lpips": {"resize_images": False, "return_lpips": True},
    "fid": {"return_features": True},
    "fvd": {"rescale": True, "resize": True, "return_features": True},
}
_FEWEST = 2  # volumes that have a covariance
_SLICES = 16  # that go through a network at once


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose features are compared, and the name that this gives the distance.

    Attributes
    ----------
    name : str
        ``"lpips"``, ``"fid"``, ``"fvd"``, or `SELF`.
    source : str
        Which network it is, in a phrase.
    features : callable
        From pictures (N, 3, rows, cols), or videos (N, 3, T, rows, cols) for FVD, of 0 to 255, to
        features (N, D).
    """

    name: str
    source: str
    features: Callable[[torch.Tensor], torch.Tensor]


def open_published(name: Published, path: str | Path, *, device: str = "cpu") -> FeatureNetwork:
    """A published network from its TorchScript file.

    TorchScript holds a network's own small language, no Python; still, give only files from where
    the network was published.

    Parameters
    ----------
    name : {"lpips", "fid", "fvd"}
        Which distance: ``vgg16.pt`` and ``inception-2015-12-05.pt`` of StyleGAN2-ADA,
        ``i3d_torchscript.pt`` of StyleGAN-V.
    path : path-like
        The file.
    device : str
        Where to compute.

    Raises
    ------
    InvalidInputError
        If there is no such distance.
    UnreadableFileError
        If the file is not there or holds no TorchScript.
    """
    import torch

    if name not in _CALLS:
        raise InvalidInputError(
            f"There is no published feature distance called {name!r}",
            remedy=f"choose one of {', '.join(_CALLS)}",
        )
    path = Path(path).expanduser()
    try:
        digest = sha256(path.read_bytes()).hexdigest()
        with warnings.catch_warnings():
            # That is how these networks are published, whatever torch thinks of the format.
            warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
            network: Any = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableFileError(
            f"The network for {name} cannot be read",
            why=str(error).strip().split("\n")[0] or type(error).__name__,
            remedy="give the TorchScript file that was published for it",
            path=path,
        ) from error

    def features(pictures: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found = network.eval()(pictures.to(device), **_CALLS[name])
        return cast("torch.Tensor", found).flatten(1).cpu()

    return FeatureNetwork(name, f"TorchScript file of sha256 {digest[:16]}", features)


def own_features(features: Callable[[torch.Tensor], torch.Tensor], source: str) -> FeatureNetwork:
    """Any other network: its distances are called `SELF`.

    Parameters
    ----------
    features : callable
        See `FeatureNetwork`.
    source : str
        Which network it is, such as ``"encoder of codec-demo 1.0.0"``.
    """
    return FeatureNetwork(SELF, source, features)


def picture_distance(
    network: FeatureNetwork, estimate: Array, reference: Array, window: Range
) -> Metric:
    """Squared distance of the features of axial slices, the mean over slices.

    With the network of ``"lpips"`` this is LPIPS.

    Parameters
    ----------
    network : FeatureNetwork
        Of pictures.
    estimate, reference : ndarray, shape (I, P, L)
        Volumes in HU.
    window : tuple of 2 float
        HU that become 0 and 255.

    Raises
    ------
    InvalidInputError
        If the volumes are not of one shape, or the network is one of sets or videos.
    """
    if network.name not in ("lpips", SELF):
        raise InvalidInputError(
            f"{network.name.upper()} compares sets, not one volume with another",
            remedy="use frechet_distance",
        )
    if estimate.shape != reference.shape or estimate.ndim != 3:
        raise InvalidInputError(
            "Two volumes on one grid are compared",
            why=f"they have the shapes {estimate.shape} and {reference.shape}",
        )
    total = 0.0
    for start in range(0, len(estimate), _SLICES):
        a, b = (
            network.features(_pictures(v[start : start + _SLICES], window))
            for v in (estimate, reference)
        )
        total += float((a - b).square().sum())
    return Metric(
        network.name,
        total / len(estimate),
        f"squared distance of the features of axial slices, mean over slices, HU "
        f"{window[0]:g} to {window[1]:g}; {_told(network)}",
        higher_is_better=False,
    )


def frechet_distance(
    network: FeatureNetwork,
    estimates: Sequence[Array],
    references: Sequence[Array],
    window: Range,
) -> Metric:
    """Fréchet distance of two sets of volumes: that of normal distributions of their features.

    ``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of means and covariances (Heusel et al., NeurIPS
    2017, equation 6). With the network of ``"fid"`` every axial slice is a picture and this is
    FID, with that of ``"fvd"`` every volume is a video along I and this is FVD. It falls with
    the number of volumes: compare numbers of as many only.

    Parameters
    ----------
    network : FeatureNetwork
        Of pictures, or for FVD of videos.
    estimates, references : sequence of ndarray, shape (I, P, L)
        Volumes in HU; two or more.
    window : tuple of 2 float
        HU that become 0 and 255.

    Raises
    ------
    InvalidInputError
        If a set has fewer than two volumes.
    """
    import torch

    if min(len(estimates), len(references)) < _FEWEST:
        raise InvalidInputError(
            "A distance of sets needs two volumes or more in each",
            why=f"there are {len(estimates)} and {len(references)}",
        )
    videos = network.name == "fvd"

    def described(volumes: Sequence[Array]) -> npt.NDArray[np.float64]:
        found = []
        for volume in volumes:
            pictures = _pictures(volume, window)
            shown = [pictures.transpose(0, 1)[None]] if videos else torch.split(pictures, _SLICES)
            found += [network.features(part) for part in shown]
        return torch.cat(found).double().numpy()

    value = _frechet(described(estimates), described(references))
    unit = "volume a video along I" if videos else "axial slice a picture"
    return Metric(
        network.name if network.name != SELF else f"{SELF}_frechet",
        value,
        f"Fréchet distance of {len(estimates)} and {len(references)} volumes, "
        f"every {unit}, HU {window[0]:g} to {window[1]:g}; {_told(network)}",
        higher_is_better=False,
    )


def _frechet(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Of features (N, D). The root's trace is that of a symmetric matrix with its eigenvalues.

    MONAI's FIDMetric takes SciPy's sqrtm, whose result is not finite where there are fewer
    volumes than features.
    """
    first, second = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ second @ root)
    spread = np.trace(first) + np.trace(second) - 2 * np.sqrt(shared.clip(0)).sum()
    return max(0.0, float(np.square(a.mean(0) - b.mean(0)).sum() + spread))


def _pictures(volume: Array, window: Range) -> torch.Tensor:
    """Axial slices as grey pictures of three channels, 0 to 255, (N, 3, rows, cols)."""
    import torch

    low, high = window
    grey = (np.clip(volume, low, high).astype(np.float32) - low) * (255.0 / (high - low))
    return torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1).contiguous()


def _told(network: FeatureNetwork) -> str:
    if network.name == SELF:
        return f"features of {network.source}: neither LPIPS, FID nor FVD"
    return f"network: {network.source}"
