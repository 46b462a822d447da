"""X-rays of a volume while a network trains: rendered from new poses every step, never stored.

On a GPU the views are rendered there, after the batch has been put together. Elsewhere each worker
thread of the feed renders its own sample with one thread of our CPU kernels, which do not hold
Python's lock.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cxr3d_training.data.poses import Poses, camera_rows, pose_rows
from napari_cxr3d.imaging import HU_MAX, HU_MIN, Grid, Volume, XrayView
from napari_cxr3d.workers import available_threads
from napari_cxr3d.xray import Quality, project_basis, projector
from napari_cxr3d.xray.attenuation import (
    DEFAULT_ENERGY_KEV,
    bone_attenuation,
    hu_to_attenuation,
    hu_to_basis,
    water_attenuation,
)

if TYPE_CHECKING:
    import torch

    from napari_cxr3d.xray.simulator import Simulator

__all__ = ["RenderedViews", "ViewRenderer"]

Array = npt.NDArray[Any]
FloatImages = npt.NDArray[np.float32]
Engine = Literal["cpu", "nanodrr"]

_TOKEN = "views_token"  # what a sample leaves in the batch until `finish` renders it


@dataclass(frozen=True, eq=False)
class RenderedViews:
    """Views of one volume.

    Attributes
    ----------
    views : tuple of XrayView
        The exposures.
    integrals : ndarray of float32, shape (V, rows, cols)
        Line integrals, dimensionless.
    pictures : ndarray of float32, shape (V, rows, cols), or None
        Radiographs, 0 to 1; None without a domain.
    cameras : ndarray of float32, shape (V, 12)
        See `poses.camera_rows`.
    poses : ndarray of float32, shape (V, 9)
        See `poses.pose_rows`.
    """

    views: tuple[XrayView, ...]
    integrals: FloatImages
    pictures: FloatImages | None
    cameras: FloatImages
    poses: FloatImages

    def to_sample(self) -> dict[str, Array]:
        """The arrays by name, for a feed."""
        named = {"integrals": self.integrals, "cameras": self.cameras, "poses": self.poses}
        return named if self.pictures is None else {**named, "pictures": self.pictures}


class ViewRenderer:
    """Renders the views of samples; give `sample` and `finish` to a `Feed`.

    A recipe's ``sample(rng)`` calls ``views.sample(volume, rng)`` and adds the result to its own
    arrays; the feed gets ``finish=views.finish``. The batch then holds

    - ``integrals`` float32 [B, V, rows, cols], line integrals;
    - ``pictures`` float32 [B, V, rows, cols], 0 to 1, where a domain is named;
    - ``cameras`` float32 [B, V, 12] and ``poses`` float32 [B, V, 9] (see `poses`).

    Parameters
    ----------
    poses : Poses
        Where from.
    domain : {"drr", "realistic"} or Simulator, optional
        What the pictures look like (see `napari_cxr3d.xray.simulator`); line integrals alone
        when None. Every view of ``"realistic"`` is of a system of its own.
    device : str
        The training device.
    engine : {"cpu", "nanodrr"}, optional
        Who renders; nanodrr on CUDA, our kernels elsewhere.
    quality : {"full", "exact", "preview"}
        See `napari_cxr3d.xray.Projector`.
    energy_kev : float
        Of the line integrals.

    Raises
    ------
    InvalidInputError
        If there is no such domain.
    BackendUnavailableError
        If the engine is not installed.
    """

    def __init__(
        self,
        poses: Poses,
        *,
        domain: str | Simulator | None = None,
        device: str = "cpu",
        engine: Engine | None = None,
        quality: Quality = "full",
        energy_kev: float = DEFAULT_ENERGY_KEV,
    ) -> None:
        self.poses = poses
        self.domain = domain
        self.engine: Engine = engine or ("nanodrr" if device.startswith("cuda") else "cpu")
        self._spectral = domain is not None and domain != "drr"
        self._energy_kev = energy_kev
        if isinstance(domain, str):
            from napari_cxr3d.xray.simulator_domains import domain as domain_named

            domain_named(domain)  # an unknown name is refused now
        if self.engine == "cpu":
            from napari_cxr3d.xray.cpu import CpuProjector

            self._cpu = CpuProjector(quality, energy_kev=energy_kev, threads=1)
            self._device = "cpu"
        else:
            from napari_cxr3d.xray.nanodrr_backend import NanodrrProjector

            projector("nanodrr")  # says so where it is not installed
            self._nanodrr = NanodrrProjector(quality, energy_kev=energy_kev, device=device)
            self._device = str(self._nanodrr.device)
        self._lock = threading.Lock()
        self._tokens = itertools.count()
        self._handed: dict[int, _Handed] = {}
        self._tables: list[torch.Tensor] = []

    def sample(self, volume: Volume, rng: np.random.Generator) -> dict[str, Array]:
        """Draw views of a volume; render them now, or leave that to `finish`.

        Parameters
        ----------
        volume : Volume
            The CT of this sample, as the network shall know it.
        rng : Generator
            The sample's.

        Returns
        -------
        dict of str to ndarray
            To be returned by the sample's function among its own arrays.
        """
        views = self.poses.draw(rng, volume.grid)
        seeds = rng.integers(1 << 31, size=len(views)).tolist()
        if self.engine == "cpu":
            return self.render(volume, views, seeds).to_sample()
        handed = _Handed(self._on_device(volume), volume.grid, views, seeds)
        with self._lock:
            token = next(self._tokens)
            self._handed[token] = handed
        return {
            _TOKEN: np.array(token),
            "cameras": camera_rows(views, volume.grid),
            "poses": pose_rows(views, volume.grid),
        }

    def finish(
        self, batch: dict[str, torch.Tensor], rngs: Sequence[np.random.Generator] = ()
    ) -> dict[str, torch.Tensor]:
        """Render what the samples of a batch left to do, on the device.

        Parameters
        ----------
        batch : dict of str to Tensor
            As the feed collated it.
        rngs : sequence of Generator
            Not used: what is random was drawn by `sample`.
        """
        if _TOKEN not in batch:
            return batch
        import torch

        tokens = batch[_TOKEN].tolist()
        with self._lock:
            handed = [self._handed.pop(token) for token in tokens]
        with torch.no_grad():
            lines = [
                [self._nanodrr.project_tensor(c, one.grid, one.views) for c in one.channels]
                for one in handed
            ]
            integrals = torch.stack([self._integrals(channels) for channels in lines])
        done = {name: value for name, value in batch.items() if name != _TOKEN}
        done["integrals"] = integrals
        if self.domain == "drr":
            done["pictures"] = _stretched(integrals)
        elif self.domain is not None:
            done["pictures"] = self._developed(lines, handed).to(integrals.device)
        return done

    def render(
        self, volume: Volume, views: Sequence[XrayView], seeds: Sequence[int] | int = 0
    ) -> RenderedViews:
        """Given views of a volume, in this thread.

        Parameters
        ----------
        volume : Volume
            The CT.
        views : sequence of XrayView
            Of one detector shape.
        seeds : int or sequence of int
            Of the pictures' systems and noise, one a view.

        Raises
        ------
        InvalidInputError
            If the views differ in detector shape, or there are not as many seeds as views.
        """
        engine = self._cpu if self.engine == "cpu" else self._nanodrr
        views = tuple(views)
        pictures = None
        if self._spectral:
            basis = project_basis(engine, volume, views)
            integrals = self._integrals(basis)
            pictures = self._pictures(basis, views, seeds)
        else:
            integrals = engine.project(volume, views)
            if self.domain is not None:
                pictures = self._pictures(integrals, views, seeds)
        grid = volume.grid
        return RenderedViews(
            views, integrals, pictures, camera_rows(views, grid), pose_rows(views, grid)
        )

    def _pictures(
        self,
        projection: FloatImages | tuple[FloatImages, FloatImages],
        views: Sequence[XrayView],
        seeds: Sequence[int] | int,
    ) -> FloatImages:
        from napari_cxr3d.xray.simulator import simulate

        assert self.domain is not None  # nobody else asks for pictures
        pictures: FloatImages = simulate(projection, views, self.domain, seeds)
        return pictures

    def _developed(self, lines: list[list[torch.Tensor]], handed: list[_Handed]) -> torch.Tensor:
        """Pictures of path lengths on the device: simulated on all processors, [B, V, r, c]."""
        import torch

        def develop(channels: list[FloatImages], view: XrayView, seed: int) -> FloatImages:
            water, bone = channels
            picture: FloatImages = self._pictures((water[None], bone[None]), [view], [seed])[0]
            return picture

        with ThreadPoolExecutor(available_threads(), "develop") as crew:
            rows = []
            for channels, one in zip(lines, handed, strict=True):
                arrays = [channel.cpu().numpy() for channel in channels]
                rows.append(
                    [
                        crew.submit(develop, [array[k] for array in arrays], view, seed)
                        for k, (view, seed) in enumerate(zip(one.views, one.seeds, strict=True))
                    ]
                )
            pictures = np.stack([np.stack([future.result() for future in row]) for row in rows])
        return torch.from_numpy(pictures)

    def _integrals(self, channels: Sequence[Any]) -> Any:
        """Line integrals, of one channel as it is, or of path lengths through water and bone."""
        if len(channels) == 1:
            return channels[0]
        water, bone = channels
        energy = self._energy_kev
        return water * water_attenuation(energy) + bone * bone_attenuation(energy)

    def _on_device(self, volume: Volume) -> tuple[torch.Tensor, ...]:
        """What the renderer reads: attenuation, or the fractions of water and bone."""
        import torch

        if volume.hu.dtype != np.int16:
            return tuple(
                torch.from_numpy(np.ascontiguousarray(v)).to(self._device)
                for v in self._values(volume.hu)
            )
        hu = torch.from_numpy(np.array(volume.hu))  # a copy: torch warns of what is read-only
        if self._device.startswith("cuda"):
            hu = hu.pin_memory()
        index = hu.to(self._device, non_blocking=True).int() - HU_MIN
        return tuple(table[index.clamp(0, len(table) - 1)] for table in self._look_up())

    def _look_up(self) -> list[torch.Tensor]:
        """The channels of every whole HU, on the device."""
        import torch

        with self._lock:
            if not self._tables:
                hu = np.arange(HU_MIN, HU_MAX + 1, dtype=np.float32)
                self._tables = [torch.from_numpy(v).to(self._device) for v in self._values(hu)]
            return self._tables

    def _values(self, hu: Array) -> tuple[FloatImages, ...]:
        if self._spectral:
            return hu_to_basis(hu)
        return (hu_to_attenuation(hu, self._energy_kev),)


@dataclass(frozen=True, eq=False)
class _Handed:
    """What a sample leaves to `finish`: its volume on the device, and the views of it."""

    channels: tuple[torch.Tensor, ...]
    grid: Grid
    views: tuple[XrayView, ...]
    seeds: list[int]


def _stretched(integrals: torch.Tensor) -> torch.Tensor:
    """Each view from its least value to its greatest: the domain ``"drr"`` on the device."""
    low, high = integrals.amin((-2, -1), keepdim=True), integrals.amax((-2, -1), keepdim=True)
    span = high - low
    return (integrals - low) / span.where(span > 0, span.new_ones(()))
