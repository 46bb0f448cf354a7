"""Progress as bars on a terminal.

Knows: how a stage looks. Rules: bars go to standard error and only to a terminal; a finished stage stays
as one line. Leaves to others: what the stages are.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compiler.progress import Progress as Told
from compiler.progress import Silent


class Bars:
    """One bar a stage, with elapsed and remaining time."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._task: TaskID | None = None

    def stage(self, name: str, steps: int = 1) -> None:
        """Finish the stage before and begin a bar."""
        self.finish()
        self._task = self._display.add_task(name, total=steps)

    def step(self, steps: int = 1) -> None:
        """Move the bar on."""
        assert self._task is not None, "a stage comes first"
        self._display.advance(self._task, steps)

    def finish(self) -> None:
        """Fill the bar of the stage that is over."""
        if self._task is not None:
            total = self._display.tasks[-1].total
            self._display.update(self._task, completed=total)
            self._display.stop_task(self._task)


@contextmanager
def progress_bars() -> Iterator[Told]:
    """Bars on a terminal, silence elsewhere; NO_COLOR is honoured by rich."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield Silent()
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as display:
        bars = Bars(display)
        yield bars
        bars.finish()
