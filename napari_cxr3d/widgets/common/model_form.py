"""The part of the panel where the model is chosen, with what its card says of it."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_cxr3d.widgets.common.model_choices import ModelChoice
from napari_cxr3d.widgets.common.status_card import disable_with_reason

__all__ = ["CardDialog", "ModelForm"]

_NO_MODEL = (
    "No reconstruction model is here: install a bundle with “cxr3d models install FILE”, then "
    "open this panel again."
)
_SHOWN = 220  # letters of the limits; the card has them all


class ModelForm(QWidget):
    """A list of models, what the chosen one must not be used for, and its card.

    Parameters
    ----------
    nothing : str
        What to say where there is no model to choose.
    tip : str
        What the chosen model does.

    Signals
    -------
    changed
        Another model was chosen.
    """

    changed = Signal()

    def __init__(
        self,
        parent: QWidget | None = None,
        *,
        nothing: str = _NO_MODEL,
        tip: str = "The network that makes the volume.",
    ) -> None:
        super().__init__(parent)
        self._nothing, self._tip = nothing, tip
        self._choices: tuple[ModelChoice, ...] = ()
        self._models = QComboBox()
        self._models.currentIndexChanged.connect(self._on_changed)
        self._card = QPushButton("Card…")
        self._card.clicked.connect(self.open_card)
        self._limits = QLabel()
        self._limits.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(QLabel("Model"))
        row.addWidget(self._models, 1)
        row.addWidget(self._card)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._limits)
        self.show_models(())

    def show_models(self, choices: Sequence[ModelChoice]) -> None:
        """Offer these; the first is chosen."""
        self._choices = tuple(choices)
        with signals_blocked(self._models):
            self._models.clear()
            self._models.addItems([f"{each.name} {each.version}" for each in choices])
        reason = "" if choices else self._nothing
        disable_with_reason(self._models, reason, self._tip)
        disable_with_reason(self._card, reason, "Training data, figures, licence and limits.")
        self._on_changed()

    def choice(self) -> ModelChoice | None:
        """The chosen model; None where there is none."""
        index = self._models.currentIndex()
        return self._choices[index] if 0 <= index < len(self._choices) else None

    def choose(self, name: str) -> None:
        """Choose the model of a name, if it is here."""
        names = [each.name for each in self._choices]
        if name in names:
            self._models.setCurrentIndex(names.index(name))

    def open_card(self) -> None:
        """Show the chosen model's whole card."""
        choice = self.choice()
        if choice is not None:
            dialog = CardDialog(choice, self)
            dialog.exec()
            dialog.deleteLater()

    def _on_changed(self) -> None:
        choice = self.choice()
        if choice is None:
            self._limits.setText(self._nothing)
            self._limits.setToolTip("")
        else:
            text = f"Limits: {choice.limits}"
            self._limits.setText(text if len(text) <= _SHOWN else f"{text[:_SHOWN].rstrip()}…")
            self._limits.setToolTip(choice.limits)
        self.changed.emit()


class CardDialog(QDialog):
    """A model's card as text that can be read and copied."""

    def __init__(self, choice: ModelChoice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Model card · {choice.name} {choice.version}")
        self.resize(720, 560)
        self.text = QPlainTextEdit(choice.card)
        self.text.setReadOnly(True)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
