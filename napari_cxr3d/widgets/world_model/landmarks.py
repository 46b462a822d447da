"""Landmarks from picture to picture: placed, dragged, found again, and exported."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_cxr3d.errors import Cxr3dError, ExportError
from napari_cxr3d.viewer.world_model import (
    SIDES,
    MapLook,
    MapSampling,
    Mark,
    MarkLayers,
    Side,
)
from napari_cxr3d.widgets.common.worker_session import single_shot
from napari_cxr3d.widgets.world_model.landmark_files import (
    COLORS,
    Landmark,
    other_side,
    write_table,
)
from napari_cxr3d.widgets.world_model.landmark_table import LandmarkRow
from napari_cxr3d.widgets.world_model.pairing import PairController
from napari_cxr3d.widgets.world_model.session import NO_MODEL, WorldModelSession

__all__ = ["LandmarkController"]

_NO_PAIR = "Choose picture A and picture B first."
_ENCODING = "The pictures are being encoded."
_NO_LANDMARK = "Place a landmark first."
_NOT_ONE_CT = "Only two DRRs of one CT have a known geometry between them."


class LandmarkController:
    """Connects the landmarks on the canvas with the map, the marks and the table."""

    def __init__(self, session: WorldModelSession, pair: PairController) -> None:
        self._session, self._pair = session, pair
        self.layers = MarkLayers(session.viewer, session.pair, self._on_edited)
        self.landmarks: list[Landmark] = []
        self._numbers = count(1)
        self._selected: Landmark | None = None
        self._stale: set[int] = set()  # ids of landmarks that were moved since they were found
        self._values: npt.NDArray[np.float32] | None = None
        self._timer = single_shot(session, 0, self.search)
        self.last_ms = 0.0
        pair.laid_out.connect(self._on_laid_out)
        pair.encoded.connect(self._on_encoded)
        form = session.panel.landmark_form
        form.place_requested.connect(self.place)
        form.look_changed.connect(self._on_look)
        form.selected.connect(self.select)
        form.renamed.connect(self.rename)
        form.recolored.connect(self.recolor)
        form.deleted.connect(self.delete)
        form.all_toggled.connect(lambda _: self._show_map())
        form.epipolar_toggled.connect(lambda _: self.search_all())
        form.export_requested.connect(self.ask_and_export)
        session.state_changed.connect(self.show_reasons)

    def show_reasons(self) -> None:
        """Say why landmarks cannot be placed or exported, if so."""
        pair = self._pair
        reasons: dict[Side, str] = {}
        for side in SIDES:
            if pair.source(side) is None:
                reasons[side] = f"Choose picture {side} first."
            else:
                reasons[side] = "" if self._session.model else NO_MODEL
        export = "" if self._found() else (_NO_LANDMARK if pair.source("B") else _NO_PAIR)
        form = self._session.panel.landmark_form
        form.set_reasons(reasons["A"], reasons["B"], export)
        form.set_epipolar_reason("" if pair.same_ct else _NOT_ONE_CT)

    @property
    def selected(self) -> Landmark | None:
        """The landmark whose map is shown."""
        return self._selected

    @property
    def busy(self) -> bool:
        """Whether a moved landmark has not been looked for yet."""
        return self._timer.isActive()

    # Placing and moving

    def place(self, side: Side) -> None:
        """Let the next clicks on a picture place landmarks."""
        self._pair.take_canvas()
        self.layers.stop_placing()
        self.layers.place(side)
        self._session.panel.status.show_info(
            f"Click on picture {side}. Drag a landmark to move it; Delete takes the selected away."
        )

    def add(self, side: Side, point: tuple[float, float], name: str = "") -> Landmark:
        """Place a landmark by its row and column on a picture."""
        landmark = self._new(side, point, name)
        self._show_marks()
        self._search_soon(landmark)
        return landmark

    def _new(self, side: Side, point: tuple[float, float], name: str = "") -> Landmark:
        number = next(self._numbers)
        color = COLORS[(number - 1) % len(COLORS)]
        landmark = Landmark(name or f"landmark {number}", color, side, point)
        self.landmarks.append(landmark)
        self._selected = landmark
        return landmark

    def _on_edited(self, side: Side, gone: tuple[int, ...]) -> None:
        """What the mouse did to the landmarks of a side."""
        points = self.layers.points(side)
        mine = [each for each in self.landmarks if each.side == side]
        if gone:
            for index in gone:
                self._remove(mine[index])
            mine = [each for each in self.landmarks if each.side == side]
        if len(points) < len(mine):  # napari is about to tell which
            return
        for landmark, row in zip(mine, points, strict=False):
            point = (float(row[0]), float(row[1]))
            if point != landmark.point:
                landmark.point = point
                self._selected = landmark
                self._search_soon(landmark)
        for row in points[len(mine) :]:
            self._search_soon(self._new(side, (float(row[0]), float(row[1]))))
        if gone:
            self._timer.start()

    def _remove(self, landmark: Landmark) -> None:
        self.landmarks.remove(landmark)
        self._stale.discard(id(landmark))
        if self._selected is landmark:
            self._selected = self.landmarks[-1] if self.landmarks else None

    def _search_soon(self, landmark: Landmark) -> None:
        """Look for it once the events of this moment are through: the newest place wins."""
        self._stale.add(id(landmark))
        self._timer.start()

    # Finding

    def search(self) -> None:
        """Look for every landmark that is new or was moved, and show what was found."""
        begun = time.perf_counter()
        for landmark in self.landmarks:
            if id(landmark) in self._stale:
                self._find(landmark)
        self._stale.clear()
        self._show_map()
        self._show_marks()
        self.last_ms = 1000 * (time.perf_counter() - begun)
        self._session.state_changed.emit()

    def search_all(self) -> None:
        """Look for every landmark anew."""
        self._stale = {id(each) for each in self.landmarks}
        self._timer.start()

    def _find(self, landmark: Landmark) -> None:
        landmark.pair = None
        query = self._pair.features(landmark.side)
        target = self._pair.features(other_side(landmark.side))
        if query is None or target is None:
            return
        epipolar = self._session.panel.landmark_form.epipolar and self._pair.same_ct
        try:
            landmark.pair = self._session.engine.match(
                query, landmark.point, target, epipolar=epipolar
            )
        except Cxr3dError as error:  # outside the picture, or where it does not reach
            self._session.report(error)

    def _found(self) -> list[Landmark]:
        return [each for each in self.landmarks if each.found is not None]

    def _on_encoded(self, side: str) -> None:
        """Features came or went: everything is looked for anew."""
        self.search_all()
        both = [self._pair.source(each) for each in SIDES]
        waiting = any(
            source is not None and self._pair.features(each) is None
            for each, source in zip(SIDES, both, strict=True)
        )
        self._session.panel.landmark_form.show_note(
            _ENCODING if waiting and self._session.model else ""
        )
        self._session.state_changed.emit()

    def _on_laid_out(self) -> None:
        """The pictures stand anew: landmarks of another picture mean nothing on this one."""
        self.layers.clear()
        gone = [each for each in self.landmarks if self._session.pair.layer(each.side) is None]
        for landmark in gone:
            self._remove(landmark)
        self._timer.start()

    # Showing

    def _show_marks(self) -> None:
        for side in SIDES:
            self.layers.show_landmarks(
                side,
                [Mark(x.point, x.name, x.color) for x in self.landmarks if x.side == side],
            )
            self.layers.show_matches(
                side,
                [
                    Mark(x.match, x.name if x.mutual else f"{x.name} ?", x.color)
                    for x in self.landmarks
                    if x.side != side and x.match is not None
                ],
            )
        self._session.panel.landmark_form.show_rows(
            [
                LandmarkRow(
                    x.name,
                    x.color,
                    x.side,
                    x.point,
                    x.match,
                    None if x.found is None else float(x.found.value),
                    None if x.found is None else float(x.found.contrast),
                    x.mutual,
                )
                for x in self.landmarks
            ],
            -1 if self._selected is None else self.landmarks.index(self._selected),
        )

    def _show_map(self) -> None:
        """The selected landmark's map, or the largest value of all that were placed beside it."""
        selected, form = self._selected, self._session.panel.landmark_form
        if selected is None or selected.found is None:
            self._values = None
            self.layers.hide_map()
            return
        side = other_side(selected.side)
        target = self._pair.features(side)
        tile = self._session.pair.tile(side)
        if target is None or tile is None:
            return
        rows, cols = tile.pixels.shape
        sampling = MapSampling.of((rows, cols))
        points = sampling.points()
        shown = [x for x in self._found() if x.side == selected.side] if form.all_at_once else (
            [selected]
        )  # fmt: skip
        maps = [
            self._session.engine.on_picture(x.found, target, points)
            for x in shown
            if x.found is not None
        ]
        values = np.max(maps, axis=0).reshape(sampling.shape)
        if not np.isfinite(values).any():
            self.layers.hide_map()
            return
        self._values = values
        self.layers.show_map(
            side,
            values,
            sampling,
            form.look(),
            self._session.derivation(
                landmarks=[x.name for x in shown],
                points=[list(x.point) for x in shown],
                placed_on=selected.side,
            ),
        )
        low, high = form.look().limits(values)
        form.show_limits(low, high)

    def _on_look(self, look: MapLook) -> None:
        if self._values is not None:
            self.layers.set_look(self._values, look)
            self._session.panel.landmark_form.show_limits(*look.limits(self._values))

    # The table

    def select(self, index: int) -> None:
        """Show the map of the landmark in a row."""
        if 0 <= index < len(self.landmarks) and self.landmarks[index] is not self._selected:
            self._selected = self.landmarks[index]
            self._show_map()

    def rename(self, index: int, name: str) -> None:
        """Give the landmark in a row another name."""
        if name.strip():
            self.landmarks[index].name = name.strip()
        self._show_marks()

    def recolor(self, index: int, color: str) -> None:
        """Give the landmark in a row another colour."""
        self.landmarks[index].color = color
        self._show_marks()

    def delete(self, index: int) -> None:
        """Take the landmark in a row away."""
        self._remove(self.landmarks[index])
        self._show_marks()
        self._show_map()
        self._session.state_changed.emit()

    # Files

    def ask_and_export(self, kind: str) -> None:
        """Ask for a path and export there."""
        path = self._session.panel.ask_save_path(f"Export: {kind}", f".{kind.lower()}")
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write what is shown: a picture (.png), the map's values (.npy) or a table (.csv)."""
        write = {
            ".png": self._write_png,
            ".npy": lambda path: np.save(path, self._full_map()),
            ".csv": lambda path: write_table(self._found(), path),
        }[path.suffix.lower()]
        try:
            write(path)
        except OSError as error:
            problem = ExportError(f"{path.name} could not be written", why=error.strerror or "")
            self._session.report(problem)
            return
        self._session.panel.status.show_info(f"Saved {path.name} (SYNTHETIC, for research only).")

    def _write_png(self, path: Path) -> None:
        self._pair.take_canvas()
        self._session.viewer.screenshot(str(path), canvas_only=True, flash=False)

    def _full_map(self) -> npt.NDArray[np.float32]:
        """The map that is shown, on every pixel of its picture; NaN where it does not reach."""
        selected = self._selected
        if selected is None or selected.found is None:
            return np.empty((0, 0), np.float32)
        all_at_once = self._session.panel.landmark_form.all_at_once
        shown = [x for x in self._found() if x.side == selected.side] if all_at_once else [selected]
        maps = [x.found.on_source() for x in shown if x.found is not None]
        return np.max(maps, axis=0)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop the timer; layers stay in the viewer."""
        self._timer.stop()
