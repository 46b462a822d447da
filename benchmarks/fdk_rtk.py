"""RTK's FDK on a problem in a file: run by `benchmarks/fdk.py`, in the interpreter that has RTK.

Needs numpy and itk-rtk alone, so that these need not live beside the program's libraries::

    python benchmarks/fdk_rtk.py PROBLEM.npz RESULT.npz
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np


def main(problem: str, result: str) -> None:
    """Read a problem, solve it by RTK as often as asked, write the volume and the best time.

    RTK's axes are x = L, y = I, z = P.
    """
    import itk
    from itk import RTK

    given = np.load(problem)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(int(given["threads"]))
    geometry: Any = RTK.ThreeDCircularProjectionGeometry.New()
    for yaw in given["yaws"]:
        geometry.AddProjection(float(given["near"]), float(given["far"]), -float(yaw))
    pitch, (_, rows, cols) = float(given["pitch"]), given["integrals"].shape
    kind = itk.Image[itk.F, 3]
    best, volume = np.inf, None
    for _ in range(int(given["repeats"])):
        stack = itk.image_from_array(given["integrals"])
        stack.SetSpacing([pitch, pitch, 1.0])
        stack.SetOrigin([-(cols - 1) / 2 * pitch, -(rows - 1) / 2 * pitch, 0.0])
        i, p, ell = (int(n) for n in given["shape"])
        si, sp, sl = (float(s) for s in given["spacing"])
        empty = itk.image_from_array(np.zeros((p, i, ell), np.float32))
        empty.SetSpacing([sl, si, sp])
        empty.SetOrigin([-(ell - 1) / 2 * sl, -(i - 1) / 2 * si, -(p - 1) / 2 * sp])
        began = time.perf_counter()
        if bool(given["short_scan"]):
            parker = RTK.ParkerShortScanImageFilter[kind].New()
            parker.SetInput(stack)
            parker.SetGeometry(geometry)
            parker.InPlaceOff()
            parker.Update()
            stack = parker.GetOutput()
        fdk = RTK.FDKConeBeamReconstructionFilter[kind].New()
        fdk.SetInput(0, empty)
        fdk.SetInput(1, stack)
        fdk.SetGeometry(geometry)
        fdk.GetRampFilter().SetTruncationCorrection(0.0)
        fdk.GetRampFilter().SetHannCutFrequency(1.0 if bool(given["hann"]) else 0.0)
        fdk.Update()
        best = min(best, time.perf_counter() - began)
        volume = np.array(itk.array_from_image(fdk.GetOutput())).transpose(1, 0, 2)
    np.savez(result, volume=volume, seconds=best, version=version("itk-rtk"))


if __name__ == "__main__":
    main(*sys.argv[1:3])
