"""What an anatomy hands to those who paint disease into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging.frames import FloatArray
from napari_cxr3d.phantom.anatomy.person import Person
from napari_cxr3d.phantom.anatomy.sections import Sections
from napari_cxr3d.phantom.labels import Label
from napari_cxr3d.phantom.scene import SceneBuilder
from napari_cxr3d.phantom.tissues import Bolus

__all__ = ["Anatomy", "Aorta", "Branch", "Dome", "Ellipsoidal", "Fissure", "Side", "Vec"]

Side = Literal["left", "right", "middle"]
Vec = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Branch:
    """A piece of a tree of vessels or airways, from its parent's end to its own.

    Attributes
    ----------
    name : str
        Such as "right lower lobar artery" or "right lower lobe, segment 3".
    points : ndarray, shape (N, 3)
        Centreline, LPS mm.
    radii : ndarray, shape (N,)
        mm.
    generation : int
        0 trunk, 1 main, 2 lobar, 3 segmental, 4 subsegmental, and so on.
    side : {"left", "right", "middle"}
        Of the body.
    lobe : Label or None
        The lobe supplied; None above the lobar branches.
    parent : int
        Index in the same tuple; -1 for a root.
    """

    name: str
    points: FloatArray
    radii: FloatArray
    generation: int
    side: Side
    lobe: Label | None
    parent: int


@dataclass(frozen=True, eq=False)
class Ellipsoidal:
    """Where an organ lies, as an ellipsoid.

    Attributes
    ----------
    center : ndarray, shape (3,)
        LPS mm.
    semi_axes : ndarray, shape (3,)
        mm.
    axes : ndarray, shape (3, 3)
        Directions of the semi-axes, one a column.
    """

    center: FloatArray
    semi_axes: FloatArray
    axes: FloatArray = field(default_factory=lambda: np.eye(3))

    def surface_point(self, direction: FloatArray) -> FloatArray:
        """Where a ray from the centre leaves the surface."""
        towards = np.asarray(direction, np.float64)
        local = self.axes.T @ towards / self.semi_axes
        point: FloatArray = self.center + towards / np.sqrt(local @ local)
        return point


@dataclass(frozen=True, eq=False)
class Aorta:
    """The aorta's centreline.

    Attributes
    ----------
    points : ndarray, shape (N, 3)
        From the valve to below the diaphragm, LPS mm.
    radii : ndarray, shape (N,)
        mm.
    stations : dict of str to int
        Index of "valve", "root", "ascending", "arch", "isthmus", "descending", "hiatus".
    valve_center, valve_normal : ndarray, shape (3,)
        The valve's plane; the normal points along the flow.
    """

    points: FloatArray
    radii: FloatArray
    stations: dict[str, int]
    valve_center: FloatArray
    valve_normal: FloatArray


@dataclass(frozen=True, eq=False)
class Dome:
    """One half of the diaphragm.

    Attributes
    ----------
    apex : tuple of 3 float
        Highest point, LPS mm.
    base : tuple of 3 float
        Middle of its base, LPS mm.
    sections : Sections
        Horizontal sections of what lies below it.
    """

    apex: Vec
    base: Vec
    sections: Sections


@dataclass(frozen=True)
class Fissure:
    """A spherical sheet between two lobes.

    Attributes
    ----------
    center : tuple of 3 float
        Of the sphere, LPS mm.
    radius : float
        mm. Inside the sphere lies the lower lobe, or the middle lobe.
    over : tuple of Label
        The lobes on both sides.
    """

    center: Vec
    radius: float
    over: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A body: its painted shapes, and where everything lies.

    All geometry is given as the shapes are, before the scene's warp.

    Attributes
    ----------
    builder : SceneBuilder
        Holds all painted anatomy; findings paint on.
    person : Person
        Whose body it is.
    bolus : Bolus
        HU of the blood.
    arteries, veins, airways : tuple of Branch
        The pulmonary arteries from the trunk, the pulmonary veins from the left atrium, the
        airways from the trachea.
    aorta : Aorta
        Centreline, stations and valve.
    arch_branches, systemic_veins : dict of str to ndarray, shape (N, 4)
        Centrelines and radii of the arch's branches and of the large veins.
    coronaries : dict of str to ndarray, shape (N, 3)
        "LM", "LAD", "LCx", "RCA": centrelines on the heart's surface.
    organs : dict of str to Ellipsoidal
        "heart", chambers, "liver", "spleen", "stomach", kidneys.
    lungs : dict of str to Sections
        Outlines of "left" and "right" lung, mediastinum and domes not yet taken off.
    fissures : dict of str to Fissure
        "right oblique", "horizontal", "left oblique".
    domes : dict of str to Dome
        "left" and "right".
    lobes : dict of Label to ndarray, shape (N, 3)
        Points strewn evenly through each lobe, at least 5 mm from its surfaces.
    oesophagus : ndarray, shape (N, 3)
        Centreline from above to below.
    spine : ndarray, shape (N, 3)
        Vertebral centres from above to below, as in `vertebrae`.
    vertebrae : tuple of str
        Their names.
    ribs : dict of str to ndarray, shape (N, 3)
        Centrelines of "left 1" to "right 12" from back to front.
    landmarks : dict of str to tuple of 3 float
        Named points, LPS mm.
    half_width_mm : float
        Half the body's width.
    half_depth_mm : float
        Half its depth.
    """

    builder: SceneBuilder
    person: Person
    bolus: Bolus
    arteries: tuple[Branch, ...]
    veins: tuple[Branch, ...]
    airways: tuple[Branch, ...]
    aorta: Aorta
    arch_branches: dict[str, FloatArray]
    systemic_veins: dict[str, FloatArray]
    coronaries: dict[str, FloatArray]
    organs: dict[str, Ellipsoidal]
    lungs: dict[str, Sections]
    fissures: dict[str, Fissure]
    domes: dict[str, Dome]
    lobes: dict[Label, FloatArray]
    oesophagus: FloatArray
    spine: FloatArray
    vertebrae: tuple[str, ...]
    ribs: dict[str, FloatArray]
    landmarks: dict[str, Vec]
    half_width_mm: float
    half_depth_mm: float

    def lung_bounds(self, side: str) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corner of the box around a lung, LPS mm."""
        return self._lung(side).bounds()

    def lung_surface_point(
        self, side: str, height_fraction: float, angle_deg: float
    ) -> tuple[FloatArray, FloatArray]:
        """A point on the pleura and its outward normal.

        Parameters
        ----------
        side : {"left", "right"}
            Which lung.
        height_fraction : float
            0 at the lung's base, 1 at its apex.
        angle_deg : float
            0 lateral, 90 behind, -90 in front, 180 towards the mediastinum.
        """
        return self._lung(side).surface_point(height_fraction, angle_deg, side)

    def lobe_centre(self, lobe: Label) -> FloatArray:
        """The middle of a lobe, LPS mm."""
        if lobe not in self.lobes:
            raise InvalidInputError("This label is no lobe of the lungs", why=f"it is {lobe!r}")
        middle: FloatArray = self.lobes[lobe].mean(axis=0)
        return middle

    def _lung(self, side: str) -> Sections:
        if side not in self.lungs:
            raise InvalidInputError("A lung is left or right", why=f"asked for {side!r}")
        return self.lungs[side]
