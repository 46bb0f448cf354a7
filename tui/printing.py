"""How commands print: data to standard output, everything else to standard error.

Knows: tables for people, JSON for programs, progress while a person waits. Rules: what is piped is neither
coloured nor cut to a terminal's width; NO_COLOR is kept; progress appears on a terminal only. Leaves to
others: errors and exit codes (`appliance.commands`).
"""

import sys
from collections.abc import Sequence
from typing import Literal, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from appliance.commands import printable

PIPED_CELLS = 240


def out() -> Console:
    """Standard output as a person or a pipe reads it."""
    return _console(sys.stdout, stderr=False)


def aside() -> Console:
    """Standard error, for questions, progress and remarks."""
    return _console(sys.stderr, stderr=True)


def someone_is_there() -> bool:
    """True when a person sits at standard input and can be asked."""
    return sys.stdin.isatty()


def print_json(value: object) -> None:
    """Write `value` as indented JSON to standard output; bytes become base64."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(*headings: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """An empty table; columns in `right` are aligned to the right, those in `whole` never broken."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings:
        align: Literal["left", "right"] = "right" if heading in right else "left"
        made.add_column(heading, justify=align, overflow="fold", no_wrap=heading in whole)
    return made


def cell(value: object, style: str = "") -> Text:
    """`value` as a table cell: never markup, no control characters."""
    return Text(printable(str(value)), style=style)


def progress(unit: str) -> Progress:
    """A bar with an estimate of the time left, counting `unit`, on a terminal only."""
    console = aside()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _Printer(Console):
    """A console that leaves a reader who went away to `appliance.commands`; Rich's own would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError on; Rich calls this while it handles one."""
        raise  # noqa: PLE0704 - inside Rich's except clause


def _console(stream: TextIO, *, stderr: bool) -> Console:
    width = None if stream.isatty() else PIPED_CELLS
    return _Printer(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)
