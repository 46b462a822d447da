"""The root of every panel: it scrolls, so that it fits any screen."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

__all__ = ["ScrollPanel", "Section"]

_WIDTH, _HEIGHT = 340, 500
_NO_LIMIT = 2**24 - 1  # Qt's QWIDGETSIZE_MAX


class ScrollPanel(QScrollArea):
    """A dock widget's root: a column of widgets that scrolls vertically.

    Attributes
    ----------
    column : QVBoxLayout
        Where the panel's parts go, from top to bottom.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        body = QWidget()
        whole = QVBoxLayout(body)
        whole.setContentsMargins(8, 8, 8, 8)
        self.column = QVBoxLayout()
        whole.addLayout(self.column)
        whole.addStretch(1)
        self.setWidget(body)

    def sizeHint(self) -> QSize:
        """Wide enough for the parts, and no taller than a small screen."""
        body = self.widget().sizeHint()
        scroll_bar = self.verticalScrollBar().sizeHint().width()
        return QSize(max(_WIDTH, body.width() + scroll_bar), max(_HEIGHT, min(body.height(), 900)))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Grow as wide as the parts need when they change: nothing may be cut off."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def minimumSizeHint(self) -> QSize:
        """As wide as the parts need; any height, since it scrolls."""
        body = self.widget().minimumSizeHint()
        scroll_bar = self.verticalScrollBar().sizeHint().width()
        return QSize(body.width() + scroll_bar, 120)


class Section(QCollapsible):
    """A titled part of a panel that folds away.

    Parameters
    ----------
    title : str
        Its heading.
    expanded : bool
        Whether it starts open.
    """

    def __init__(self, title: str, *, expanded: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.setDuration(0)
        # Aligned to the top, a layout gives wrapped texts the height of unwrapped ones.
        self.layout().setAlignment(Qt.AlignmentFlag(0))
        self.layout().setSpacing(0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self.toggleButton().setStyleSheet(
            "QPushButton { background: transparent; border: none; text-align: left; "
            "font-weight: bold; padding: 2px 0px; }"
        )
        self.content().layout().setContentsMargins(4, 2, 0, 6)
        self.toggled.connect(self._let_grow)
        if expanded:
            self.expand(animate=False)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Leave the height to the layout, which knows how texts wrap; superqt would fix it."""
        return False

    def _let_grow(self, expanded: bool) -> None:
        self.content().setMaximumHeight(_NO_LIMIT if expanded else 0)
