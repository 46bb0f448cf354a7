"""A table of keyed lines that keeps its cursor while its content changes.

Knows: columns of fixed width beside one that takes the rest. Rules: a tick that changes nothing redraws
nothing; the cursor stays on its line, not on its row number. Leaves to others: what the lines say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text
from textual import events
from textual.coordinate import Coordinate
from textual.widgets import DataTable

STRETCH = 0
_STRETCH_CELLS_MIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its heading, its width in cells (STRETCH: what is left) and its alignment."""

    heading: str
    cells: int
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: the key it keeps over time and one text a column."""

    key: str
    texts: tuple[str, ...]
    style: str = ""


class LineTable(DataTable[Text]):
    """Shows lines; `chosen` is the key of the one under the cursor."""

    def __init__(self, columns: Sequence[Column], *, title: str, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.border_title = title
        self._columns_wanted = tuple(columns)
        self._lines: tuple[Line, ...] = ()
        self._keys: list[str] = []

    @property
    def chosen(self) -> str | None:
        """The key under the cursor, None while there are no lines."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None

    def show(self, lines: Sequence[Line]) -> None:
        """Replace the content by `lines`; the cursor stays on its key, else goes to the top."""
        old, self._lines = self._lines, tuple(lines)
        if [line.key for line in old] != [line.key for line in lines]:
            self._fill()
            return
        for row, (before, after) in enumerate(zip(old, lines, strict=True)):
            if before != after:
                self._replace(row, after)

    def use_columns(self, columns: Sequence[Column]) -> None:
        """Show these columns from now on; the next `show` fills them."""
        if tuple(columns) != self._columns_wanted:
            self._columns_wanted, self._lines = tuple(columns), ()

    def on_resize(self, _event: events.Resize) -> None:
        """Give the stretching column what the new width leaves."""
        self._fill()

    def watch_show_vertical_scrollbar(self) -> None:
        """Give it what the scroll bar leaves: no resize tells of one that comes or goes by itself."""
        self.call_later(self._fill)

    def _fill(self) -> None:
        chosen, top = self.chosen, self.scroll_y
        self.clear(columns=True)
        for column, cells in zip(self._columns_wanted, self._widths(), strict=True):
            self.add_column(Text(column.heading, justify=column.align), width=cells)
        for line in self._lines:
            self.add_row(*self._cells(line), key=line.key)
        self._keys = [line.key for line in self._lines]
        self.move_cursor(row=self._keys.index(chosen) if chosen in self._keys else 0)
        self.scroll_to(y=top, animate=False)

    def _replace(self, row: int, line: Line) -> None:
        for column, text in enumerate(self._cells(line)):
            self.update_cell_at(Coordinate(row, column), text)

    def _widths(self) -> list[int]:
        padding = 2 * self.cell_padding * len(self._columns_wanted)
        taken = padding + sum(column.cells for column in self._columns_wanted)
        rest = max(_STRETCH_CELLS_MIN, self.scrollable_content_region.width - taken)
        return [column.cells or rest for column in self._columns_wanted]

    def _cells(self, line: Line) -> list[Text]:
        pairs = zip(self._columns_wanted, line.texts, strict=True)
        return [
            Text(text, style=line.style, justify=column.align, overflow="ellipsis", no_wrap=True)
            for column, text in pairs
        ]
