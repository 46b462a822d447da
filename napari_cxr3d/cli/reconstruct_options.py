"""The options of ``cxr3d reconstruct``: what is known of the X-rays, and how volumes are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cxr3d.terminal import console
from napari_cxr3d.terminal.command import usage_errors

if TYPE_CHECKING:
    from napari_cxr3d.imaging import Radiograph
    from napari_cxr3d.inference.reconstruct import ReconstructionRequest
    from napari_cxr3d.inference.xray_input import Projection, XrayInput

__all__ = ["DrawingOptions", "FrontalOptions", "LateralOptions"]

ProjectionName = Literal["pa", "ap", "lateral-left", "lateral-right", "as-given"]
Side = Literal["left", "right"]
Turn = Literal["0", "90", "180", "270"]
StartName = Literal["noise", "coarse"]
Consistency = Literal["auto", "off", "soft", "hard"]
Sampler = Literal["auto", "euler", "heun", "dpm++", "stochastic", "ddim", "ddpm"]


def parse_pitch(text: str, option: str) -> tuple[float, float]:
    """Pixel pitch (row, column) in mm from ``"0.4"`` or ``"0.4x0.5"``."""
    try:
        row, *more = (float(part) for part in text.lower().split("x"))
        (column,) = more or [row]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number of mm nor ROWxCOLUMN.", param_hint=option
        ) from None
    return row, column


@dataclass(frozen=True)
class FrontalOptions:
    """What the user knows of the first X-ray; what is not given is read or guessed."""

    projection: Annotated[
        ProjectionName | None,
        typer.Option(
            show_default="read or guessed",
            help="How the rays went; as-given trusts the geometry of a file that cxr3d wrote.",
        ),
    ] = None
    pitch_mm: Annotated[
        str | None,
        typer.Option(metavar="MM|ROWxCOL", show_default="read or guessed", help="Pixel pitch."),
    ] = None
    inverted: Annotated[
        bool | None,
        typer.Option(
            "--inverted/--not-inverted", show_default="guessed", help="Bone is dark in it."
        ),
    ] = None
    rotate: Annotated[
        Turn | None,
        typer.Option(
            metavar="DEGREES",
            show_default="guessed",
            help="Turn it clockwise by 0, 90, 180 or 270 to stand upright.",
        ),
    ] = None
    mirrored: Annotated[
        bool | None,
        typer.Option(
            "--mirrored/--not-mirrored",
            show_default="not mirrored",
            help="The upright picture shows the patient's left on the left.",
        ),
    ] = None

    def inputs(self, path: Path) -> tuple[XrayInput, ...]:
        """The X-rays of a file, as the options and the file say."""
        given = {
            "pitch_mm": None if self.pitch_mm is None else parse_pitch(self.pitch_mm, "--pitch-mm"),
            "inverted": self.inverted,
            "rotation": None if self.rotate is None else int(self.rotate),
            "mirrored": self.mirrored,
        }
        return _inputs(path, self.projection, given)


@dataclass(frozen=True)
class LateralOptions:
    """The second X-ray, and what the user knows of it."""

    lateral: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="A lateral X-ray of the patient."),
    ] = None
    lateral_side: Annotated[
        Side | None,
        typer.Option(
            show_default="read, else left", help="The side that was against the detector."
        ),
    ] = None
    lateral_pitch_mm: Annotated[
        str | None,
        typer.Option(metavar="MM|ROWxCOL", show_default="read or guessed", help="Pixel pitch."),
    ] = None
    lateral_inverted: Annotated[
        bool | None,
        typer.Option(
            "--lateral-inverted/--lateral-not-inverted",
            show_default="guessed",
            help="Bone is dark in it.",
        ),
    ] = None
    lateral_rotate: Annotated[
        Turn | None,
        typer.Option(metavar="DEGREES", show_default="guessed", help="As --rotate."),
    ] = None
    lateral_mirrored: Annotated[
        bool | None,
        typer.Option(
            "--lateral-mirrored/--lateral-not-mirrored",
            show_default="not mirrored",
            help="A left lateral shows the chest's front on the right.",
        ),
    ] = None
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A further X-ray that cxr3d drr or sweep wrote with its JSON file; may be given "
            "several times.",
        ),
    ] = None

    def inputs(self) -> tuple[XrayInput, ...]:
        """The further X-rays, as the options and the files say."""
        found: tuple[XrayInput, ...] = ()
        if self.lateral is not None:
            pitch = self.lateral_pitch_mm
            given = {
                "pitch_mm": None if pitch is None else parse_pitch(pitch, "--lateral-pitch-mm"),
                "inverted": self.lateral_inverted,
                "rotation": None if self.lateral_rotate is None else int(self.lateral_rotate),
                "mirrored": self.lateral_mirrored,
            }
            found += _inputs(self.lateral, self.lateral_side, given)
        elif any(
            option is not None
            for option in (
                self.lateral_side, self.lateral_pitch_mm, self.lateral_inverted,
                self.lateral_rotate, self.lateral_mirrored,
            )
        ):  # fmt: skip
            raise typer.BadParameter("it is needed by the other options.", param_hint="--lateral")
        for path in self.also or ():
            found += _inputs(path, "as-given", {})
        return found


def _inputs(path: Path, said: str | None, given: dict[str, Any]) -> tuple[XrayInput, ...]:
    """Read a file, guess what nobody said, and tell how."""
    from napari_cxr3d.inference.xray_input import guess_input
    from napari_cxr3d.io import read_xrays

    changes = {name: value for name, value in given.items() if value is not None}
    radiographs = read_xrays(path)
    if len(radiographs) > 1 and (changes or said not in (None, "as-given")):
        raise typer.BadParameter(
            f"{path.name} holds {len(radiographs)} views, whose geometry is known already."
        )
    found = []
    for radiograph in radiographs:
        with usage_errors():
            guess = guess_input(radiograph, projection=_projection(said, radiograph))
            found.append(replace(guess.input, **changes))
        notes = radiograph.source.notes if radiograph.source else ()
        for told in (*notes, *(guess.reasons if len(radiographs) == 1 else ())):
            console.note(f"{path.name}: {told}")
    return tuple(found)


def _projection(said: str | None, radiograph: Radiograph) -> Projection | None:
    """What was said of a projection, a side alone meaning a lateral one."""
    from napari_cxr3d.inference.xray_input import PROJECTIONS

    if said in ("left", "right"):
        said = f"lateral-{said}"
    return next((known for known in PROJECTIONS if known == said), None)


@dataclass(frozen=True)
class DrawingOptions:
    """Which model draws, how many volumes, and how."""

    model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="A model of cxr3d models list, or a bundle."),
    ] = "reconstruct-demo"
    samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=64,
            help="How many volumes; more than one give a mean and a standard deviation.",
        ),
    ] = 1
    steps: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, show_default="the model's", help="Steps of the sampler."),
    ] = None
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Sample k is drawn from seed S + k.")
    ] = 0
    sampler: Annotated[
        Sampler, typer.Option(help="auto takes the model's own; see the documentation.")
    ] = "auto"
    start: Annotated[
        StartName,
        typer.Option(help="Start at noise, or half way at the noised first picture."),
    ] = "noise"
    guidance: Annotated[
        float, typer.Option(metavar="G", min=0.0, help="Classifier-free guidance; 1 is none.")
    ] = 1.0
    consistency: Annotated[
        Consistency,
        typer.Option(
            help="Make the volume agree with the X-rays: hard within rounding, soft within the "
            "doubt about the X-ray; auto is hard where all line integrals are exact."
        ),
    ] = "auto"
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=4,
            show_default="when memory runs out",
            help="Decode in tiles of N latent voxels.",
        ),
    ] = None
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODE",
            show_default=False,
            help="Go on in spite of a finding; may be given several times.",
        ),
    ] = None
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps; auto takes the fastest.")
    ] = "auto"

    def request(self, inputs: tuple[XrayInput, ...]) -> ReconstructionRequest:
        """What the inference is asked; no pictures on the way.

        Raises
        ------
        typer.BadParameter
            If a value cannot be used.
        """
        from napari_cxr3d.inference.reconstruct import ReconstructionRequest

        with usage_errors():
            return ReconstructionRequest(
                inputs=inputs,
                model=self.model,
                samples=self.samples,
                steps=self.steps,
                seed=self.seed,
                sampler=self.sampler,
                start=self.start,
                guidance=self.guidance,
                consistency=self.consistency,
                preview_every=0,
                tile="auto" if self.tile is None else self.tile,
                accepted=tuple(self.accept or ()),
            )
