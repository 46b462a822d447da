"""How well codecs give volumes back, beside baselines that keep as many numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cxr3d_training.data import CohortCase
from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.metrics import Metric, Report, Row, mae_hu, psnr3d, slice_psnr, ssim3d
from napari_cxr3d.models.codecs.base import Codec
from napari_cxr3d.models.codecs.haar import HaarCodec
from napari_cxr3d.models.hu_window import HuWindow
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback

__all__ = ["as_a_cube", "compare_codecs", "haar_bands", "resampling", "whole_volume"]

Coding = Callable[[Tensor], Tensor]  # (1, 1, I, P, L) in the network's range, there and back


def compare_codecs(
    title: str,
    methods: Mapping[str, Coding],
    cases: Sequence[CohortCase],
    window: HuWindow,
    device: torch.device,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Report:
    """Every method on every case: PSNR3D, SSIM3D and MAE in the body, slice-mean PSNR.

    Parameters
    ----------
    title : str
        Of the report.
    methods : mapping of str to callable
        Each takes a volume (1, 1, I, P, L) in the network's range and gives it back.
    cases : sequence of CohortCase
        Held-out ones.
    window : HuWindow
        HU that the network sees; errors are counted within it.
    device : torch.device
        Where the methods work.
    progress, cancel : optional
        Told of every case; looked at before every method.

    Raises
    ------
    InvalidInputError
        If there is no case.
    Cancelled
        If the token was cancelled.
    """
    if not len(cases):
        raise InvalidInputError(
            "There is no case to evaluate on",
            remedy="name data with more patients by --data, or another --split",
        )
    cancel = cancel or CancelToken()
    rows = []
    for done, case in enumerate(cases):
        hu, body = np.asarray(case.hu), np.asarray(case.body, bool)
        volume = window.encode(torch.from_numpy(np.array(hu))[None, None].to(device))
        for name, coding in methods.items():
            cancel.raise_if_cancelled()
            with torch.no_grad():
                back = window.decode(coding(volume).float().clamp(window.to_low, window.to_high))
            metrics = _measured(back[0, 0].cpu().numpy(), hu, window, body, device)
            rows.append(Row(case.id, case.patient, name, metrics))
        if progress is not None:
            progress(Progress(done + 1, len(cases), f"case {done + 1} of {len(cases)}"))
    return Report(title, tuple(rows))


def _measured(
    estimate: npt.NDArray[Any],
    hu: npt.NDArray[Any],
    window: HuWindow,
    body: npt.NDArray[np.bool_],
    device: torch.device,
) -> tuple[Metric, ...]:
    limits = (window.low, window.high)
    return (
        psnr3d(estimate, hu, limits, mask=body),
        ssim3d(estimate, hu, limits, mask=body, device=str(device)),
        mae_hu(estimate, hu, limits, mask=body),
        slice_psnr(estimate, hu, limits),
    )


def whole_volume(codec: Codec, *, tile: int) -> Coding:
    """A codec on volumes of any size, in tiles of an edge of `tile` latent voxels."""

    def coding(x: Tensor) -> Tensor:
        latent = codec.tiled_encode(codec.pad(x), tile=tile, overlap=tile // 3)
        i, p, ell = x.shape[-3:]
        return codec.tiled_decode(latent, tile=tile, overlap=tile // 3)[..., :i, :p, :ell]

    return coding


def as_a_cube(codec: Codec) -> tuple[int, int]:
    """Factor and channels of a latent as long along all axes that holds as many numbers.

    Of a codec of volumes its own; one that makes slices 4 times smaller each way and keeps 4
    channels holds as many numbers as 16 channels of a latent that is 4 times shorter all ways.
    """
    factor = max(codec.factors)
    return factor, max(1, round(codec.numbers_per_voxel * factor**3))


def haar_bands(factor: int, channels: int) -> Coding:
    """A Haar wavelet that keeps `channels` numbers for every ``factor ** 3`` voxels.

    The bands of the lowest frequencies are kept and the others dropped: first the coarsest mean,
    then the details along one axis, along two, along three.

    Parameters
    ----------
    factor, channels : int
        Of the codec that it stands beside; the factor is a power of two.
    """
    wavelet = HaarCodec(levels=factor.bit_length() - 1)
    first = sorted(range(8), key=lambda band: (band.bit_count(), band))
    kept = [*first, *range(8, wavelet.latent_channels)][:channels]
    mask = torch.zeros(wavelet.latent_channels)
    mask[kept] = 1

    def coding(x: Tensor) -> Tensor:
        coder = wavelet.to(x.device)
        i, p, ell = x.shape[-3:]
        bands = coder.encode(coder.pad(x)) * mask.to(x.device)[:, None, None, None]
        return coder.decode(bands)[..., :i, :p, :ell]

    return coding


def resampling(factor: int, channels: int) -> Coding:
    """Fewer voxels, the means of those that they replace, and trilinear interpolation back.

    Parameters
    ----------
    factor, channels : int
        Of the codec that it stands beside: every axis is ``factor / channels ** (1/3)`` times
        shorter, which keeps as many numbers.
    """
    shorter = factor / channels ** (1 / 3)

    def coding(x: Tensor) -> Tensor:
        size = [max(1, round(n / shorter)) for n in x.shape[-3:]]
        small = nn.functional.interpolate(x, size=size, mode="area")
        return nn.functional.interpolate(small, size=x.shape[-3:], mode="trilinear")

    return coding
