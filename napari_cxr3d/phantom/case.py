"""One synthetic patient: the CT, and everything that is known about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.imaging import Grid, SourceInfo, Volume
from napari_cxr3d.phantom.findings.finding import Finding
from napari_cxr3d.phantom.findings.planning import Request
from napari_cxr3d.phantom.findings.vocabulary import FINDINGS, kind_of
from napari_cxr3d.phantom.measures import Box, boxes_of, cardiothoracic_ratio
from napari_cxr3d.progress import CancelToken, Progress, ProgressCallback
from napari_cxr3d.provenance import Provenance

if TYPE_CHECKING:
    from napari_cxr3d.phantom.painting import Painting
    from napari_cxr3d.phantom.scanner import Scanner
    from napari_cxr3d.phantom.scene import Scene

__all__ = ["Box", "PhantomCase", "make_thoraces", "make_thorax"]

Vec = tuple[float, float, float]

DEFAULT_SIZE_MM = (340.0, 260.0, 340.0)
"""Field of view along (I, P, L): 4.9 million voxels of 2 mm."""

_TOLD = ("sex", "age", "habitus", "phase", "arms", "table", "inspiration", "heart_scale")
_MOST_VOXELS = 1 << 29
_PAINTED_AT_ONCE = 8  # scenes a launch on a GPU


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A synthetic patient.

    Attributes
    ----------
    volume : Volume
        The CT: int16 HU, axes (I, P, L), synthetic.
    labels : ndarray of uint8, shape (I, P, L)
        `napari_cxr3d.phantom.labels.Label` of each voxel.
    finding_bits : ndarray of uint32, shape (I, P, L)
        One bit a kind of finding; `mask` reads one.
    findings : tuple of Finding
        What the patient has.
    boxes : tuple of Box
        Where, one box for each connected piece.
    report : str
        A radiologist's report of it.
    landmarks : mapping of str to tuple of 3 float
        Named points, LPS mm.
    cardiovascular_risk : float
        0 to 1; `napari_cxr3d.phantom.risk` states the function.
    seed : int
        What the patient was made from.
    parameters : mapping
        Sex, age, habitus, contrast phase, scanner... JSON-serialisable.
    """

    volume: Volume
    labels: npt.NDArray[np.uint8]
    finding_bits: npt.NDArray[np.uint32]
    findings: tuple[Finding, ...]
    boxes: tuple[Box, ...]
    report: str
    landmarks: Mapping[str, Vec]
    cardiovascular_risk: float
    seed: int
    parameters: Mapping[str, Any]

    @property
    def label_vector(self) -> dict[str, bool]:
        """Presence of every kind of finding, in the order of `FINDINGS`."""
        present = {finding.name for finding in self.findings}
        return {kind.name: kind.name in present for kind in FINDINGS}

    def mask(self, finding: str) -> npt.NDArray[np.bool_]:
        """Voxels of one kind of finding, shape (I, P, L).

        Raises
        ------
        InvalidInputError
            If there is no such kind.
        """
        mask: npt.NDArray[np.bool_] = (self.finding_bits >> kind_of(finding).bit) & 1 == 1
        return mask

    def provenance(self) -> Provenance:
        """How to make it again."""
        return Provenance(
            operation="phantom", parameters=dict(self.parameters), backend="phantom", seed=self.seed
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable record of all but the voxels."""
        return {
            "kind": "phantom",
            "synthetic": True,
            "seed": self.seed,
            "findings": [_finding_record(finding) for finding in self.findings],
            "labels": self.label_vector,
            "boxes": [asdict(box) for box in self.boxes],
            "landmarks_lps": {name: list(point) for name, point in self.landmarks.items()},
            "cardiovascular_risk": self.cardiovascular_risk,
            "parameters": dict(self.parameters),
            "provenance": self.provenance().to_dict(),
        }


def make_thorax(
    seed: int = 0,
    size_mm: Sequence[float] = DEFAULT_SIZE_MM,
    spacing_mm: float | Sequence[float] = 2.0,
    sex: str | None = None,
    habitus: str | None = None,
    findings: Request = None,
    *,
    age: int | None = None,
    phase: str | None = None,
    arms: str | None = None,
    table: bool | None = None,
    scanner: Scanner | None = None,
    device: str = "cpu",
    threads: int | None = None,
    cancel: CancelToken | None = None,
) -> PhantomCase:
    """Make one synthetic patient.

    The same arguments give the same bytes on every processor. What is not given is drawn from
    the seed. The voxel size does not change the patient, only how finely the patient is seen.

    Parameters
    ----------
    seed : int
        0 or more.
    size_mm : sequence of 3 float
        Field of view along (I, P, L) in mm, centred on mid-chest; a body that is wider is
        cut off, as in a real scan.
    spacing_mm : float or sequence of 3 float
        Voxel spacing, along (I, P, L), in mm.
    sex : {"female", "male"}, optional
        Of the patient.
    habitus : {"slim", "average", "heavy"}, optional
        Of the patient.
    findings : None, str, sequence of str, or mapping, optional
        None for a healthy patient; ``"random"`` for what a cohort has; names, or names with
        severities (0 to 1) or with mappings of severity, side and place. See `FINDINGS`.
    age : int, optional
        In years, 18 to 95.
    phase : {"none", "venous", "ctpa"}, optional
        Contrast phase.
    arms : {"up", "down"}, optional
        Position of the arms.
    table : bool, optional
        Whether the patient lies on a table that is seen.
    scanner : Scanner, optional
        Resolution and noise.
    device : str
        ``"cpu"``, or ``"cuda"`` (``"cuda:1"``...) to paint there.
    threads : int, optional
        Processors to use; all by default.
    cancel : CancelToken, optional
        Looked at while painting.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or findings contradict each other.
    BackendUnavailableError
        If the device is not there.
    Cancelled
        If the token was cancelled.
    """
    (case,) = make_thoraces(
        [seed], size_mm, spacing_mm, sex, habitus, findings, age=age, phase=phase, arms=arms,
        table=table, scanner=scanner, device=device, threads=threads, cancel=cancel,
    )  # fmt: skip
    return case


def make_thoraces(
    seeds: Iterable[int],
    size_mm: Sequence[float] = DEFAULT_SIZE_MM,
    spacing_mm: float | Sequence[float] = 2.0,
    sex: str | None = None,
    habitus: str | None = None,
    findings: Request = "random",
    *,
    age: int | None = None,
    phase: str | None = None,
    arms: str | None = None,
    table: bool | None = None,
    scanner: Scanner | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[PhantomCase]:
    """Make synthetic patients one after the other; on CUDA several are painted at once.

    Parameters and errors are those of `make_thorax`, but that patients have random findings by
    default.

    Yields
    ------
    PhantomCase
        In the order of the seeds.
    """
    grid = _grid(size_mm, spacing_mm)
    numbers = [_checked_seed(seed) for seed in seeds]
    fixed = {"sex": sex, "habitus": habitus, "age": age, "phase": phase, "arms": arms,
             "table": table}  # fmt: skip
    at_once = 1 if device == "cpu" else _PAINTED_AT_ONCE
    for start in range(0, len(numbers), at_once):
        drafts = [
            _Draft(seed, findings, fixed, scanner) for seed in numbers[start : start + at_once]
        ]
        paintings = _paint_all([d.scene for d in drafts], grid, device, threads, cancel)
        for number, (draft, painting) in enumerate(zip(drafts, paintings, strict=True)):
            yield draft.case(painting, grid, threads, cancel)
            if progress is not None:
                done = start + number + 1
                progress(Progress(done, len(numbers), f"phantom {done} of {len(numbers)}"))


def _grid(size_mm: Sequence[float], spacing_mm: float | Sequence[float]) -> Grid:
    """Voxels about the origin of the anatomy's frame, which is mid-chest."""
    size = np.asarray(size_mm, np.float64)
    spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    if size.shape != (3,) or not (np.isfinite(size).all() and (size > 0).all()):
        raise InvalidInputError(
            "The phantom's field of view needs three positive lengths in mm", why=f"it is {size_mm}"
        )
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InvalidInputError(
            "The phantom's voxels need positive spacing in mm", why=f"it is {spacing_mm}"
        )
    counts = np.maximum(1, np.rint(size / spacing))
    if counts.prod() > _MOST_VOXELS:
        raise InvalidInputError(
            "The phantom would not fit into memory",
            why=f"it would have {' x '.join(f'{n:.0f}' for n in counts)} voxels",
            remedy="choose larger voxels or a smaller field of view",
        )
    i, p, ell = (int(n) for n in counts)
    reach = (np.array([ell, p, i]) - 1) / 2 * spacing[::-1]
    origin = (float(-reach[0]), float(-reach[1]), float(reach[2]))
    si, sp, sl = (float(s) for s in spacing)
    return Grid((i, p, ell), (si, sp, sl), origin)


def _checked_seed(seed: int) -> int:
    number = int(seed)
    if number != seed or not 0 <= number < 1 << 31:
        raise InvalidInputError(
            "A phantom's seed is a whole number from 0 to 2147483647", why=f"it is {seed}"
        )
    return number


def _paint_all(
    scenes: Sequence[Scene],
    grid: Grid,
    device: str,
    threads: int | None,
    cancel: CancelToken | None,
) -> list[Painting]:
    kind, _, index = device.partition(":")
    if kind == "cuda" and (not index or index.isdigit()):
        from napari_cxr3d.phantom.cuda import paint_batch

        return paint_batch(scenes, grid, device=int(index or 0))
    if device != "cpu":
        raise InvalidInputError(
            f"A phantom cannot be painted on {device!r}", remedy="choose cpu, cuda, cuda:1..."
        )
    from napari_cxr3d.phantom.painting import paint

    return [paint(scene, grid, threads=threads, cancel=cancel) for scene in scenes]


class _Draft:
    """A patient before the voxels: who it is, what is wrong, and the scene."""

    def __init__(
        self,
        seed: int,
        findings: Request,
        fixed: Mapping[str, Any],
        scanner: Scanner | None,
    ) -> None:
        from napari_cxr3d.phantom.anatomy import Person, build_anatomy
        from napari_cxr3d.phantom.findings import modify_person, paint_findings, plan_findings

        self.seed = seed
        person = Person.sample(seed, **fixed)
        self.plans = plan_findings(findings, seed, phase=fixed["phase"], age=person.age)
        self.person = modify_person(person, self.plans)
        anatomy = build_anatomy(self.person)
        self.findings = paint_findings(anatomy, self.plans)
        self.landmarks = anatomy.landmarks
        self.scene: Scene = anatomy.builder.build()
        self.scanner = scanner or _drawn_scanner(seed)

    def case(
        self,
        painting: Painting,
        grid: Grid,
        threads: int | None,
        cancel: CancelToken | None,
    ) -> PhantomCase:
        """The patient, once the scene is painted."""
        from napari_cxr3d.phantom.report import write_report
        from napari_cxr3d.phantom.risk import cardiovascular_risk
        from napari_cxr3d.phantom.scanner import scan

        hu = scan(
            painting.hu, grid.spacing_mm, self.scanner, self.seed, threads=threads, cancel=cancel
        )
        boxes = tuple(boxes_of(painting.findings, grid, [f.name for f in self.findings]))
        findings = tuple(_placed(finding, self.scene, boxes) for finding in self.findings)
        person = self.person
        ratio = cardiothoracic_ratio(painting.labels)
        return PhantomCase(
            volume=Volume(
                hu,
                grid.spacing_mm,
                grid.origin_lps,
                source=SourceInfo(kind="phantom", description=f"Thorax phantom {self.seed}"),
                synthetic=True,
            ),
            labels=painting.labels,
            finding_bits=painting.findings,
            findings=findings,
            boxes=boxes,
            report=write_report(person, findings, cardiothoracic_ratio=ratio, seed=self.seed),
            landmarks=dict(
                zip(
                    self.landmarks,
                    _where(self.scene, list(self.landmarks.values())),
                    strict=True,
                )
            ),
            cardiovascular_risk=cardiovascular_risk(
                age=person.age,
                sex=person.sex,
                cardiothoracic_ratio=ratio,
                calcium_score=sum(f.measures.get("agatston", 0.0) for f in findings),
            ),
            seed=self.seed,
            parameters={
                "seed": self.seed,
                **{name: getattr(person, name) for name in _TOLD},
                "findings": [asdict(plan) for plan in self.plans],
                "cardiothoracic_ratio": round(ratio, 3),
                "scanner": self.scanner.to_dict(),
                "spacing_mm": list(grid.spacing_mm),
                "shape": list(grid.shape),
            },
        )


def _where(scene: Scene, points: Sequence[Vec]) -> list[Vec]:
    """Points of the shapes' frame in the painted body."""
    from napari_cxr3d.phantom.painting import where_painted

    return [(float(x), float(y), float(z)) for x, y, z in where_painted(scene, points)]


def _placed(finding: Finding, scene: Scene, boxes: Sequence[Box]) -> Finding:
    """The finding with its pieces where they are seen, and the box around its voxels."""
    centers = _where(scene, [part.center_lps for part in finding.parts])
    parts = [
        replace(part, center_lps=center)
        for part, center in zip(finding.parts, centers, strict=True)
    ]
    own = [box for box in boxes if box.finding == finding.name]
    if not own:
        return replace(finding, parts=tuple(parts))
    low = np.min([box.low_lps for box in own], axis=0).tolist()
    high = np.max([box.high_lps for box in own], axis=0).tolist()
    return replace(finding, parts=tuple(parts), box_lps=(tuple(low), tuple(high)))


def _finding_record(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "severity": finding.severity,
        "side": finding.side,
        "place": finding.place,
        "style": finding.style,
        "cause": finding.cause,
        "parts": [asdict(part) for part in finding.parts],
        "measures": dict(finding.measures),
        "box_lps": finding.box_lps,
    }


def _drawn_scanner(seed: int) -> Scanner:
    from napari_cxr3d.phantom.scanner import Scanner

    rng = np.random.default_rng([seed, 31])
    sharp = bool(rng.random() < 0.3)
    return Scanner(
        fwhm_mm=round(float(rng.uniform(0.8, 1.6)), 2),
        slice_mm=round(float(rng.uniform(1.0, 3.0)), 1),
        kernel="sharp" if sharp else "soft",
        noise_hu=round(float(rng.uniform(3.5, 10.0) * (1.4 if sharp else 1.0)), 1),
        streaks=round(float(rng.uniform(0.3, 0.8)), 2),
    )
