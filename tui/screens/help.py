"""The help page: every key and the words of the screen.

Knows: what a newcomer at the console asks first. Rules: keys come from `tui.wording`, so that none is
forgotten here. Leaves to others: the long form (docs/operations).
"""

from typing import ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from tui.wording import KEYS

_WORDS = (
    ("active", "the version that answers"),
    ("canary", "the version that answers a share of the requests"),
    ("shadow", "the version whose answers are only recorded"),
    ("previous", "the version that roll back returns to"),
    ("loaded", "in memory and warm: can answer at once"),
    ("acceptance", "reached on held-out data >= what was asked"),
    ("p50, p99", "half, and 99 of 100, requests took less time"),
    ("failed", "requests refused or failed since the runtime started"),
)


class HelpScreen(ModalScreen[None]):
    """Keys and words; any of Escape, ? or q leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "app.pop_screen", "Close", show=False)
    ]

    def compose(self) -> ComposeResult:
        """Two tables of two columns."""
        with Vertical(classes="dialog -page"):
            yield Label("Keys", classes="dialog-title")
            yield Static(_table([(_shown(key.key), key.meaning) for key in KEYS] + _MOVES))
            yield Label("Words", classes="dialog-title")
            yield Static(_table(list(_WORDS)))


_MOVES = [
    ("k", "the newest checkpoint, to keep off the box"),
    ("arrows", "choose a line; Tab goes on to the next part"),
]


def _shown(key: str) -> str:
    return {"question_mark": "?"}.get(key, key)


def _table(lines: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, min_width=10)
    table.add_column()
    for left, right in lines:
        table.add_row(left, right)
    return table
