"""Operational lines for journald: one JSON object a line on standard error.

Knows: the form of a line and the stable event names. Rules: no payloads; an event has a name that
scripts may match on. Leaves to others: the audit log, which is evidence while this may be lost.
"""

import logging
import sys
from typing import IO

import msgspec

from appliance.errors import ApplianceError

_log = logging.getLogger("holdfast")


class JsonLines(logging.Formatter):
    """Formats a record as {"level", "event", ...fields}."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without a line end; a traceback goes into its own field."""
        fields = {"level": record.levelname.lower(), "event": record.getMessage()}
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


def start_journal(stream: IO[str] | None = None) -> None:
    """Send this process's events to `stream` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    _log.handlers[:] = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False


def event(name: str, **fields: object) -> None:
    """Note that `name` happened."""
    _log.info(name, extra={"fields": fields})


def failure(name: str, error: BaseException, **fields: object) -> None:
    """Note a failure: code and remedy of our own errors, the traceback of any other."""
    if isinstance(error, ApplianceError):
        told = {"code": error.code, "message": str(error), "remedy": error.remedy}
        _log.warning(name, extra={"fields": fields | told})
    else:
        _log.error(name, exc_info=error, extra={"fields": fields | {"message": str(error)}})
