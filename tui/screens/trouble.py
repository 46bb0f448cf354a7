"""A failure that the operator has to read: what happened and what to do.

Knows: how an error reads. Rules: it stays until it is dismissed. Leaves to others: raising it.
"""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label, Static

from tui.snapshot import Trouble


class TroubleScreen(ModalScreen[None]):
    """Shows one trouble under a title."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "app.pop_screen", "Close", show=False)
    ]

    def __init__(self, title: str, trouble: Trouble) -> None:
        super().__init__()
        self.headline = title
        self.trouble = trouble

    def compose(self) -> ComposeResult:
        """Title, message, remedy, one button."""
        with Vertical(classes="dialog -trouble"):
            yield Label(self.headline, classes="dialog-title", markup=False)
            yield Static(Text(self.trouble.message, style="bold"))
            yield Static(Text.assemble(("What to do  ", "dim"), self.trouble.remedy), id="remedy")
            yield Static(Text(f"error code {self.trouble.code}", style="dim"))
            with Horizontal(classes="dialog-buttons"):
                yield Button("Close", id="close", variant="primary")

    def on_button_pressed(self) -> None:
        """Go back to the screen below."""
        self.dismiss(None)
