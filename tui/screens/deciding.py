"""The dialog before a decision: what changes, who decides, why.

Knows: how before and after are laid side by side. Rules: nothing happens without a reason in words; the
safe way out (Escape) is always open. Leaves to others: carrying it out (`tui.app`).
"""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui.preview import Change, Preview

REASON_CHARACTERS_MAX = 500


class DecidingScreen(ModalScreen[str | None]):
    """Asks for the reason; its result is the reason, None when the operator cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, preview: Preview, actor: str) -> None:
        super().__init__()
        self.preview = preview
        self.actor = actor

    def compose(self) -> ComposeResult:
        """Title, before and after, the reason, two buttons."""
        with Vertical(classes="dialog"):
            yield Label(self.preview.title, classes="dialog-title", markup=False)
            yield Static(_changes(self.preview.changes))
            yield Label(
                f"Recorded in the audit log as a decision of {self.actor}.",
                classes="dialog-note",
                markup=False,
            )
            yield Input(placeholder="Reason (required)", max_length=REASON_CHARACTERS_MAX)
            yield Label("", id="missing")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Confirm", id="confirm", variant="warning")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        """Start where the operator has to write."""
        self.query_one(Input).focus()

    def on_input_submitted(self) -> None:
        """Enter in the reason confirms."""
        self._confirm()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Follow the button."""
        if event.button.id == "confirm":
            self._confirm()
        else:
            self.action_cancel()

    def action_cancel(self) -> None:
        """Leave without deciding."""
        self.dismiss(None)

    def _confirm(self) -> None:
        reason = self.query_one(Input).value.strip()
        if reason:
            self.dismiss(reason)
            return
        self.query_one("#missing", Label).update("Write down why; the auditor will ask.")
        self.query_one(Input).focus()


def _changes(changes: tuple[Change, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("Role", "Before", "", "After"):
        table.add_column(heading, header_style="dim")
    for change in changes:
        style = "bold" if change.before != change.after else "dim"
        table.add_row(change.role, change.before, "->", Text(change.after), style=style)
    return table
