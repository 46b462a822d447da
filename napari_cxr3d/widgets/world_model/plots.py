"""Small plots that need no plotting library: curves over an angle, and a map of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

__all__ = ["Curve", "CurvePlot", "Dot", "ScatterPlot"]

_HEIGHT = 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 20, 30
_AXIS = QColor("#9a9a9a")
_TEXT = QColor("#d0d0d0")
_CURSOR = QColor("#ffffff")
_REACH = 10.0  # pixels within which a dot is meant
_DOT = 4.0


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a plot.

    Attributes
    ----------
    label : str
        Its name.
    x, y : ndarray of float64, shape (n,)
        NaN in `y` leaves a gap.
    color : str
        As ``"#rrggbb"``.
    """

    label: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    color: str


@dataclass(frozen=True)
class Dot:
    """A point of a map.

    Attributes
    ----------
    x, y : float
        Where it lies.
    label : str
        What it is.
    color : str
        As ``"#rrggbb"``.
    """

    x: float
    y: float
    label: str
    color: str


class _Plot(QWidget):
    """Axes with numbers at their ends, and room for what is drawn between them."""

    def __init__(self, x_label: str, y_label: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.x_label, self.y_label = x_label, y_label
        self._limits = (0.0, 1.0, 0.0, 1.0)
        self.setMinimumHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """As wide as the panel, and low."""
        return QSize(300, _HEIGHT)

    @property
    def field(self) -> QRectF:
        """Where values are drawn, in pixels of the widget."""
        return QRectF(
            _LEFT,
            _TOP,
            max(self.width() - _LEFT - _RIGHT, 1),
            max(self.height() - _TOP - _BOTTOM, 1),
        )

    def to_pixels(self, x: float, y: float) -> QPointF:
        """Where a value lies on the widget."""
        x0, x1, y0, y1 = self._limits
        field = self.field
        return QPointF(
            field.left() + field.width() * (x - x0) / (x1 - x0),
            field.bottom() - field.height() * (y - y0) / (y1 - y0),
        )

    def _fit(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
        x, y = x[np.isfinite(x)], y[np.isfinite(y)]
        if x.size and y.size:
            ends = [(float(v.min()), float(v.max())) for v in (x, y)]
            (x0, x1), (y0, y1) = (
                (low, high) if high > low else (low - 0.5, high + 0.5) for low, high in ends
            )
            self._limits = (x0, x1, y0, y1)

    def _draw_axes(self, painter: QPainter) -> None:
        field, (x0, x1, y0, y1) = self.field, self._limits
        painter.setPen(QPen(_AXIS))
        painter.drawLine(field.bottomLeft(), field.bottomRight())
        painter.drawLine(field.bottomLeft(), field.topLeft())
        painter.setPen(_TEXT)
        low, right = Qt.AlignmentFlag.AlignTop, Qt.AlignmentFlag.AlignRight
        below = QRectF(field.left(), field.bottom() + 2, field.width(), 14)
        painter.drawText(below, low | Qt.AlignmentFlag.AlignLeft, f"{x0:g}")
        painter.drawText(below, low | right, f"{x1:g}")
        painter.drawText(below, low | Qt.AlignmentFlag.AlignHCenter, self.x_label)
        beside = QRectF(0, field.top(), _LEFT - 4, field.height())
        painter.drawText(beside, low | right, f"{y1:.3g}")
        painter.drawText(beside, Qt.AlignmentFlag.AlignBottom | right, f"{y0:.3g}")
        painter.drawText(QRectF(4, 2, self.width() - 8, 16), low, self.y_label)


class CurvePlot(_Plot):
    """Curves over one axis, and a line where the user is."""

    def __init__(self, x_label: str, y_label: str, parent: QWidget | None = None) -> None:
        super().__init__(x_label, y_label, parent)
        self.curves: tuple[Curve, ...] = ()
        self._cursor: float | None = None
        self.hide()

    def show_curves(self, curves: Sequence[Curve]) -> None:
        """Draw these; without any the plot goes away."""
        self.curves = tuple(curves)
        if curves:
            ys = np.concatenate([curve.y for curve in curves])
            self._fit(np.concatenate([curve.x for curve in curves]), np.append(ys, 0.0))
        self.setVisible(bool(curves))
        self.update()

    def show_cursor(self, x: float | None) -> None:
        """Draw a line at a place of the horizontal axis."""
        self._cursor = x
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes, curves and their names."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_axes(painter)
        field = self.field
        if self._cursor is not None:
            at = self.to_pixels(self._cursor, self._limits[2]).x()
            painter.setPen(QPen(_CURSOR, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(at, field.top()), QPointF(at, field.bottom()))
        for k, curve in enumerate(self.curves):
            painter.setPen(QPen(QColor(curve.color), 2))
            for piece in _pieces(curve):
                painter.drawPolyline(QPolygonF([self.to_pixels(x, y) for x, y in piece]))
            row = QRectF(field.left(), field.bottom() + 14, field.width(), 16)
            part = QRectF(
                row.left() + k * row.width() / len(self.curves), row.top(),
                row.width() / len(self.curves), row.height(),
            )  # fmt: skip
            painter.drawText(part, Qt.AlignmentFlag.AlignHCenter, curve.label)
        painter.end()


class ScatterPlot(_Plot):
    """Points that can be clicked.

    Signals
    -------
    chosen
        With the index of the point that was clicked.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("", "", parent)
        self.dots: tuple[Dot, ...] = ()
        self.setMinimumHeight(2 * _HEIGHT)
        self.setMouseTracking(True)
        self.hide()

    def show_dots(self, dots: Sequence[Dot], x_label: str, y_label: str) -> None:
        """Draw these; without any the plot goes away."""
        self.dots, self.x_label, self.y_label = tuple(dots), x_label, y_label
        if dots:
            self._fit(np.array([dot.x for dot in dots]), np.array([dot.y for dot in dots]))
        self.setVisible(bool(dots))
        self.update()

    def dot_at(self, place: QPointF) -> int:
        """Index of the dot at a place on the widget; -1 where there is none."""
        apart = [
            np.hypot(at.x() - place.x(), at.y() - place.y())
            for at in (self.to_pixels(dot.x, dot.y) for dot in self.dots)
        ]
        nearest = int(np.argmin(apart)) if apart else -1
        return nearest if nearest >= 0 and apart[nearest] <= _REACH else -1

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes and dots."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_axes(painter)
        painter.setPen(QPen(QColor("#202020")))
        for dot in self.dots:
            painter.setBrush(QColor(dot.color))
            painter.drawEllipse(self.to_pixels(dot.x, dot.y), _DOT, _DOT)
        painter.end()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Say what the dot under the mouse is."""
        if event is not None:
            index = self.dot_at(event.position())
            text = self.dots[index].label if index >= 0 else ""
            QToolTip.showText(event.globalPosition().toPoint(), text, self)

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the dot under the mouse."""
        if event is not None and (index := self.dot_at(event.position())) >= 0:
            self.chosen.emit(index)


def _pieces(curve: Curve) -> list[npt.NDArray[np.float64]]:
    """The runs of a curve without gaps, each (n, 2)."""
    pairs = np.column_stack([curve.x, curve.y])
    whole = np.isfinite(pairs).all(-1)
    breaks = np.flatnonzero(np.diff(whole.astype(int))) + 1
    return [run for run, ok in zip(np.split(pairs, breaks), np.split(whole, breaks), strict=True)
            if ok.size and ok[0]]  # fmt: skip
