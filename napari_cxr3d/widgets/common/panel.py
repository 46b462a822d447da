"""The root of every panel: it scrolls, so that it fits any screen."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

__all__ = ["ScrollPanel", "Section"]

_WIDTH, _HEIGHT = 340, 500


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
        self.column = QVBoxLayout(body)
        self.column.setContentsMargins(8, 8, 8, 8)
        self.column.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setWidget(body)

    def sizeHint(self) -> QSize:
        """Wide enough for the parts, and no taller than a small screen."""
        body = self.widget().sizeHint()
        scroll_bar = self.verticalScrollBar().sizeHint().width()
        return QSize(max(_WIDTH, body.width() + scroll_bar), max(_HEIGHT, min(body.height(), 900)))

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
        self.toggleButton().setStyleSheet(
            "QPushButton { background: transparent; border: none; text-align: left; "
            "font-weight: bold; padding: 2px 0px; }"
        )
        self.content().layout().setContentsMargins(4, 2, 0, 6)
        if expanded:
            self.expand(animate=False)
