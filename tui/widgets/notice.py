"""What is shown instead of the tables when there is nothing to show in them.

Knows: the texts for a runtime that does not answer and for an empty store. Rules: says what happened and
what to do next. Leaves to others: trying again (`tui.app`).
"""

from rich.text import Text
from textual.widgets import Static

from tui.snapshot import Link, Snapshot


class Notice(Static):
    """A message in the middle of the screen."""

    def __init__(self) -> None:
        super().__init__(id="notice")

    def show(self, snapshot: Snapshot) -> None:
        """Show what `snapshot` has to say besides its tables."""
        self.update(_text(snapshot))


def needed(snapshot: Snapshot) -> bool:
    """True when `snapshot` has no tables to show."""
    return not snapshot.models


def _text(snapshot: Snapshot) -> Text:
    if snapshot.link is Link.CONNECTING:
        return Text("Connecting to the runtime ...")
    if snapshot.trouble:
        return Text.assemble(
            (f"{snapshot.trouble.message}\n\n", "bold"),
            ("What to do  ", "dim"),
            f"{snapshot.trouble.remedy}\n\n",
            ("Trying again every second; leave with q.", "dim"),
        )
    return Text.assemble(
        ("The runtime serves, but its store holds no model yet.\n\n", "bold"),
        ("What to do\n", "dim"),
        "holdfast-compile pack model.onnx --spec model.toml -o model.holdfast\n",
        "holdfast-compile build model.holdfast",
    )
