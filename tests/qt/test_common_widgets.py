"""The parts that panels share."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QLabel, QPushButton

from napari_cxr3d.errors import Cancelled, ConsentRequiredError
from napari_cxr3d.io import SeriesEntry
from napari_cxr3d.progress import Progress
from napari_cxr3d.widgets.common import dialogs
from napari_cxr3d.widgets.common.panel import ScrollPanel, Section
from napari_cxr3d.widgets.common.progress_row import ProgressRow
from napari_cxr3d.widgets.common.series_table import SeriesTable
from napari_cxr3d.widgets.common.status_card import StatusCard, disable_with_reason


def entry(uid: str, kind: str = "ct") -> SeriesEntry:
    return SeriesEntry(
        uid=uid,
        description=uid,
        modality="CT",
        kind=kind,
        n_slices=3,
        shape=(3, 4, 5),
        spacing_mm=(5.0, 1.0, 1.0),
        body_part="",
        number=None,
        reason="" if kind == "ct" else "it is a scout view",
        files=(Path(uid),),
    )


@pytest.fixture
def table(qtbot) -> SeriesTable:
    table = SeriesTable()
    qtbot.addWidget(table)
    return table


def test_a_series_that_cannot_be_opened_is_grey_and_says_why(table, qtbot):
    table.show_entries([entry("scout", "localizer"), entry("chest")])
    scout, chest = table.topLevelItem(0), table.topLevelItem(1)
    assert table.selected_entry().uid == "chest"
    assert scout.isDisabled()
    assert "scout view" in scout.toolTip(0)
    with qtbot.assertNotEmitted(table.open_requested):
        table.itemActivated.emit(scout, 0)
    with qtbot.waitSignal(table.open_requested) as opened:
        table.itemActivated.emit(chest, 0)
    assert opened.args[0].uid == "chest"


def test_the_series_dialog_gives_the_selected_series_or_none(monkeypatch, qtbot):
    entries = [entry("chest"), entry("abdomen")]
    monkeypatch.setattr(dialogs.SeriesDialog, "exec", lambda self: self.DialogCode.Accepted)
    assert dialogs.choose_series(entries).uid == "chest"
    monkeypatch.setattr(dialogs.SeriesDialog, "exec", lambda self: self.DialogCode.Rejected)
    with pytest.raises(Cancelled):
        dialogs.choose_series(entries)


def test_the_consent_dialog_says_what_will_be_altered():
    error = ConsentRequiredError(
        "The series lacks 2 of 79 slices", consent="allow_gaps", why="none lies at place 4"
    )
    question, explanation = dialogs.consent_text(error)
    assert "missing slices" in question
    assert "lacks 2 of 79 slices: none lies at place 4." in explanation


def test_progress_is_counted_and_can_be_cancelled_once(qtbot):
    row = ProgressRow()
    qtbot.addWidget(row)
    row.start("reading")
    row.show_progress(Progress(3, 12, "reading slices"))
    cancel = row.findChild(QPushButton)
    with qtbot.waitSignal(row.cancel_requested):
        cancel.click()
    assert not cancel.isEnabled()
    row.finish()
    assert row.isHidden()
    row.start("reading")
    assert cancel.isEnabled()


def test_the_status_card_tells_notes_and_forgets(qtbot):
    card = StatusCard()
    qtbot.addWidget(card)
    card.show_notes("Opened.", ["2 slices were interpolated."])
    assert card.text == "Opened.\n• 2 slices were interpolated."
    card.clear()
    assert card.text == ""
    assert card.isHidden()


def test_the_report_says_where_an_error_arose_in_another_process(qtbot):
    card = StatusCard()
    qtbot.addWidget(card)
    error = ValueError("broken")
    error.add_note("in the worker process:\n  decode (codec.py:12)")
    card.show_error(error)
    assert "decode (codec.py:12)" in card.report


def test_a_text_in_a_section_is_never_cut_off_however_it_wraps(qtbot):
    panel, text = ScrollPanel(), QLabel()
    qtbot.addWidget(panel)
    text.setWordWrap(True)
    section = Section("Notes")
    section.addWidget(text)
    panel.column.addWidget(section)
    panel.resize(340, 300)
    panel.show()
    text.setText("A sentence that is far too long for one line of a narrow panel. " * 8)
    qtbot.waitUntil(lambda: text.height() >= text.heightForWidth(text.width()))
    section.toggleButton().click()
    qtbot.waitUntil(lambda: text.visibleRegion().isEmpty())
    section.toggleButton().click()
    qtbot.waitUntil(lambda: text.height() >= text.heightForWidth(text.width()))


def test_what_is_disabled_says_why(qtbot):
    button = QPushButton()
    qtbot.addWidget(button)
    disable_with_reason(button, "Open a CT first.", tip="Alt+1")
    assert (button.isEnabled(), button.toolTip()) == (False, "Open a CT first.")
    disable_with_reason(button, "", tip="Alt+1")
    assert (button.isEnabled(), button.toolTip()) == (True, "Alt+1")
