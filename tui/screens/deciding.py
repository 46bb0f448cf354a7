"""The dialog before a decision: what changes, who decides, why; of a canary also how much.

Knows: how before and after are laid side by side. Rules: nothing happens without a reason in words; what
is confirmed is what is shown; the safe way out (Escape) is always open. Leaves to others: carrying it out
(`tui.app`).
"""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from appliance.deployment import StartCanary
from appliance.errors import DecisionError
from tui import wording
from tui.preview import Change, Order, Preview, outlook

REASON_CHARACTERS_MAX = 500
_SHARE_CELLS = 12


class DecidingScreen(ModalScreen[Order | None]):
    """Asks for the reason, of a canary for its share; its result is None when the operator cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, preview: Preview, actor: str) -> None:
        super().__init__()
        self.preview = preview
        self.actor = actor

    def compose(self) -> ComposeResult:
        """Title, before and after, the share, the reason, two buttons."""
        act = self.preview.act
        with Vertical(classes="dialog"):
            yield Label(self.preview.title, classes="dialog-title", id="title", markup=False)
            yield Static(_changes(self.preview.changes), id="changes")
            yield Label(
                f"Recorded in the audit log as a decision of {self.actor}.",
                classes="dialog-note",
                markup=False,
            )
            if isinstance(act, StartCanary):
                with Horizontal(id="asked"):
                    yield Label("Share of the requests")
                    yield Input(
                        wording.share(act.per_mille),
                        id="share",
                        max_length=_SHARE_CELLS,
                        compact=True,
                    )
            yield Input(
                placeholder="Reason (required)", id="reason", max_length=REASON_CHARACTERS_MAX
            )
            yield Label("", id="missing", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button("Confirm", id="confirm", variant="warning")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        """Start where the operator has to write."""
        self.query(Input).first().focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what another share would change, or why it cannot be."""
        if event.input.id != "share" or not isinstance(self.preview.act, StartCanary):
            return
        version = self.preview.act.version
        try:
            per_mille = wording.per_mille(event.value)
            shown = outlook(self.preview.before, StartCanary(version=version, per_mille=per_mille))
        except (ValueError, DecisionError) as error:
            self._refuse(str(error))
            return
        self.preview = shown
        self._refuse("")
        self.query_one("#title", Label).update(shown.title)
        self.query_one("#changes", Static).update(_changes(shown.changes))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on from the share to the reason, and in the reason confirms."""
        if event.input.id == "share":
            self.query_one("#reason", Input).focus()
        else:
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

    def _refuse(self, why: str) -> None:
        """Say why this share cannot be confirmed; "" when it can."""
        told = f"{why[0].upper()}{why[1:]}." if why else ""
        self.query_one("#missing", Label).update(told)
        self.query_one("#confirm", Button).disabled = bool(why)

    def _confirm(self) -> None:
        if self.query_one("#confirm", Button).disabled:
            self.query_one("#share", Input).focus()
            return
        reason = self.query_one("#reason", Input).value.strip()
        if reason:
            order = Order(
                model=self.preview.before.model,
                act=self.preview.act,
                actor=self.actor,
                reason=reason,
            )
            self.dismiss(order)
            return
        self.query_one("#missing", Label).update("Write down why; the auditor will ask.")
        self.query_one("#reason", Input).focus()


def _changes(changes: tuple[Change, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("Role", "Before", "", "After"):
        table.add_column(heading, header_style="dim")
    for change in changes:
        style = "bold" if change.before != change.after else "dim"
        table.add_row(change.role, change.before, "->", Text(change.after), style=style)
    return table
