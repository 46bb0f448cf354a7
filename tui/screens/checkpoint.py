"""The newest checkpoint, to be carried off the box by hand or by camera.

Knows: the room that a QR code needs. Rules: the text is shown word for word; a code that does not fit is not
shown in part, for no camera could read it. Leaves to others: where it comes from (`tui.checkpoints`), drawing
the code (`tui.qr`).
"""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from tui.checkpoints import Newest
from tui.qr import qr_lines

# Lines and cells that the dialog takes beside the code.
FRAME_LINES, FRAME_CELLS = 12, 8


class CheckpointScreen(ModalScreen[None]):
    """The checkpoint as text, and as a code where there is room; Escape, k or q leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,k,enter", "app.pop_screen", "Close", show=False)
    ]

    def __init__(self, newest: Newest) -> None:
        super().__init__()
        self._newest = newest

    def compose(self) -> ComposeResult:
        """The text, what a witness says of it, then the code or what it needs."""
        with Vertical(classes="dialog -page"):
            yield Label("The newest checkpoint; keep a copy off the box", classes="dialog-title")
            yield Static(Text(self._newest.told), id="note")
            if self._newest.remark:
                yield Static(Text(self._newest.remark), id="remark")
            yield Static(self._code(), id="code")

    def _code(self) -> Text:
        lines = qr_lines(self._newest.note)
        width, height = len(lines[0]) + FRAME_CELLS, len(lines) + FRAME_LINES
        if self.app.size.width < width or self.app.size.height < height:
            return Text(
                f"A QR code needs a window of {width}x{height}; or run: holdfast audit checkpoint --qr"
            )
        return Text("\n".join(lines), style="bright_white on black", no_wrap=True)
