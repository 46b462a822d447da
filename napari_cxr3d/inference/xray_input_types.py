"""What is known, confirmed and found about X-rays that go into a reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Radiograph, XrayView
from napari_cxr3d.inference.xray_input_resampling import turned

if TYPE_CHECKING:
    from napari_cxr3d.models.reconstruction import ViewBatch

__all__ = [
    "PROJECTIONS",
    "InputFinding",
    "InputGuess",
    "PreparedViews",
    "Projection",
    "Severity",
    "XrayInput",
]

FloatImages = npt.NDArray[np.float32]
Projection = Literal["pa", "ap", "lateral-left", "lateral-right", "as-given"]
Severity = Literal["unusual", "wrong"]

PROJECTIONS: tuple[Projection, ...] = get_args(Projection)
"""All projections, the usual one first."""


@dataclass(frozen=True, eq=False)
class XrayInput:
    """One X-ray, and what the user confirmed about it.

    The corrections are applied in this order: inversion, turn, mirror.

    Attributes
    ----------
    radiograph : Radiograph
        As it was read, or projected from a CT.
    projection : {"pa", "ap", "lateral-left", "lateral-right", "as-given"}
        How the rays went: from behind, from in front, or with that side against the
        detector; ``"as-given"`` trusts `Radiograph.view`.
    pitch_mm : tuple of 2 float, optional
        Pixel pitch (row, column) at the detector of the picture as it is stored; that of
        the radiograph, or a guess, when None.
    inverted : bool
        The picture shows bone dark.
    rotation : {0, 90, 180, 270}
        Degrees by which the picture must be turned clockwise to stand upright.
    mirrored : bool
        The upright picture is the mirror image of the usual one: a frontal one shows the
        patient's left on the image's left, a left lateral the chest on the right.
    volume_center_lps : tuple of 3 float, optional
        For ``"as-given"``: the centre of the volume that the picture was projected from,
        where it is known; the view's isocenter when None.

    Raises
    ------
    InvalidInputError
        If the projection, the turn or the pitch cannot be used, the view is not known, or
        line integrals are said to be inverted.
    """

    radiograph: Radiograph
    projection: Projection = "pa"
    pitch_mm: tuple[float, float] | None = None
    inverted: bool = False
    rotation: int = 0
    mirrored: bool = False
    volume_center_lps: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.projection not in PROJECTIONS:
            raise InvalidInputError(
                f"There is no projection called {self.projection!r}",
                remedy=f"choose one of {', '.join(PROJECTIONS)}",
            )
        if self.projection == "as-given" and self.radiograph.view is None:
            raise InvalidInputError(
                "The view of this X-ray is not known",
                why="the file does not tell where the source stood",
                remedy="say whether it is pa, ap, lateral-left or lateral-right",
            )
        if self.rotation not in (0, 90, 180, 270):
            raise InvalidInputError(
                "A picture can be turned by 0, 90, 180 or 270 degrees",
                why=f"the turn is {self.rotation}",
            )
        if self.inverted and self.radiograph.quantity != "display":
            raise InvalidInputError(
                "Line integrals cannot be inverted", why="they grow with what the rays crossed"
            )
        if self.pitch_mm is not None:
            row, column = (float(p) for p in self.pitch_mm)
            if not (np.isfinite([row, column]).all() and min(row, column) > 0):
                raise InvalidInputError(
                    "The pixel pitch must be two positive numbers of mm",
                    why=f"it is {self.pitch_mm}",
                )
            object.__setattr__(self, "pitch_mm", (row, column))

    @property
    def exact(self) -> bool:
        """Whether values and geometry are those of a projection that was computed."""
        return self.projection == "as-given" and self.radiograph.quantity == "line_integral"

    @property
    def known_pitch_mm(self) -> tuple[float, float] | None:
        """Pixel pitch (row, column) as the picture is stored, None where nobody gave one."""
        if self.pitch_mm is not None:
            return self.pitch_mm
        if self.radiograph.pitch_mm is not None:
            return self.radiograph.pitch_mm
        if self.projection == "as-given" and self.radiograph.view is not None:
            return (self.radiograph.view.pixel_mm,) * 2
        return None

    @property
    def upright_pitch_mm(self) -> tuple[float, float] | None:
        """Pixel pitch (row, column) of `upright`."""
        pitch = self.known_pitch_mm
        return pitch[::-1] if pitch is not None and self.rotation in (90, 270) else pitch

    def upright(self) -> FloatImages:
        """The picture with its corrections applied, bone bright, shape (rows, cols)."""
        pixels = self.radiograph.pixels
        if self.inverted:
            low, high = self.radiograph.display_range or (pixels.min(), pixels.max())
            pixels = np.float32(low) + np.float32(high) - pixels
        picture = turned(pixels, self.rotation, mirrored=self.mirrored)
        return np.ascontiguousarray(picture, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable record for provenance, without the pixels."""
        source, view = self.radiograph.source, self.radiograph.view
        return {
            "projection": self.projection,
            "pitch_mm": None if self.known_pitch_mm is None else list(self.known_pitch_mm),
            "inverted": self.inverted,
            "rotation": self.rotation,
            "mirrored": self.mirrored,
            "shape": list(self.radiograph.shape),
            "quantity": self.radiograph.quantity,
            "synthetic": self.radiograph.synthetic,
            "view": None if view is None else view.to_dict(),
            "content_sha256": "" if source is None else source.content_sha256,
        }


@dataclass(frozen=True, eq=False)
class InputGuess:
    """What can be said about an X-ray before its user has said anything.

    Attributes
    ----------
    input : XrayInput
        The guess; to be shown and edited.
    reasons : tuple of str
        One sentence on each thing that was read or guessed.
    """

    input: XrayInput
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class InputFinding:
    """Something about an X-ray that its user should know before it is used.

    Attributes
    ----------
    code : str
        Stable name: what the user accepts, and what is recorded.
    severity : {"unusual", "wrong"}
        What is unusual is told and recorded; what is wrong must be accepted first.
    message, remedy : str
        What was found, and what can be done: sentences.
    index : int
        Which of the X-rays.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    index: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, for provenance."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class PreparedViews:
    """X-rays on the detector of a model, around the centre of its grid at LPS (0, 0, 0).

    Attributes
    ----------
    views : tuple of XrayView
        The exposures, isocenters written out.
    integrals : ndarray of float32, shape (V, rows, cols)
        Line integrals, approximate where they were read from greys; 0 where not `valid`.
    valid : ndarray of bool, shape (V, rows, cols)
        Where the pictures reach, without borders and letters.
    exact : tuple of bool
        Whether the integrals are on their true scale, in their true geometry.
    pictures : ndarray of float32, shape (V, rows, cols)
        What the model was shown, 0 (black) to 1, for people.
    calibrations : tuple of dict or None
        How greys became integrals (`DisplayCalibration.to_dict`); None for exact ones.
    notes : tuple of str
        What was assumed, one sentence each.
    placements : tuple of mapping
        What was cut off each picture and where the rest was put; JSON-serialisable.
    center_lps : tuple of 3 float or None
        Where the grid's centre lies in the frame of the CT that exact views come from.
    """

    views: tuple[XrayView, ...]
    integrals: FloatImages
    valid: npt.NDArray[np.bool_]
    exact: tuple[bool, ...]
    pictures: FloatImages
    calibrations: tuple[dict[str, Any] | None, ...]
    notes: tuple[str, ...]
    placements: tuple[Mapping[str, Any], ...] = ()
    center_lps: tuple[float, float, float] | None = None

    def cameras(self) -> FloatImages:
        """Source, first pixel, row step and column step of each view, shape (V, 12), LPS mm."""
        rows = []
        for view in self.views:
            frame = view.frame()
            steps = (frame.source, frame.origin, frame.row_step, frame.column_step)
            rows.append(np.concatenate(steps))
        return np.asarray(rows, np.float32)

    def to_batch(self) -> ViewBatch:
        """The views as one sample for a network."""
        import torch

        from napari_cxr3d.models.reconstruction import ViewBatch

        return ViewBatch(
            integrals=torch.from_numpy(self.integrals.copy())[None],
            valid=torch.from_numpy(self.valid.astype(np.float32))[None],
            cameras=torch.from_numpy(self.cameras())[None],
            exact=torch.tensor([self.exact], dtype=torch.float32),
            known=torch.ones(1, len(self.views)),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable record for provenance, without the pictures."""
        return {
            "views": [view.to_dict() for view in self.views],
            "exact": list(self.exact),
            "valid_part": [round(float(v.mean()), 4) for v in self.valid],
            "calibrations": list(self.calibrations),
            "placements": [dict(p) for p in self.placements],
            "notes": list(self.notes),
            "center_lps": None if self.center_lps is None else list(self.center_lps),
        }
