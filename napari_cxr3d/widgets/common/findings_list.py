"""What is wrong or unusual about the X-rays, and what the user knows and accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFrame, QLabel, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_cxr3d.inference.xray_input import InputFinding

__all__ = ["FindingsList"]

_COLORS = {"unusual": "#e0a030", "wrong": "#d9534f"}
_HEADS = {"unusual": "Unusual", "wrong": "Wrong"}


class FindingsList(QWidget):
    """One entry a finding; what is wrong has a box to tick before anything can run.

    Signals
    -------
    changed
        A box was ticked or unticked.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._findings: tuple[InputFinding, ...] = ()
        self._accepted: set[str] = set()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._rows: list[QWidget] = []
        self.hide()

    def show_findings(self, findings: Sequence[InputFinding], views: Sequence[str] = ()) -> None:
        """Show these; what was accepted before stays so as long as it is found.

        Parameters
        ----------
        findings : sequence of InputFinding
            What `examine` found.
        views : sequence of str
            What each X-ray is called, where there are several.
        """
        self._findings = tuple(findings)
        self._accepted &= {finding.code for finding in findings}
        for row in self._rows:
            self._layout.removeWidget(row)
            row.deleteLater()
        self._rows = [self._row(finding, views) for finding in findings]
        for row in self._rows:
            self._layout.addWidget(row)
        self.setVisible(bool(self._rows))

    def forget(self) -> None:
        """Another X-ray is chosen: nothing is accepted any more."""
        self._accepted.clear()
        self.show_findings(())

    @property
    def accepted(self) -> tuple[str, ...]:
        """Codes of the wrong findings that the user accepted, for the request."""
        return tuple(sorted(self._accepted))

    @property
    def open_ones(self) -> tuple[InputFinding, ...]:
        """Wrong findings that nobody accepted: nothing may run."""
        return tuple(
            finding
            for finding in self._findings
            if finding.severity == "wrong" and finding.code not in self._accepted
        )

    def _row(self, finding: InputFinding, views: Sequence[str]) -> QWidget:
        row = QFrame()
        row.setObjectName("finding")
        color = _COLORS[finding.severity]
        row.setStyleSheet(f"#finding {{ border: none; border-left: 3px solid {color}; }}")
        which = f" ({views[finding.index]})" if len(views) > 1 else ""
        text = QLabel(
            f"{_HEADS[finding.severity]}{which}: {_sentence(finding.message)} "
            f"{_sentence(finding.remedy)}".strip()
        )
        text.setWordWrap(True)
        layout = QVBoxLayout(row)
        layout.setContentsMargins(8, 2, 0, 2)
        layout.addWidget(text)
        if finding.severity == "wrong":
            box = QCheckBox("I know, go on all the same")
            box.setChecked(finding.code in self._accepted)
            box.setToolTip("It is written into the result that you accepted this.")
            box.toggled.connect(lambda ticked, code=finding.code: self._on_ticked(code, ticked))
            layout.addWidget(box)
        return row

    def _on_ticked(self, code: str, ticked: bool) -> None:
        (self._accepted.add if ticked else self._accepted.discard)(code)
        self.changed.emit()


def _sentence(text: str) -> str:
    if not text:
        return ""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
