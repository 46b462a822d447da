"""The voxel code of the phantom, compiled; importing it imports numba.

Every voxel walks through the shapes whose boxes reach its tile, in painting order, and keeps
its HU, label and findings in registers. The functions are compiled for processors here and
for CUDA in `napari_cxr3d.phantom.cuda`. No fast-math: the results are those of IEEE 754, so
that a seed gives the same bytes on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "TILE",
    "exact",
    "hashed",
    "lattice_noise",
    "paint_tiles",
    "paint_voxel",
    "sort_into_tiles",
    "warp",
]

F = TypeVar("F", bound=Callable[..., Any])

TILE = 4  # voxels along each edge of a tile


def exact(function: F) -> F:
    """Compile by the rules of IEEE 754, and keep the machine code on disk where possible."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # numba's "no locator available"
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


@exact
def warp(x: float, y: float, z: float, scale_mm: float, seed: int) -> tuple[float, float, float]:
    """Displacement along x, y, z in units of the warp's amplitude."""
    x, y, z = x / scale_mm, y / scale_mm, z / scale_mm
    return (
        lattice_noise(x, y, z, seed),
        lattice_noise(x, y, z, seed + 101),
        lattice_noise(x, y, z, seed + 211),
    )


@exact
def sort_into_tiles(
    begin: Any, end: Any, shape: Any, spacing: Any, origin: Any, reach: Any, low: Any, high: Any,
    whole: Any, warp_mm: float, warp_scale_mm: float, seed: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:  # fmt: skip
    """Two passes over all shapes: count what each tile gets, then note it down."""
    count = shape[0] * shape[1] * shape[2]
    still, bent = np.empty((count, 3)), np.empty((count, 3))
    for tile in range(count):
        i, p, ell = tile // (shape[1] * shape[2]), tile // shape[2] % shape[1], tile % shape[2]
        x = origin[0] + ((ell + 0.5) * TILE - 0.5) * spacing[2]
        y = origin[1] + ((p + 0.5) * TILE - 0.5) * spacing[1]
        z = origin[2] - ((i + 0.5) * TILE - 0.5) * spacing[0]
        still[tile, 0], still[tile, 1], still[tile, 2] = x, y, z
        dx, dy, dz = warp(x, y, z, warp_scale_mm, seed)
        bent[tile, 0] = x + warp_mm * dx
        bent[tile, 1] = y + warp_mm * dy
        bent[tile, 2] = z + warp_mm * dz
    first = np.zeros(count + 1, np.int64)
    members = np.empty(0, np.int32)
    for writing in (False, True):
        filled = first[:-1].copy()
        if writing:
            members = np.empty(first[-1], np.int32)
        for n in range(len(begin)):
            centers = bent if whole[n, 8] >= 0 else still
            for i in range(begin[n, 0], end[n, 0] + 1):
                for p in range(begin[n, 1], end[n, 1] + 1):
                    for ell in range(begin[n, 2], end[n, 2] + 1):
                        tile = (i * shape[1] + p) * shape[2] + ell
                        apart = False
                        for axis in range(3):
                            at = centers[tile, axis]
                            if at + reach[axis] < low[n, axis] or at - reach[axis] > high[n, axis]:
                                apart = True
                        if apart:
                            continue
                        if writing:
                            members[filled[tile]] = n
                            filled[tile] += 1
                        else:
                            first[tile + 1] += 1
        if not writing:
            for tile in range(count):
                first[tile + 1] += first[tile]
    return first, members


@exact
def paint_tiles(
    start: int, stop: int, tiles: Any, first: Any, members: Any, spacing: Any, origin: Any,
    reals: Any, whole: Any, profiles: Any, low: Any, high: Any, settings: Any, seed: int,
    hu: Any, labels: Any, findings: Any,
) -> None:  # fmt: skip
    """Paint the voxels of the tiles from `start` to `stop`."""
    for tile in range(start, stop):
        ell0 = tile % tiles[2]
        p0 = (tile // tiles[2]) % tiles[1]
        i0 = tile // (tiles[2] * tiles[1])
        for i in range(i0 * TILE, min((i0 + 1) * TILE, hu.shape[0])):
            for p in range(p0 * TILE, min((p0 + 1) * TILE, hu.shape[1])):
                for ell in range(ell0 * TILE, min((ell0 + 1) * TILE, hu.shape[2])):
                    value, label, bits = paint_voxel(
                        i, p, ell, first[tile], first[tile + 1], members, spacing, origin,
                        reals, whole, profiles, low, high, settings, seed,
                    )  # fmt: skip
                    hu[i, p, ell] = value
                    labels[i, p, ell] = label
                    findings[i, p, ell] = bits


@exact
def paint_voxel(
    i: int, p: int, ell: int, begin: int, end: int, members: Any, spacing: Any, origin: Any,
    reals: Any, whole: Any, profiles: Any, low: Any, high: Any, settings: Any, seed: int,
) -> tuple[float, int, int]:  # fmt: skip
    """HU, label and finding bits of one voxel: the shapes of its tile painted in order."""
    x0 = origin[0] + ell * spacing[2]
    y0 = origin[1] + p * spacing[1]
    z0 = origin[2] - i * spacing[0]
    cell = (spacing[0] + spacing[1] + spacing[2]) / 3.0
    x1, y1, z1 = x0, y0, z0
    if settings[0] > 0.0:
        dx, dy, dz = warp(x0, y0, z0, settings[1], seed)
        x1 += settings[0] * dx
        y1 += settings[0] * dy
        z1 += settings[0] * dz
    hu = settings[2]
    label = 0
    bits = 0
    for k in range(begin, end):
        n = members[k]
        rule_seed = whole[n, 8]
        if rule_seed < 0:
            rule_seed = -rule_seed - 1
            x, y, z = x0, y0, z0
        else:
            x, y, z = x1, y1, z1
        if (whole[n, 4] >> label) & 1 == 0:
            continue
        if (
            x < low[n, 0] - cell or x > high[n, 0] + cell
            or y < low[n, 1] - cell or y > high[n, 1] + cell
            or z < low[n, 2] - cell or z > high[n, 2] + cell
        ):  # fmt: skip
            continue
        distance = _distance(x, y, z, n, cell, reals, whole, profiles)
        beyond = reals[n, 12] * x + reals[n, 13] * y + reals[n, 14] * z - reals[n, 15]
        if beyond > distance:
            distance = beyond
        width = cell
        if reals[n, 18] > width:
            width = reals[n, 18]
        rough = reals[n, 19]
        if distance > 0.5 * width + rough:
            continue
        if rough > 0.0 and distance > -0.5 * width - rough:
            scale = 1.0 / reals[n, 20]
            distance += rough * lattice_noise(x * scale, y * scale, z * scale, rule_seed + 7)
        cover = 0.5 - distance / width
        if cover <= 0.0:
            continue
        if cover > 1.0:
            cover = 1.0
        if reals[n, 24] > -1.0:
            scale = 1.0 / reals[n, 23]
            drawn = _pattern(x * scale, y * scale, z * scale, rule_seed + 13, whole[n, 6])
            share = 0.5 + (drawn - reals[n, 24]) / reals[n, 25]
            if share <= 0.0:
                continue
            if share < 1.0:
                cover *= share
        value = reals[n, 16]
        if reals[n, 21] > 0.0:
            scale = 1.0 / reals[n, 22]
            value += reals[n, 21] * lattice_noise(x * scale, y * scale, z * scale, rule_seed + 29)
        weight = cover * reals[n, 17] * _share_of_thin(n, width, reals, whole)
        blend = whole[n, 5]
        if blend == 0:
            hu += weight * (value - hu)
        elif blend == 1:
            hu += weight * value
        elif blend == 2:
            if value > hu:
                hu += weight * (value - hu)
        elif value < hu:
            hu += weight * (value - hu)
        if cover >= 0.5:
            if whole[n, 3] >= 0:
                label = whole[n, 3]
            if whole[n, 7] >= 0:
                bits |= 1 << whole[n, 7]
    return hu, label, bits


@exact
def _distance(
    x: float, y: float, z: float, n: int, cell: float, reals: Any, whole: Any, profiles: Any
) -> Any:
    """Signed distance to a shape in mm, about; negative inside."""
    shape = whole[n, 0]
    if shape == 0:
        return _to_ellipsoid(x, y, z, n, reals)
    if shape == 1:
        return _to_cone(x, y, z, n, reals)
    if shape == 2:
        return _to_loft(x, y, z, n, reals, whole, profiles)
    if shape == 3:
        dx, dy, dz = x - reals[n, 0], y - reals[n, 1], z - reals[n, 2]
        return abs(math.sqrt(dx * dx + dy * dy + dz * dz) - reals[n, 3]) - reals[n, 4]
    if shape == 5:
        return -_to_ellipsoid(x, y, z, n, reals)
    if shape == 6:
        return -_to_loft(x, y, z, n, reals, whole, profiles)
    return reals[n, 0] * x + reals[n, 1] * y + reals[n, 2] * z - reals[n, 3]


@exact
def _to_ellipsoid(x: float, y: float, z: float, n: int, reals: Any) -> Any:
    """First-order distance: the implicit function over the length of its gradient."""
    dx, dy, dz = x - reals[n, 0], y - reals[n, 1], z - reals[n, 2]
    u = reals[n, 3] * dx + reals[n, 4] * dy + reals[n, 5] * dz
    v = reals[n, 6] * dx + reals[n, 7] * dy + reals[n, 8] * dz
    w = reals[n, 9] * dx + reals[n, 10] * dy + reals[n, 11] * dz
    gx = reals[n, 3] * u + reals[n, 6] * v + reals[n, 9] * w
    gy = reals[n, 4] * u + reals[n, 7] * v + reals[n, 10] * w
    gz = reals[n, 5] * u + reals[n, 8] * v + reals[n, 11] * w
    gradient = math.sqrt(gx * gx + gy * gy + gz * gz)
    radius = math.sqrt(u * u + v * v + w * w)
    if gradient < 1e-9:
        return -1e3
    return radius * (radius - 1.0) / gradient


@exact
def _to_cone(x: float, y: float, z: float, n: int, reals: Any) -> Any:
    ax, ay, az = reals[n, 0], reals[n, 1], reals[n, 2]
    bx, by, bz = reals[n, 3] - ax, reals[n, 4] - ay, reals[n, 5] - az
    dx, dy, dz = x - ax, y - ay, z - az
    length2 = bx * bx + by * by + bz * bz
    t = 0.0
    if length2 > 0.0:
        t = (dx * bx + dy * by + dz * bz) / length2
        if t < 0.0:
            t = 0.0
        elif t > 1.0:
            t = 1.0
    dx -= t * bx
    dy -= t * by
    dz -= t * bz
    radius = reals[n, 6] + t * (reals[n, 7] - reals[n, 6])
    flatness = reals[n, 11]
    if flatness <= 1.0:
        return math.sqrt(dx * dx + dy * dy + dz * dz) - radius
    across = dx * reals[n, 8] + dy * reals[n, 9] + dz * reals[n, 10]
    distance2 = dx * dx + dy * dy + dz * dz
    stretched2 = distance2 + (flatness * flatness - 1.0) * across * across
    steep2 = distance2 + (flatness * flatness * flatness * flatness - 1.0) * across * across
    stretched = math.sqrt(stretched2)
    if stretched < 1e-9:
        return -radius / flatness
    return (stretched - radius) * stretched / math.sqrt(steep2)


@exact
def _to_loft(x: float, y: float, z: float, n: int, reals: Any, whole: Any, profiles: Any) -> Any:
    """First-order distance: the level of the cross-section over its gradient; 1e6 beyond the ends.

    The level is ``sqrt((1 - s) (u^2 + v^2) + s sqrt(u^4 + v^4))`` with u and v the distances
    from the centre in units of the reach and s the squareness: 1 on the outline, less inside.
    """
    at = (z - reals[n, 0]) / reals[n, 1]
    last = whole[n, 2] - 1
    if at < 0.0 or at > last:
        return 1e6
    k = int(at)
    if k >= last:
        k = last - 1
    t = at - k
    row = whole[n, 1] + k
    dcx = profiles[row + 1, 1] - profiles[row, 1]
    dcy = profiles[row + 1, 2] - profiles[row, 2]
    cx = profiles[row, 1] + t * dcx
    cy = profiles[row, 2] + t * dcy
    column = 3 if x >= cx else 4
    da = profiles[row + 1, column] - profiles[row, column]
    a = profiles[row, column] + t * da
    column = 5 if y < cy else 6
    db = profiles[row + 1, column] - profiles[row, column]
    b = profiles[row, column] + t * db
    dsquare = profiles[row + 1, 7] - profiles[row, 7]
    square = profiles[row, 7] + t * dsquare
    u, v = (x - cx) / a, (y - cy) / b
    u2, v2 = u * u, v * v
    around = u2 + v2
    boxed = math.sqrt(u2 * u2 + v2 * v2)
    level = math.sqrt((1.0 - square) * around + square * boxed)
    if level < 1e-6:
        return -1e3
    tilt = square / boxed
    along_u = u * (1.0 - square + tilt * u2) / level
    along_v = v * (1.0 - square + tilt * v2) / level
    gx, gy = along_u / a, along_v / b
    # The slope is that of the outline, where u and v are a level's share of what they are here:
    # beside a pointed end the surface is far, however steep the level is there.
    du, dv = u / level, v / level
    gz = -gx * (dcx + du * da) - gy * (dcy + dv * db)
    gz = (gz + 0.5 * (boxed - around) * dsquare / (level * level)) / reals[n, 1]
    return (level - 1.0) / math.sqrt(gx * gx + gy * gy + gz * gz)


@exact
def _share_of_thin(n: int, width: float, reals: Any, whole: Any) -> Any:
    """What a tube or sheet thinner than its edge leaves of its paint, 0 to 1.

    A soft edge makes what is thin too thick: the paint is thinned so that the integral across
    a tube of radius r, or a sheet of half thickness r, is that of the true shape.
    """
    shape = whole[n, 0]
    if shape == 1:
        radius = 0.5 * (reals[n, 6] + reals[n, 7])
        flatness = reals[n, 11]
        if flatness <= 1.5:
            r = radius / width
            if r >= 1.25:
                return 1.0
            if r >= 0.5:
                return 0.75 + (r - 0.5) / 3.0
            reach = r + 0.5
            return 3.0 * r * r / (reach * reach * reach)
        r = radius / (flatness * width)
    elif shape == 3:
        r = reals[n, 4] / width
    else:
        return 1.0
    if r >= 0.5:
        return 1.0
    return 2.0 * r / ((r + 0.5) * (r + 0.5))


@exact
def hashed(i: int, j: int, k: int, seed: int) -> int:
    """32 random bits of a lattice point, by whole-number arithmetic alone."""
    h = (i * 73856093) ^ (j * 19349663) ^ (k * 83492791) ^ (seed * 40503 + 977)
    h &= 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 0x7FEB352D) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 0x2C1B3C6D) & 0xFFFFFFFF
    h ^= h >> 13
    return h


@exact
def lattice_noise(x: float, y: float, z: float, seed: int) -> float:
    """Smooth random field in [-1, 1] of wavelength about 1 (value noise on a lattice).

    Random values at whole numbers, blended by the quintic of Perlin (SIGGRAPH 2002).
    """
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - i, y - j, z - k
    u = fx * fx * fx * (fx * (fx * 6.0 - 15.0) + 10.0)
    v = fy * fy * fy * (fy * (fy * 6.0 - 15.0) + 10.0)
    w = fz * fz * fz * (fz * (fz * 6.0 - 15.0) + 10.0)
    x00 = _between(hashed(i, j, k, seed), hashed(i + 1, j, k, seed), u)
    x10 = _between(hashed(i, j + 1, k, seed), hashed(i + 1, j + 1, k, seed), u)
    x01 = _between(hashed(i, j, k + 1, seed), hashed(i + 1, j, k + 1, seed), u)
    x11 = _between(hashed(i, j + 1, k + 1, seed), hashed(i + 1, j + 1, k + 1, seed), u)
    y0 = x00 + v * (x10 - x00)
    y1 = x01 + v * (x11 - x01)
    return (y0 + w * (y1 - y0)) / 2147483648.0 - 1.0


@exact
def _between(low: int, high: int, share: float) -> float:
    return low + share * (high - low)


@exact
def _pattern(x: float, y: float, z: float, seed: int, kind: int) -> float:
    if kind >= 2:
        return _cells(x, y, z, seed, kind)
    # The lattices are turned, twice for the second, so that none shows along the axes.
    u, v, w = 0.8 * y + 0.6 * z, 0.36 * y - 0.8 * x - 0.48 * z, 0.64 * z - 0.6 * x - 0.48 * y
    if kind == 1:
        return 1.0 - 5.0 * abs(lattice_noise(u, v, w, seed))
    a, b, c = 0.8 * v + 0.6 * w, 0.36 * v - 0.8 * u - 0.48 * w, 0.64 * w - 0.6 * u - 0.48 * v
    return (
        0.5 * lattice_noise(u, v, w, seed)
        + 0.35 * lattice_noise(1.31 * a, 1.31 * b, 1.31 * c, seed + 1)
        + 0.25 * lattice_noise(2.63 * u, 2.63 * v, 2.63 * w, seed + 2)
    )


@exact
def _cells(x: float, y: float, z: float, seed: int, kind: int) -> float:
    """Of one point strewn in each lattice cell (Worley, SIGGRAPH 1996), the nearest two.

    Cells: 1 at the points, falling by 2 over the distance of a lattice step. Septa: 1 midway
    between two points, falling by 4 over a lattice step by which one is nearer than the other.
    """
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    nearest, second = 16.0, 16.0
    for a in range(i - 1, i + 2):
        for b in range(j - 1, j + 2):
            for c in range(k - 1, k + 2):
                h = hashed(a, b, c, seed)
                dx = a + (h & 1023) / 1024.0 - x
                dy = b + ((h >> 10) & 1023) / 1024.0 - y
                dz = c + ((h >> 20) & 1023) / 1024.0 - z
                distance2 = dx * dx + dy * dy + dz * dz
                if distance2 < nearest:
                    second = nearest
                    nearest = distance2
                elif distance2 < second:
                    second = distance2
    if kind == 3:
        return 1.0 - 4.0 * (math.sqrt(second) - math.sqrt(nearest))
    return 1.0 - 2.0 * math.sqrt(nearest)
