"""What the data step does to a volume, beside plain least squares of SciPy on the same rays.

Prints, for crude volumes of synthetic patients (and for a network's own, with a bundle): the
re-projection error at the X-rays that were given and at poses that were not, the PSNR, and the
processor time. Type::

    python benchmarks/consistency.py                          # 2 patients, 1 and 2 views
    python benchmarks/consistency.py --patients 8
    python benchmarks/consistency.py --model FOLDER           # also volumes that a network makes

The X-rays are exact line integrals of the 6 mm volume ("grid"), the same of a 3 mm volume of the
same patient ("fine": the grid cannot show them exactly), and realistic pictures read back by
anatomical anchors ("picture").
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy
from scipy import ndimage

from napari_cxr3d.imaging import Volume, XrayView
from napari_cxr3d.imaging.masks import body_mask
from napari_cxr3d.inference.consistency import Consistency
from napari_cxr3d.inference.drr import DrrRequest, render_drr
from napari_cxr3d.metrics import psnr3d
from napari_cxr3d.metrics.projection import reprojection_error
from napari_cxr3d.phantom import make_thorax
from napari_cxr3d.xray import projector
from napari_cxr3d.xray.attenuation import attenuation_to_hu, hu_to_attenuation
from napari_cxr3d.xray.calibration import approximate_integrals
from napari_cxr3d.xray.conjugate_gradients import reconstruct_backprojection, reconstruct_cg
from napari_cxr3d.xray.cpu.projector import warm_up

Array = npt.NDArray[np.float32]
Kind = Literal["grid", "fine", "picture"]

VOXELS, SPACING_MM, DETECTOR, FIELD_MM = 64, 6.0, 96, 440.0
WINDOW = (-1000.0, 1000.0)
KEV = 70.0
FRONTAL = XrayView(
    detector_shape=(DETECTOR, DETECTOR),
    pixel_mm=FIELD_MM / DETECTOR,
    isocenter_lps=(0.0, 0.0, 0.0),
)
VIEWS = (FRONTAL, replace(FRONTAL, yaw=90.0))
HELD_OUT = tuple(
    replace(FRONTAL, yaw=yaw, pitch=pitch) for yaw, pitch in ((30, 0), (60, 0), (0, 10))
)
ENGINE = projector("cpu")
LSMR_ITERATIONS = 16


@dataclass(frozen=True, eq=False)
class Patient:
    """A truth on the grid, and its line integrals of each kind, shape (2, rows, cols)."""

    truth: Volume
    body: npt.NDArray[np.bool_]
    xrays: dict[Kind, Array]
    held_out: Array


def phantom(seed: int, spacing_mm: float) -> Volume:
    """A synthetic patient whose middle lies at LPS (0, 0, 0)."""
    edge = VOXELS * SPACING_MM
    hu = np.clip(make_thorax(seed, (edge,) * 3, spacing_mm).volume.hu, *WINDOW).astype(np.float32)
    i, p, ell = ((n - 1) / 2 * spacing_mm for n in hu.shape)
    return Volume(hu=hu, spacing_mm=(spacing_mm,) * 3, origin_lps=(-ell, -p, i), synthetic=True)


def patient(seed: int) -> Patient:
    """Draw one, and take its X-rays."""
    truth, fine = phantom(seed, SPACING_MM), phantom(seed, SPACING_MM / 2)
    seen = render_drr(
        DrrRequest(volume=fine, views=VIEWS, appearance="realistic", seed=seed, backend="cpu")
    )
    pictures = [approximate_integrals(p, polarity="trust")[0] for p in seen.pictures]
    xrays: dict[Kind, Array] = {
        "grid": integrals(truth.hu, truth, VIEWS),
        "fine": ENGINE.project(fine, VIEWS),
        "picture": np.stack(pictures),
    }
    return Patient(truth, body_mask(truth), xrays, integrals(truth.hu, truth, HELD_OUT))


def integrals(hu: Array, like: Volume, views: Sequence[XrayView]) -> Array:
    """Line integrals of a volume in HU."""
    return ENGINE.project_attenuation(hu_to_attenuation(hu, KEV), like.grid, views)


def lsmr(hu: Array, case: Patient, measured: Array, views: Sequence[XrayView]) -> Array:
    """SciPy's LSMR on the same projector: least squares, with no prior and no HU window."""
    from scipy.sparse.linalg import LinearOperator, lsmr

    grid, shape = case.truth.grid, measured.shape
    operator = LinearOperator(
        (measured.size, hu.size),
        matvec=lambda x: ENGINE.project_attenuation(
            x.reshape(grid.shape).astype(np.float32), grid, views
        ).ravel(),
        rmatvec=lambda y: ENGINE.backproject(
            y.reshape(shape).astype(np.float32), views, grid
        ).ravel(),
    )
    residual = measured - integrals(hu, case.truth, views)
    with np.errstate(over="ignore"):  # of its estimate of the condition number
        change = lsmr(operator, residual.ravel(), maxiter=LSMR_ITERATIONS, atol=5e-4, btol=5e-4)[0]
    mu = hu_to_attenuation(hu, KEV) + change.reshape(grid.shape).astype(np.float32)
    return attenuation_to_hu(mu, KEV).clip(*WINDOW)


def ours(mode: Literal["soft", "hard"], kind: Kind) -> Callable[..., Array]:
    """The data step."""

    def step(hu: Array, case: Patient, measured: Array, views: Sequence[XrayView]) -> Array:
        consistency = Consistency(
            case.truth.grid, views, measured, np.ones(measured.shape, bool),
            [kind != "picture"] * len(views), mode=mode, engine=ENGINE,
        )  # fmt: skip
        return consistency.project_hu(hu)[0]

    return step


def alone(how: Callable[..., Array]) -> Callable[..., Array]:
    """A volume from the X-rays alone, whatever the start."""

    def make(hu: Array, case: Patient, measured: Array, views: Sequence[XrayView]) -> Array:
        mu = how(measured, views, case.truth.grid, ENGINE)
        return attenuation_to_hu(mu, KEV).clip(*WINDOW)

    return make


def starts(
    cases: Sequence[Patient], folder: Path | None, count: int
) -> Iterator[tuple[str, list[Array]]]:
    """Volumes to begin with, by name, one for every patient."""
    yield (
        "blurred truth",
        [ndimage.gaussian_filter(case.truth.hu, 2.0, mode="nearest") for case in cases],
    )
    others = np.stack([phantom(seed, SPACING_MM).hu for seed in range(900, 906)])
    yield "mean of 6 others", [others.mean(axis=0) for _ in cases]
    if folder is not None:
        yield f"{folder.name}, 8 steps", [network(folder, case, count) for case in cases]


def network(folder: Path, case: Patient, count: int) -> Array:
    """What a network makes of the first views' exact line integrals."""
    import torch

    from napari_cxr3d.inference.sampler import sample
    from napari_cxr3d.models.bundle import open_bundle
    from napari_cxr3d.models.reconstruction import ReconstructionModel, ViewBatch

    model = open_bundle(folder).network()
    assert isinstance(model, ReconstructionModel)
    frames = [view.frame() for view in VIEWS[:count]]
    cameras = np.stack(
        [np.concatenate([f.source, f.origin, f.row_step, f.column_step]) for f in frames]
    )
    ones = np.ones((1, count), np.float32)
    measured = case.xrays["grid"][None, :count]
    batch = ViewBatch(
        *(torch.from_numpy(np.asarray(a, np.float32)) for a in
          (measured, np.ones_like(measured), cameras[None], ones, ones))
    )  # fmt: skip
    with torch.inference_mode():
        condition = model.condition(batch)
        noise = torch.randn((1, *model.latent_shape), generator=torch.Generator().manual_seed(0))
        *_, last = sample(
            lambda x, t: model.predict(x, t, condition), model.process, noise, steps=8
        )
        volume = model.decode(last.x, condition)
    hu: Array = model.window.decode(volume)[0, 0].numpy()
    return hu


def row(
    name: str, act: Callable[..., Array] | None, start: Sequence[Array],
    cases: Sequence[Patient], kind: Kind, count: int,
) -> tuple[float, ...]:  # fmt: skip
    """Measure one method on all patients, print the means."""
    figures = []
    views = VIEWS[:count]
    for hu, case in zip(start, cases, strict=True):
        began = time.process_time()
        result = hu if act is None else act(hu, case, case.xrays[kind][:count], views)
        seconds = time.process_time() - began
        truth_rays = case.xrays["grid" if kind == "picture" else kind][:count]
        figures.append(
            (
                100 * float(reprojection_error(integrals(result, case.truth, views), truth_rays)),
                100 * float(reprojection_error(
                    integrals(result, case.truth, HELD_OUT), case.held_out
                )),
                float(psnr3d(result, case.truth.hu, WINDOW)),
                float(psnr3d(result, case.truth.hu, WINDOW, mask=case.body)),
                seconds,
            )
        )  # fmt: skip
    means = tuple(float(v) for v in np.mean(figures, axis=0))
    at_input, held, whole, body, seconds = means
    print(
        f"| {name} | {at_input:.3g} % | {held:.3g} % | {whole:.2f} | {body:.2f} | "
        f"{1000 * seconds:.0f} ms |", flush=True,
    )  # fmt: skip
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=2)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    warm_up()
    cases = [patient(seed) for seed in range(100, 100 + options.patients)]
    peer = f"SciPy {scipy.__version__} LSMR, {LSMR_ITERATIONS} iterations"
    for count in (1, 2):
        for name, start in starts(cases, options.model, count):
            for kind in ("grid", "fine", "picture"):
                print(f"\n{name}, {count} view{'s' * (count > 1)}, X-rays: {kind}\n")
                print(
                    "| method | error at input | held out | PSNR3D | in the body | processor time |"
                )
                print("|---|--:|--:|--:|--:|--:|")
                arguments: tuple[Any, ...] = (start, cases, kind, count)
                before = row("as it is", None, *arguments)
                mode: Literal["soft", "hard"] = "soft" if kind == "picture" else "hard"
                after = row(f"ours, {mode}", ours(mode, kind), *arguments)
                row(peer, lsmr, *arguments)
                if kind == "grid":
                    row("CG only, from nothing", alone(reconstruct_cg), *arguments)
                    row("back-projection", alone(reconstruct_backprojection), *arguments)
                print(f"\nratio of the errors at the input: {before[0] / after[0]:.1f}")


if __name__ == "__main__":
    main()
