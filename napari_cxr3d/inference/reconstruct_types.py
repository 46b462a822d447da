"""What is asked of a reconstruction, how far it has come, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Volume
from napari_cxr3d.inference.xray_input_types import InputFinding, PreparedViews, XrayInput
from napari_cxr3d.provenance import Provenance

if TYPE_CHECKING:
    from napari_cxr3d.inference.consistency import ConsistencyRecord, Reprojection

__all__ = [
    "CONSISTENCY_MODES",
    "DEFAULT_MODEL",
    "STARTS",
    "ConsistencyMode",
    "ReconstructionRequest",
    "ReconstructionResult",
    "ReconstructionState",
    "RunEstimate",
    "Stage",
    "Start",
]

Start = Literal["noise", "coarse"]
ConsistencyMode = Literal["auto", "off", "soft", "hard"]
Precision = Literal["auto", "float32", "bfloat16"]
Stage = Literal["model", "coarse", "sampling", "consistency", "done"]

DEFAULT_MODEL = "reconstruct-demo"
STARTS: tuple[Start, ...] = get_args(Start)
CONSISTENCY_MODES: tuple[ConsistencyMode, ...] = get_args(ConsistencyMode)

MOST_SAMPLES = 64
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_SMALLEST_TILE = 4


@dataclass(frozen=True, eq=False)
class ReconstructionRequest:
    """Which X-rays become a volume, by which model, and how.

    Attributes
    ----------
    inputs : tuple of XrayInput
        One X-ray or more of one patient, with what the user confirmed about them.
    model : str
        A model's name, or the path of a bundle's folder or zip.
    samples : int
        How many volumes are drawn; more than one give a mean and a standard deviation.
    steps : int or None
        Steps of the sampler; those that the model was made for when None.
    seed : int
        Sample k is drawn from ``seed + k``, however many are drawn.
    sampler : str
        ``"auto"`` takes the model's own; see `napari_cxr3d.inference.sampler.samplers_for`.
    start : {"noise", "coarse"}
        Where the sampler starts: at noise, or half way, at the noised first picture.
    guidance : float
        Scale of classifier-free guidance; 1 is none.
    consistency : {"auto", "off", "soft", "hard"}
        How the volume is made to agree with the X-rays; auto is hard where all line
        integrals are exact (DRRs), and soft otherwise.
    preview_every : int
        Steps between previews; 0 shows none.
    tile : int, "auto" or None
        Edge in latent voxels of the tiles that a volume is decoded in; None decodes it
        whole, auto only tiles when memory ran out.
    accepted : tuple of str
        Codes of findings that the user knows and accepts.
    dtype : {"auto", "float32", "bfloat16"}
        In what the networks compute; auto is bfloat16 on CUDA, float32 elsewhere.
        Volumes are always decoded in float32.
    compile : bool
        Compile the network first: a minute once, for many samples.

    Raises
    ------
    InvalidInputError
        If a value cannot be used.
    """

    inputs: tuple[XrayInput, ...]
    model: str = DEFAULT_MODEL
    samples: int = 1
    steps: int | None = None
    seed: int = 0
    sampler: str = "auto"
    start: Start = "noise"
    guidance: float = 1.0
    consistency: ConsistencyMode = "auto"
    preview_every: int = 1
    tile: int | Literal["auto"] | None = "auto"
    accepted: tuple[str, ...] = ()
    dtype: Precision = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "accepted", tuple(self.accepted))
        if not self.inputs:
            raise InvalidInputError("There is no X-ray to make a volume from", remedy="give one")
        _require_number("number of samples", self.samples, 1, MOST_SAMPLES)
        if self.steps is not None:
            _require_number("number of steps", self.steps, 1)
        _require_number("seed", self.seed, 0, 2**63 - 1 - MOST_SAMPLES)
        _require_number("number of steps between previews", self.preview_every, 0)
        if isinstance(self.tile, int):
            _require_number("edge of a tile", self.tile, _SMALLEST_TILE)
        elif self.tile not in ("auto", None):
            raise InvalidInputError("The edge of a tile is a number of latent voxels, auto or None")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InvalidInputError(
                "The guidance must be 0 or more", why=f"it is {self.guidance:g}"
            )
        _require_known("start", self.start, STARTS)
        _require_known("consistency", self.consistency, CONSISTENCY_MODES)
        _require_known("dtype", self.dtype, _PRECISIONS)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each sample."""
        return tuple(self.seed + k for k in range(self.samples))

    def to_dict(self) -> dict[str, Any]:
        """All settings but the pictures, JSON-serialisable."""
        return {
            "inputs": [_input_record(given) for given in self.inputs],
            "samples": self.samples,
            "seeds": list(self.seeds),
            "start": self.start,
            "guidance": self.guidance,
            "accepted": list(self.accepted),
        }


def _input_record(given: XrayInput) -> dict[str, Any]:
    radiograph = given.radiograph
    return {
        "projection": given.projection,
        "pitch_mm": None if given.pitch_mm is None else list(given.pitch_mm),
        "inverted": given.inverted,
        "rotation": given.rotation,
        "mirrored": given.mirrored,
        "quantity": radiograph.quantity,
        "synthetic": radiograph.synthetic,
        "shape": list(radiograph.shape),
    }


def _require_number(what: str, value: object, low: int, high: int | None = None) -> None:
    if type(value) is int and low <= value and (high is None or value <= high):
        return
    within = f"{low} or more" if high is None else f"between {low} and {high}"
    raise InvalidInputError(f"The {what} must be a whole number, {within}", why=f"it is {value}")


def _require_known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInputError(
            f"There is no {what} called {value!r}", remedy=f"choose one of {', '.join(known)}"
        )


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take, before it begins.

    Attributes
    ----------
    bytes : int
        Peak memory of weights and activations, beyond what the program holds already.
    free_bytes : int
        What is free on the device.
    seconds : float
        Expected duration, without loading the model.
    advice : tuple of str
        What to change where it will not fit or will take long; empty where all is well.
    evaluations : int
        How often the network runs.
    """

    bytes: int
    free_bytes: int
    seconds: float
    advice: tuple[str, ...] = ()
    evaluations: int = 0

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.bytes <= self.free_bytes


@dataclass(frozen=True, eq=False)
class ReconstructionResult:
    """SYNTHETIC volumes, and how far they agree with the X-rays.

    Their grids are centred at LPS (0, 0, 0).

    Attributes
    ----------
    samples : tuple of Volume
        One volume for each seed, in HU.
    mean, std : Volume or None
        Mean and standard deviation over the samples in HU; None for one sample.
    coarse : Volume or None
        The first picture: what one pass of the network expects; None where it has none.
    prepared : PreparedViews
        What the model was shown.
    reprojections : tuple of Reprojection
        How each sample agrees with the X-rays.
    mean_reprojection : Reprojection or None
        The same of the mean.
    coarse_reprojection : Reprojection or None
        The same of the first picture, which nothing made consistent.
    consistency : tuple of ConsistencyRecord
        What making each sample consistent did; empty where that was off.
    findings : tuple of InputFinding
        What was unusual about the X-rays.
    provenance : Provenance
        Everything that shaped the result.
    card : dict
        What the model says of itself: name, version, licence, limits and more.
    timings : dict of str to float
        Seconds of each stage, and of all.
    """

    samples: tuple[Volume, ...]
    mean: Volume | None
    std: Volume | None
    coarse: Volume | None
    prepared: PreparedViews
    reprojections: tuple[Reprojection, ...]
    mean_reprojection: Reprojection | None
    coarse_reprojection: Reprojection | None
    consistency: tuple[ConsistencyRecord, ...]
    findings: tuple[InputFinding, ...]
    provenance: Provenance
    card: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def volume(self) -> Volume:
        """The first sample."""
        return self.samples[0]

    @property
    def reprojection(self) -> Reprojection:
        """How the first sample agrees with the X-rays."""
        return self.reprojections[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each sample."""
        return tuple(self.provenance.parameters["seeds"])


@dataclass(frozen=True, eq=False)
class ReconstructionState:
    """How far a reconstruction has come.

    Attributes
    ----------
    stage : {"model", "coarse", "sampling", "consistency", "done"}
        What it does, or has just done where there is a preview.
    sample, samples : int
        The sample that is worked on, from 0, and how many there will be.
    batch : int
        How many samples, from that one on, are drawn at once.
    step, steps : int
        Finished steps of that sample, and all.
    preview : Volume or None
        The newest picture of that sample.
    message : str
        A short phrase for the user.
    elapsed_s : float
        Seconds since the start.
    result : ReconstructionResult or None
        Everything, in the last state.
    """

    stage: Stage
    sample: int = 0
    samples: int = 1
    batch: int = 1
    step: int = 0
    steps: int = 0
    preview: Volume | None = None
    message: str = ""
    elapsed_s: float = 0.0
    result: ReconstructionResult | None = None

    @property
    def fraction(self) -> float:
        """Finished part of the whole, 0 to 1, for a progress bar."""
        if self.stage == "done":
            return 1.0
        done = self.sample + (self.batch * self.step / self.steps if self.steps else 0.0)
        return min(1.0, done / self.samples)
