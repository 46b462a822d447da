"""The projector for any machine: numba kernels on all processors."""

from napari_cxr3d.xray.cpu.projector import CpuProjector, warm_up

__all__ = ["CpuProjector", "warm_up"]
