"""Whether the same anatomy lights up: landmarks of one picture looked for on another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr3d_training.evaluation.reconstruct_store import network_sha256
from cxr3d_training.evaluation.world_model_scenes import CONTEXTS, OrbitScene
from napari_cxr3d.imaging import XrayView
from napari_cxr3d.inference.orbit_picture import OrbitPicture
from napari_cxr3d.inference.similarity import (
    PatchFeatures,
    epipolar_band,
    map_of_template,
    patch_features_of,
    raw_patches,
)
from napari_cxr3d.inference.world_models import LoadedWorldModel
from napari_cxr3d.metrics import Metric, Row
from napari_cxr3d.models.orbit_model import OrbitModel

__all__ = [
    "PAIRS",
    "Landmarks",
    "Lens",
    "RawLens",
    "TokenLens",
    "common_landmarks",
    "landmark_rows",
    "self_match_rows",
    "tracking_rows",
]

DRR, XRAY = CONTEXTS
PAIRS = {"DRR to DRR": (DRR, DRR), "DRR to X-ray": (DRR, XRAY), "X-ray to DRR": (XRAY, DRR)}
"""What is clicked and what is searched, of another patient."""

_RAW_PARTS = 8  # windows across the detector: 55 mm of 440
SAME_PLACE, CHANCE = "same place", "chance"

Places = npt.NDArray[np.float64]


class Lens(ABC):
    """A way to make features of pictures."""

    @abstractmethod
    def features(self, pictures: Sequence[OrbitPicture]) -> tuple[PatchFeatures, ...]:
        """Of each picture."""


@dataclass(frozen=True, eq=False)
class TokenLens(Lens):
    """The tokens of a world model, as the program compares them."""

    loaded: LoadedWorldModel

    @classmethod
    def of(cls, label: str, model: OrbitModel) -> TokenLens:
        """Of a model on its device."""
        device = str(next(model.parameters()).device)
        return cls(LoadedWorldModel(model, label, "", network_sha256(model), {}, device))

    def features(self, pictures: Sequence[OrbitPicture]) -> tuple[PatchFeatures, ...]:
        """By the encoder, with the program's defaults."""
        return patch_features_of(pictures, self.loaded)


@dataclass(frozen=True)
class RawLens(Lens):
    """Normalised cross-correlation of the pixels themselves."""

    def features(self, pictures: Sequence[OrbitPicture]) -> tuple[PatchFeatures, ...]:
        """Windows about every pixel, of as many pixels whatever a pixel measures."""
        return tuple(
            raw_patches(picture, side_mm=picture.view.pixel_mm * picture.shape[1] / _RAW_PARTS)
            for picture in pictures
        )


@dataclass(frozen=True)
class Landmarks:
    """Which landmarks are looked for.

    Attributes
    ----------
    used, held_out : tuple of str
        Those that the training may have used, and those that it did not.
    left_out : tuple of str
        Those that do not lie on the detector in all patients.
    hit_mm : float
        Within which one counts as found.
    """

    used: tuple[str, ...]
    held_out: tuple[str, ...]
    left_out: tuple[str, ...]
    hit_mm: float = 20.0

    @property
    def names(self) -> tuple[str, ...]:
        """All that are looked for."""
        return self.used + self.held_out


def common_landmarks(
    scenes: Sequence[OrbitScene], held_out: Sequence[str] = (), hit_mm: float = 20.0
) -> Landmarks:
    """Landmarks of all patients that lie on their frontal detectors, a pixel within the edge."""
    shared = [name for name in scenes[0].points if all(name in s.points for s in scenes)]
    seen = np.ones(len(shared), bool)
    for scene in scenes:
        for view in (scene.stance, scene.stage.views[scene.stage.front]):
            seen &= scene.on_detector(shared, view, margin=1.0)
    names = [name for name, inside in zip(shared, seen, strict=True) if inside]
    every = dict.fromkeys(name for scene in scenes for name in scene.points)
    return Landmarks(
        tuple(name for name in names if name not in held_out),
        tuple(name for name in names if name in held_out),
        tuple(name for name in every if name not in names),
        hit_mm,
    )


def picture_of(view: XrayView, pixels: npt.NDArray[np.float32], *, exact: bool) -> OrbitPicture:
    """A picture whose pixels are those of its view's detector."""
    pixels = np.ascontiguousarray(pixels)
    return OrbitPicture(
        pixels=pixels,
        valid=np.ones(pixels.shape, bool),
        view=view,
        exact=exact,
        integrals=pixels,
        affine=np.eye(2, 3),
        source_shape=view.detector_shape,
        synthetic=True,
    )


def _stood(scene: OrbitScene, context: str) -> OrbitPicture:
    return picture_of(scene.stance, scene.stood[context], exact=context == DRR)


def landmark_rows(
    lenses: Mapping[str, Lens],
    scenes: Sequence[OrbitScene],
    landmarks: Landmarks,
    queries: int,
    *,
    step: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Landmarks of other patients' frontal pictures looked for on each patient's.

    Every patient stands and is exposed somewhat otherwise; see `OrbitScene.stance`.

    Parameters
    ----------
    lenses : mapping of str to Lens
        Features by name.
    scenes : sequence of OrbitScene
        The patients, two or more.
    landmarks : Landmarks
        What is looked for.
    queries : int
        Other patients, the next ones in order, on whose picture each landmark is clicked.
    step : callable
        Called before every patient; may raise to stop.

    Returns
    -------
    by_method, by_landmark : dict of str to list of Row
        A row a patient for every lens and pair, for the same place, and for chance; and for
        every landmark with the errors of all lenses.
    """
    names = landmarks.names
    queries = min(queries, len(scenes) - 1)
    places = [scene.places(names, scene.stance) for scene in scenes]
    templates: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = {}
    for scene, at in zip(scenes, places, strict=True):
        step()
        for label, lens in lenses.items():
            for context in CONTEXTS:
                (features,) = lens.features([_stood(scene, context)])
                templates.setdefault((label, context), []).append(features.at(at))
    by_method: dict[str, list[Row]] = {}
    by_landmark: dict[str, list[Row]] = {}
    for k, scene in enumerate(scenes):
        step()
        asked = [(k + 1 + q) % len(scenes) for q in range(queries)]
        errors: dict[str, npt.NDArray[np.float64]] = {}
        for label, lens in lenses.items():
            targets = {c: lens.features([_stood(scene, c)])[0] for c in CONTEXTS}
            for pair, (clicked, searched) in PAIRS.items():
                errors[f"{label}, {pair}"] = np.array([
                    _distances(
                        [map_of_template(t, targets[searched]).peak
                         for t in templates[label, clicked][other]],
                        places[k], scene.stance,
                    )
                    for other in asked
                ])  # fmt: skip
        same = np.array([_distances(places[other], places[k], scene.stance) for other in asked])
        for pair in PAIRS:
            errors[f"{SAME_PLACE}, {pair}"] = same
        for method, found in errors.items():
            by_method.setdefault(method, []).append(
                Row(scene.case, scene.patient, method, _figures(found, landmarks))
            )
        by_method.setdefault(CHANCE, []).append(
            Row(scene.case, scene.patient, CHANCE, _chance(places[k], scene.stance, landmarks))
        )
        for n, name in enumerate(names):
            told = f"{name} (held out)" if name in landmarks.held_out else name
            metrics = tuple(
                Metric(
                    method, float(found[:, n].mean()),
                    f"mean distance from the peak to the landmark, {method}, at the isocenter",
                    "mm", higher_is_better=False,
                )
                for method, found in errors.items() if not method.startswith(SAME_PLACE)
            )  # fmt: skip
            by_landmark.setdefault(told, []).append(Row(scene.case, scene.patient, told, metrics))
    return by_method, by_landmark


def tracking_rows(
    lenses: Mapping[str, Lens],
    scenes: Sequence[OrbitScene],
    landmarks: Landmarks,
    angles: int,
    *,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[Row]]:
    """Landmarks of a patient's frontal DRR looked for on DRRs from elsewhere.

    Each view is searched by itself: over the whole picture, and in the epipolar band, the only
    place where a clicked point can lie in a view whose geometry is known.

    Parameters
    ----------
    lenses, scenes, landmarks, step
        See `landmark_rows`.
    angles : int
        How many of the stage's angles, spread evenly, 0 left out.
    """
    stage, names = scenes[0].stage, landmarks.names
    turned = [k for k, yaw in enumerate(stage.yaws) if yaw != 0]
    chosen = sorted({turned[round(at)] for at in np.linspace(0, len(turned) - 1, angles)})
    rows: dict[str, list[Row]] = {}
    for scene in scenes:
        step()
        front = stage.views[stage.front]
        clicks = scene.places(names, front)
        truths = np.stack([scene.places(names, stage.views[k]) for k in chosen])
        pictures = [
            picture_of(stage.views[k], scene.integrals[k], exact=True)
            for k in (stage.front, *chosen)
        ]
        bands = [[epipolar_band(front, click, stage.views[k]) for click in clicks] for k in chosen]
        found: dict[str, npt.NDArray[np.float64]] = {}
        for label, lens in lenses.items():
            templates = lens.features(pictures[:1])[0].at(clicks)
            whole, banded = [], []
            for n, picture in enumerate(pictures[1:]):
                (target,) = lens.features([picture])
                whole.append([map_of_template(t, target).peak for t in templates])
                banded.append([
                    map_of_template(t, target, band=band).peak
                    for t, band in zip(templates, bands[n], strict=True)
                ])  # fmt: skip
            found[f"{label}, whole picture"] = _distances(whole, truths, front)
            found[f"{label}, epipolar band"] = _distances(banded, truths, front)
        found[SAME_PLACE] = _distances(np.broadcast_to(clicks, truths.shape), truths, front)
        middles = [[band.ends.mean(axis=0) for band in of_view] for of_view in bands]
        found["middle of the band"] = _distances(middles, truths, front)
        for method, errors in found.items():
            metrics = _figures(errors, landmarks)
            metrics += tuple(
                Metric(
                    f"error_{yaw:g}", float(np.median(errors[n])),
                    f"median over the landmarks at yaw {yaw:g}, at the isocenter", "mm",
                    higher_is_better=False,
                )
                for n, yaw in ((n, stage.yaws[view]) for n, view in enumerate(chosen))
                if n % 2 == 0
            )  # fmt: skip
            rows.setdefault(method, []).append(Row(scene.case, scene.patient, method, metrics))
    return rows


def self_match_rows(
    lenses: Mapping[str, Lens],
    scenes: Sequence[OrbitScene],
    landmarks: Landmarks,
    *,
    step: Callable[[], None] = lambda: None,
) -> dict[str, list[Row]]:
    """Whether a click finds itself on its own picture: what no other figure is worth without."""
    rows: dict[str, list[Row]] = {}
    for scene in scenes:
        clicks = scene.places(landmarks.names, scene.stance)
        for label, lens in lenses.items():
            hits, errors = [], []
            for context in CONTEXTS:
                step()
                (features,) = lens.features([_stood(scene, context)])
                patches = np.argwhere(features.valid())
                for patch in patches:
                    found = map_of_template(features.tokens[tuple(patch)], features).peak
                    apart = np.abs(features.to_patch(found) - patch)  # at most half, to the edge
                    hits.append(bool((apart <= 0.5 + 1e-6).all()))
                peaks = [map_of_template(t, features).peak for t in features.at(clicks)]
                errors.append(_distances(peaks, clicks, scene.stance))
            rows.setdefault(label, []).append(Row(scene.case, scene.patient, label, (
                Metric(
                    "self_match", float(np.mean(hits)),
                    "part of all patches of the DRR and the realistic X-ray whose own token has "
                    "its best match in the patch itself",
                ),
                Metric(
                    "self_error", float(np.median(errors)),
                    "median distance from a landmark that is clicked, anywhere in its patch, to "
                    "the peak on the same picture, at the isocenter", "mm",
                    higher_is_better=False,
                ),
            )))  # fmt: skip
    return rows


def _distances(found: npt.ArrayLike, truth: npt.ArrayLike, view: XrayView) -> Places:
    """Distances in mm at the isocenter of a view, of (..., 2)."""
    apart = np.linalg.norm(np.asarray(found) - np.asarray(truth), axis=-1)
    return np.asarray(apart * view.pixel_mm / view.magnification, np.float64)


def _figures(errors: Places, landmarks: Landmarks) -> tuple[Metric, ...]:
    """Of errors (..., landmarks): medians and hits of all, of those used, of those held out."""
    count = len(landmarks.used)
    return _told({
        name: (float(np.median(part)), float((part <= landmarks.hit_mm).mean()))
        for name, part in _groups(errors, count).items()
    }, landmarks)  # fmt: skip


def _groups(values: Places, used: int) -> dict[str, Places]:
    groups = {"all": values, "used": values[..., :used], "held_out": values[..., used:]}
    return {name: part for name, part in groups.items() if part.size}


def _chance(places: Places, view: XrayView, landmarks: Landmarks) -> tuple[Metric, ...]:
    """As `_figures`, of a peak that may lie on any pixel alike."""
    rows, cols = view.detector_shape
    pixels = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), axis=-1)
    errors = _distances(pixels.reshape(-1, 1, 2), places[None], view)
    return _figures(errors, landmarks)


def _told(figures: Mapping[str, tuple[float, float]], landmarks: Landmarks) -> tuple[Metric, ...]:
    counts = {
        "all": f"all {len(landmarks.names)} landmarks",
        "used": f"the {len(landmarks.used)} landmarks that the training may have used",
        "held_out": f"the {len(landmarks.held_out)} landmarks that the training did not use: "
        + ", ".join(landmarks.held_out),
    }
    found = []
    for name, (error, hits) in figures.items():
        told = (
            f"distance from the peak of the similarity map to {counts[name]}, mm at the isocenter"
        )
        found += [
            Metric(f"error_{name}", error, f"median {told}", "mm", higher_is_better=False),
            Metric(f"hits_{name}", hits, f"part within {landmarks.hit_mm:g} mm, {counts[name]}"),
        ]
    return tuple(found)
