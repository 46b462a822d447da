"""A thorax of ellipsoids: voxels for the projectors, and the exact line integrals to judge them.

An ellipsoid's chord along a ray is the root of a quadratic, so the line integral of a sum
of ellipsoids is known in closed form (the idea of the Shepp-Logan phantom: Shepp and Logan,
IEEE Trans. Nucl. Sci. 21:21-43, 1974). The model is additive: each ellipsoid adds its
attenuation, relative to water, to whatever it lies in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, SourceInfo, Volume, XrayView
from napari_cxr3d.imaging.frames import FloatArray

__all__ = ["Ellipsoid", "EllipsoidPhantom", "thorax_ellipsoids"]

FloatVolume = npt.NDArray[np.float32]

_SLAB_SLICES = 8  # axial slices voxelised at a time: 17 MB of work space at 512 x 512
_RAY_BLOCK = 1 << 16  # rays integrated at a time


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid that adds attenuation to what it lies in.

    Attributes
    ----------
    name : str
        The organ it stands for.
    center_lps : tuple of 3 float
        Centre (x, y, z) in LPS mm.
    semi_axes_mm : tuple of 3 float
        Half lengths along its own x, y and z axes in mm.
    relative_attenuation : float
        What it adds to the attenuation coefficient, in units of water's; negative for
        an organ lighter than its surroundings.
    angles_deg : tuple of 3 float
        Turns about the LPS axes x, then y, then z, in degrees.
    """

    name: str
    center_lps: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    relative_attenuation: float
    angles_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not all(math.isfinite(a) and a > 0 for a in self.semi_axes_mm):
            raise InvalidInputError(
                f"The ellipsoid {self.name!r} needs three positive half lengths in mm",
                why=f"they are {self.semi_axes_mm}",
            )

    @property
    def axes_lps(self) -> FloatArray:
        """Its own x, y and z directions in LPS, one a column, shape (3, 3)."""
        (cx, cy, cz), (sx, sy, sz) = (
            [f(math.radians(a)) for a in self.angles_deg] for f in (math.cos, math.sin)
        )
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
        about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
        about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
        turned: FloatArray = about_z @ about_y @ about_x
        return turned

    @property
    def to_unit_sphere(self) -> FloatArray:
        """Matrix Q with ``|Q (point - center)| <= 1`` inside, shape (3, 3), in 1/mm."""
        matrix: FloatArray = self.axes_lps.T / np.array(self.semi_axes_mm)[:, None]
        return matrix

    @property
    def half_extent_lps(self) -> FloatArray:
        """Half size of its bounding box along LPS x, y, z in mm, shape (3,)."""
        extent: FloatArray = np.linalg.norm(self.axes_lps * np.array(self.semi_axes_mm), axis=1)
        return extent


@dataclass(frozen=True)
class EllipsoidPhantom:
    """A sum of ellipsoids in air, in LPS millimetres.

    Attributes
    ----------
    ellipsoids : tuple of Ellipsoid
        Their order does not matter.
    """

    ellipsoids: tuple[Ellipsoid, ...]

    @property
    def bounds_lps(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner of the bounding box in LPS mm, shape (3,) each."""
        centers = np.array([e.center_lps for e in self.ellipsoids])
        extents = np.array([e.half_extent_lps for e in self.ellipsoids])
        return (centers - extents).min(axis=0), (centers + extents).max(axis=0)

    def grid(
        self,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float] | None = None,
        *,
        margin_mm: float = 4.0,
    ) -> Grid:
        """A grid of `shape` (I, P, L), centred on the phantom.

        Parameters
        ----------
        shape : tuple of 3 int
            Number of voxels along (I, P, L).
        spacing_mm : tuple of 3 float, optional
            Voxel spacing along (I, P, L) in mm; by default as small as holds the whole
            phantom, the same for all three axes.
        margin_mm : float
            Air to leave on each side where the spacing is chosen here.
        """
        low, high = self.bounds_lps
        if spacing_mm is None:
            size = (high - low + 2 * margin_mm)[::-1]
            edge = float(np.max(size / np.array(shape)))
            spacing_mm = (edge, edge, edge)
        center = (low + high) / 2
        half = (np.array(shape) - 1) * np.array(spacing_mm) / 2
        origin = (center[0] - half[2], center[1] - half[1], center[2] + half[0])
        return Grid(shape, spacing_mm, origin)

    def relative_attenuation(self, grid: Grid, *, supersampling: int = 2) -> FloatVolume:
        """Voxel means of the attenuation coefficient in units of water's.

        Along L each voxel's mean is exact; along I and P it is the mean of `supersampling`
        lines each way.

        Parameters
        ----------
        grid : Grid
            Where the voxels lie; what reaches beyond it is cut off.
        supersampling : int
            Lines per voxel along I and along P.

        Returns
        -------
        ndarray of float32, shape (I, P, L)
            0 is air, 1 is water.
        """
        if supersampling < 1:
            raise InvalidInputError(
                "Supersampling needs one line per voxel or more", why=f"it is {supersampling}"
            )
        voxels = np.empty(grid.shape, dtype=np.float32)
        for start in range(0, grid.shape[0], _SLAB_SLICES):
            stop = min(start + _SLAB_SLICES, grid.shape[0])
            steps = np.zeros((stop - start, grid.shape[1], grid.shape[2] + 2))
            for ellipsoid in self.ellipsoids:
                _add_steps(steps, ellipsoid, grid, start, supersampling)
            np.cumsum(steps, axis=2, out=steps)
            voxels[start:stop] = steps[:, :, :-2]
        return voxels

    def attenuation(
        self, grid: Grid, *, water_per_mm: float, supersampling: int = 2
    ) -> FloatVolume:
        """Attenuation coefficient per voxel in 1/mm, float32 (I, P, L).

        Parameters
        ----------
        grid : Grid
            Where the voxels lie.
        water_per_mm : float
            Water's attenuation coefficient at the photon energy in 1/mm.
        supersampling : int
            As for `relative_attenuation`.
        """
        voxels = self.relative_attenuation(grid, supersampling=supersampling)
        voxels *= np.float32(water_per_mm)
        return voxels

    def volume(self, grid: Grid, *, supersampling: int = 2) -> Volume:
        """The phantom as a CT: HU by their definition, ``1000 (relative - 1)``.

        A projector at 70 keV, where the CT scale is linear in the attenuation of water and
        bone alike, reads them back to the same attenuation; so its line integrals are to
        be compared with `line_integrals`. At another energy bone has another contrast.

        Parameters
        ----------
        grid : Grid
            Where the voxels lie.
        supersampling : int
            As for `relative_attenuation`.
        """
        hu = self.relative_attenuation(grid, supersampling=supersampling)
        hu -= 1
        hu *= 1000
        return Volume(
            hu=hu,
            spacing_mm=grid.spacing_mm,
            origin_lps=grid.origin_lps,
            source=SourceInfo(kind="phantom", description="Ellipsoid thorax"),
            synthetic=True,
        )

    def line_integrals(
        self, view: XrayView, grid: Grid | None = None, *, water_per_mm: float
    ) -> FloatArray:
        """Exact line integrals from the source to each pixel's centre.

        Parameters
        ----------
        view : XrayView
            The exposure.
        grid : Grid, optional
            Gives the isocenter where the view names none.
        water_per_mm : float
            Water's attenuation coefficient at the photon energy in 1/mm.

        Returns
        -------
        ndarray of float64, shape (rows, cols)
            Dimensionless: the integral of the attenuation coefficient along the ray.
        """
        frame = view.frame(grid)
        rows, cols = view.detector_shape
        integrals = np.zeros(rows * cols)
        for start in range(0, rows * cols, _RAY_BLOCK):
            pixel = np.arange(start, min(start + _RAY_BLOCK, rows * cols))
            row, col = np.divmod(pixel, cols)
            rays = (
                (frame.origin - frame.source)
                + row[:, None] * frame.row_step
                + col[:, None] * frame.column_step
            )
            lengths = np.linalg.norm(rays, axis=1)
            for ellipsoid in self.ellipsoids:
                chord = _chord_fraction(ellipsoid, frame.source, rays)
                integrals[pixel] += ellipsoid.relative_attenuation * chord * lengths
        return integrals.reshape(rows, cols) * water_per_mm


def _chord_fraction(ellipsoid: Ellipsoid, source: FloatArray, rays: FloatArray) -> FloatArray:
    """Part of each segment ``source + t ray``, t in [0, 1], that lies inside, shape (N,)."""
    to_sphere = ellipsoid.to_unit_sphere
    start = to_sphere @ (source - np.array(ellipsoid.center_lps))
    step = rays @ to_sphere.T
    a = np.einsum("nk,nk->n", step, step)
    b = step @ start
    discriminant = b * b - a * (start @ start - 1.0)
    root = np.sqrt(np.maximum(discriminant, 0.0))
    enter, leave = ((-b - root) / a).clip(0.0, 1.0), ((-b + root) / a).clip(0.0, 1.0)
    fraction: FloatArray = leave - enter
    return fraction


def _add_steps(
    steps: FloatArray, ellipsoid: Ellipsoid, grid: Grid, first: int, supersampling: int
) -> None:
    """Add an ellipsoid to the slices from `first` as differences between neighbours along L.

    A line along L meets the ellipsoid in one interval. The part of each voxel that the
    interval covers rises by fractions at two voxels where it begins and falls at two where
    it ends, so a running sum along L gives voxel means at a cost per line, not per voxel.
    """
    (x0, y0, z0), (si, sp, sl) = grid.origin_lps, grid.spacing_mm
    cx, cy, cz = ellipsoid.center_lps
    _, half_y, half_z = ellipsoid.half_extent_lps
    i_from, i_to = _index_range((z0 - cz) / si - first, half_z / si, steps.shape[0])
    p_from, p_to = _index_range((cy - y0) / sp, half_y / sp, steps.shape[1])
    if i_from >= i_to or p_from >= p_to:
        return
    to_sphere = ellipsoid.to_unit_sphere
    a = float(to_sphere[:, 0] @ to_sphere[:, 0])
    weight = ellipsoid.relative_attenuation / supersampling**2
    offsets = (np.arange(supersampling) + 0.5) / supersampling - 0.5
    for in_i in offsets:
        z = z0 - cz - (first + np.arange(i_from, i_to) + in_i) * si
        for in_p in offsets:
            y = y0 - cy + (np.arange(p_from, p_to) + in_p) * sp
            start = (
                z[:, None, None] * to_sphere[:, 2] + y[None, :, None] * to_sphere[:, 1]
            )  # (i, p, 3), on the unit sphere's scale, at the ellipsoid's centre along x
            b = start @ to_sphere[:, 0]
            discriminant = b * b - a * (np.einsum("ipk,ipk->ip", start, start) - 1.0)
            i, p = np.nonzero(discriminant > 0)
            middle, root = -b[i, p] / a, np.sqrt(discriminant[i, p]) / a
            for sign in (-1.0, 1.0):
                edge = ((cx + middle + sign * root - x0) / sl + 0.5).clip(0, steps.shape[2] - 2)
                voxel = edge.astype(np.intp)
                part = edge - voxel
                # Each (i, p) occurs once, so plain indexed addition drops nothing.
                steps[i + i_from, p + p_from, voxel] -= sign * weight * (1 - part)
                steps[i + i_from, p + p_from, voxel + 1] -= sign * weight * part


def _index_range(center: float, half: float, size: int) -> tuple[int, int]:
    """Voxels that an interval touches, as a half-open range within [0, size]."""
    low, high = math.floor(center - half), math.ceil(center + half)
    return max(low, 0), min(high + 1, size)


# Relative attenuation is set so that the sums read as tissue on the Hounsfield scale:
# fat -100, muscle 40, lung -760, heart 40, bone 400 to 800 (at the place where each lies).
_BODY = (
    Ellipsoid("skin and fat", (0, 0, 0), (165, 112, 172), 0.90),
    Ellipsoid("muscle", (0, 0, 0), (150, 97, 160), 0.14),
    Ellipsoid("right lung", (-74, 0, 5), (60, 82, 122), -0.80),
    Ellipsoid("left lung", (72, 0, 12), (60, 82, 114), -0.80),
    Ellipsoid("heart", (50, -26, -34), (34, 36, 42), 0.80, (0, 0, 25)),
    Ellipsoid("aortic arch", (38, 10, 48), (13, 26, 15), 0.80, (0, 0, 20)),
    Ellipsoid("liver dome", (-76, -8, -86), (36, 46, 26), 0.84),
    Ellipsoid("stomach bubble", (58, -14, -122), (26, 24, 12), -0.95),
    Ellipsoid("trachea", (0, -4, 108), (8, 8, 34), -1.00),
    Ellipsoid("spine", (0, 66, 0), (17, 18, 120), 0.50),
    Ellipsoid("sternum", (0, -84, 20), (14, 6, 60), 0.40),
    Ellipsoid("right clavicle", (-52, -52, 118), (38, 5, 6), 0.70, (0, 12, -14)),
    Ellipsoid("left clavicle", (52, -52, 118), (38, 5, 6), 0.70, (0, -12, 14)),
    Ellipsoid("nodule in the right upper lobe", (-70, 18, 68), (9, 9, 9), 0.80),
    Ellipsoid("nodule in the right middle lobe", (-98, -30, -18), (5, 5, 5), 0.80),
    Ellipsoid("nodule in the left lower lobe", (96, 34, -40), (7, 6, 8), 0.80),
)


def _ribs() -> tuple[Ellipsoid, ...]:
    """Five ribs a side, along the wall between lung and muscle, lower in front."""
    ribs = []
    for side, name in ((-1, "right"), (1, "left")):
        for k, z in enumerate((-70.0, -35.0, 0.0, 35.0, 70.0)):
            narrowing = math.sqrt(1 - (z / 172) ** 2)
            angle = math.radians(35)  # behind the side of the chest
            x, y = 144 * math.cos(angle) * narrowing, 92 * math.sin(angle) * narrowing
            tangent = math.degrees(math.atan2(92 * math.cos(angle), -144 * math.sin(angle)))
            ribs.append(
                Ellipsoid(
                    f"{name} rib {k + 1}",
                    (side * x, y, z),
                    (32, 4.5, 6),
                    0.60,
                    (0, side * 14, side * tangent),
                )
            )
    return tuple(ribs)


def thorax_ellipsoids(*, seed: int | None = None) -> EllipsoidPhantom:
    """A thorax of 26 ellipsoids, unlike its mirror image in every direction.

    Heart, aortic arch and stomach bubble lie left, liver right, spine behind, sternum in
    front, trachea and clavicles above. It fills 330 x 224 x 344 mm (x, y, z) about the
    origin of LPS.

    Parameters
    ----------
    seed : int, optional
        Varies sizes by up to 6 % and places by up to 3 mm inside the chest, the same way
        for the same seed; None gives the nominal anatomy.
    """
    organs = _BODY + _ribs()
    if seed is None:
        return EllipsoidPhantom(organs)
    random = np.random.default_rng(seed)
    varied = list(organs[:2])
    for organ in organs[2:]:
        scale = random.uniform(0.94, 1.06, size=3)
        shift = random.uniform(-3.0, 3.0, size=3)
        x, y, z = np.add(organ.center_lps, shift).tolist()
        a, b, c = np.multiply(organ.semi_axes_mm, scale).tolist()
        varied.append(replace(organ, center_lps=(x, y, z), semi_axes_mm=(a, b, c)))
    return EllipsoidPhantom(tuple(varied))
