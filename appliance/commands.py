"""How a command ends: its error told on standard error, its exit code from the one table.

Knows: the form in which errors are shown. Rules: an operating error is two lines, `error [code]: what
happened` and `remedy: what to do`, also where the system refused a file or the output; Ctrl-C ends with 130 and no
traceback; anything else is our own mistake, so its traceback is shown and the code is 1. Leaves to others: parsing the command line.

Use, in every entry point:

    def main() -> None:                 # a plain program, such as holdfast-runtime
        run_command(serve)              # serve() -> exit code or None

    @app.command()                      # a Typer command; its signature stays visible to Typer
    @reporting
    def build(bundle: Path) -> None: ...

A Typer app is made with `pretty_exceptions_enable=False` and started plainly: `app()`.
"""

import errno
import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, ParamSpec, TypeVar

from appliance.errors import ApplianceError, StateError
from appliance.exits import BROKEN_PIPE, INTERRUPTED, OK, exit_code

_REFUSALS = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}

P = ParamSpec("P")
R = TypeVar("R")


def run_command(command: Callable[[], int | None]) -> NoReturn:
    """Run `command` and exit with the code it returns (None is 0), or with its error's."""
    sys.exit(reporting(command)() or OK)


def reporting(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap `command` so that ApplianceError and Ctrl-C are told and raised on as SystemExit."""

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ApplianceError as error:
            report(error)
            raise SystemExit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            print("\ninterrupted", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read our output has enough.
            _leave_output()
            raise SystemExit(BROKEN_PIPE) from error
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            refused = _refused(error)
            report(refused)
            _leave_output()
            raise SystemExit(exit_code(refused)) from error

    return told


def _refused(error: OSError) -> StateError:
    """What the system's refusal is to whoever gave the command."""
    return StateError(
        f"cannot use {error.filename or 'the output'}: {error.strerror}",
        remedy="check free space and permissions; what is the runtime's is for root, its own user and its group",
    )


def _leave_output() -> None:
    """Let Python's own flush at exit find nothing to complain of."""
    with suppress(OSError, ValueError):  # an output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report(error: ApplianceError) -> None:
    """Write an error's code, message and remedy to standard error, coloured on a terminal."""
    label, remedy = f"error [{error.code}]:", "remedy:"
    if use_colour():
        label, remedy = f"\x1b[1;31m{label}\x1b[0m", f"\x1b[1m{remedy}\x1b[0m"
    print(f"{label} {printable(str(error))}", file=sys.stderr)
    print(f"{remedy} {printable(error.remedy)}", file=sys.stderr)


def use_colour() -> bool:
    """Whether standard error is a terminal that wants colour (https://no-color.org)."""
    return (
        sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def printable(text: str) -> str:
    r"""`text` with control characters escaped: names from a hostile file must not drive a terminal.

    Line ends stay; an escape character becomes the four characters \x1b.
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )
