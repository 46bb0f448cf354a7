"""Operational lines for journald: one JSON object a line on standard error.

Knows: the form of a line and the stable event names. Rules: no payloads; an event has a name that
scripts may match on. Leaves to others: the audit log, which is evidence while this may be lost.
"""

import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

import msgspec

from appliance.errors import ApplianceError

_log = logging.getLogger("holdfast")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Which lines are written: `details` up to that level (0: none), events, warnings, errors.

    `timed`: each line says when it was written (ISO 8601, UTC); journald knows that by itself.
    """

    details: int = 0
    events: bool = True
    warnings: bool = True
    errors: bool = True
    timed: bool = False

    def level(self, number: int) -> bool:
        """Whether lines of this level of `logging` are written."""
        return {
            logging.DEBUG: self.details > 0,
            logging.INFO: self.events,
            logging.WARNING: self.warnings,
            logging.ERROR: self.errors,
        }.get(number, True)


_shown = Shown()


def shown() -> Shown:
    """What is written now."""
    return _shown


def show(what: Shown) -> None:
    """Write `what` from now on."""
    global _shown  # noqa: PLW0603 - one process has one journal
    _shown = what
    _log.setLevel(logging.DEBUG if what.details else logging.INFO)


class JsonLines(logging.Formatter):
    """Formats a record as {"level", "event", ...fields}, with "time" first when asked for."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without a line end; a traceback goes into its own field."""
        fields = {"level": record.levelname.lower(), "event": record.getMessage()}
        if _shown.timed:
            at = datetime.fromtimestamp(record.created, UTC)
            fields = {"time": at.isoformat(timespec="microseconds"), **fields}
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


def start_journal(stream: IO[str] | None = None) -> None:
    """Send this process's events to `stream` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: _shown.level(record.levelno))
    _log.handlers[:] = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False


def event(name: str, **fields: object) -> None:
    """Note that `name` happened."""
    _log.info(name, extra={"fields": fields})


def detail(name: str, **fields: object) -> None:
    """Note that `name` happened, for whoever asked for every detail."""
    if _shown.details:
        _log.debug(name, extra={"fields": fields})


def change(name: str, **fields: object) -> None:
    """Note that what is written changes; such a line is written whatever is asked for."""
    _log.critical(name, extra={"fields": fields})


def failure(name: str, error: BaseException, **fields: object) -> None:
    """Note a failure: code and remedy of our own errors, the traceback of any other."""
    if isinstance(error, ApplianceError):
        told = {"code": error.code, "message": str(error), "remedy": error.remedy}
        _log.warning(name, extra={"fields": fields | told})
    else:
        _log.error(name, exc_info=error, extra={"fields": fields | {"message": str(error)}})
