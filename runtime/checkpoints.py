"""Checkpoints leave the box, so that nobody can rewrite the log unnoticed.

Knows: the ways out: a directory, the journal, syslog; witnesses add their word before. Rules: each new
checkpoint leaves, at most one every `seconds`, and the last one at the end; a way that is blocked is told once, is tried
again every `seconds`, and holds up neither the others nor any answer. Leaves to others: signing (`appliance.audit.log`),
witnesses (`runtime.witnessing`).
"""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import NamedTuple

from appliance import journal
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.reader import AuditReader
from appliance.clock import Clock
from appliance.config import CheckpointsConfig, Config, StateConfig, split_address
from appliance.errors import ApplianceError, StateError
from appliance.files import write_file
from runtime.witnessing import Asking, ask_all, asked_witnesses

_NS = 1_000_000_000


class Way(NamedTuple):
    """One way out: what it is called, and what sends a note; ApplianceError or OSError when it cannot."""

    name: str
    send: Callable[[str], None]


class Publisher:
    """Sends each new checkpoint of the log out; `blocked` is why one did not leave, by way and by witness."""

    def __init__(
        self, config: CheckpointsConfig, state: StateConfig, witnesses: list[Asking], clock: Clock
    ) -> None:
        self._config = config
        self._state = state
        self._witnesses = witnesses
        self._ways = list(ways_out(config, clock))
        self._note = ""  # the newest checkpoint
        self._words: dict[str, str] = {}  # its cosignatures, by witness
        self._left: dict[str, str] = {}  # what left last, by way
        # Read by other threads, so it is never changed in place.
        self.blocked: Mapping[str, ApplianceError] = {}
        self._publishing = threading.Lock()

    async def keep_publishing(self) -> None:
        """Look for a new checkpoint every `seconds`, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.publish)
            except Exception as error:  # noqa: BLE001 - whatever it was, the next try may fare better
                journal.failure("checkpoint.crashed", error)
            await asyncio.sleep(self._config.seconds)

    def publish(self, *, ask: bool = True) -> None:
        """Send the newest checkpoint out by each way that it has not left by; witnesses are asked first if `ask`.

        Any thread. Raises AuditError when the log cannot be read.
        """
        with self._publishing:
            with AuditReader(self._state.audit_log) as log:
                notes = log.checkpoints()
                if not notes:
                    return
                if notes[-1] != self._note:
                    self._note, self._words = notes[-1], {}
                if ask:
                    self._have_cosigned(log)
            told = self._told()
            for way in self._ways:
                if self._left.get(way.name) != told:
                    error = _sent(way, told)
                    self._settle(way.name, error)
                    if error is None:
                        self._left[way.name] = told

    def close(self) -> None:
        """Send the last checkpoint, of a log that is closed by now, without asking witnesses."""
        try:
            self.publish(ask=False)
        except ApplianceError as error:
            journal.failure("checkpoint.undelivered", error, way="all")
        for witness in self._witnesses:
            witness.close()

    def _told(self) -> str:
        """The newest checkpoint with the cosignatures that there are."""
        words = (self._words.get(witness.name, "") for witness in self._witnesses)
        return self._note + "".join(words)

    def _have_cosigned(self, log: AuditReader) -> None:
        """Ask the witnesses that have not cosigned the newest checkpoint; what they give is kept for receipts."""
        asked = [witness for witness in self._witnesses if witness.name not in self._words]
        before = len(self._words)
        for name, answer in ask_all(asked, log, self._note).items():
            if isinstance(answer, str):
                self._words[name] = answer
            self._settle(name, None if isinstance(answer, str) else answer)
        if len(self._words) > before:
            write_file(self._state.cosigned, self._told().encode())

    def _settle(self, name: str, error: ApplianceError | None) -> None:
        """Tell the journal when a way is blocked, or blocked otherwise, and when it is free again."""
        before = self.blocked.get(name)
        others = {way: kept for way, kept in self.blocked.items() if way != name}
        self.blocked = others if error is None else {**others, name: error}
        if error is not None:
            if _kind(error) != _kind(before):
                journal.failure("checkpoint.undelivered", error, way=name)
        elif before is not None:
            journal.event("checkpoint.delivered", way=name)


def open_publisher(config: Config, clock: Clock) -> Publisher:
    """The publisher that [checkpoints] asks for. Raises KeyFileError, ConfigError."""
    witnesses = asked_witnesses(config.checkpoints)
    return Publisher(config.checkpoints, config.state, witnesses, clock)


def _sent(way: Way, note: str) -> ApplianceError | None:
    """Send `note` that way; what kept it from leaving, None when it left."""
    try:
        way.send(note)
    except ApplianceError as error:
        return error
    except OSError as error:
        told = StateError(str(error), remedy=f"make {way.name} take what is sent there")
        told.__cause__ = error
        return told
    return None


def _kind(error: ApplianceError | None) -> tuple[type, object]:
    """What tells two troubles of one way apart; their words may change with the log."""
    return type(error), getattr(error and error.__cause__, "errno", None)


def ways_out(config: CheckpointsConfig, clock: Clock) -> list[Way]:
    """The ways that `config` asks for. Raises ConfigError on a syslog address that is none."""
    ways = []
    if config.directory:
        directory = Path(config.directory)
        ways.append(Way(config.directory, lambda note: drop(directory, note, clock)))
    if config.journal:
        ways.append(Way("journal", _write_line))
    if config.syslog:
        ways.append(Way(config.syslog, _syslog(config.syslog)))
    return ways


def drop(directory: Path, note: str, clock: Clock) -> None:
    """Write `note` as the newest one and as today's. Raises StateError when the directory is not there."""
    if not directory.is_dir():
        raise StateError(
            f"there is no directory {directory} for checkpoints",
            remedy="plug in or mount what it is on, or make it",
        )
    day = datetime.fromtimestamp(clock.wall_ns() / _NS, UTC).date().isoformat()
    for name in (f"checkpoint-{day}.note", "latest.note"):
        write_file(directory / name, note.encode())


def _write_line(note: str) -> None:
    checkpoint = read_checkpoint(note)
    journal.event(
        "checkpoint.signed",
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        note=note,
    )


class _Loud(SysLogHandler):
    """A handler whose failures reach the sender; logging's own would print them and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        raise  # noqa: PLE0704 - logging calls this inside its except clause


def _syslog(address: str) -> Callable[[str], None]:
    """A sender of notes as lines of syslog, each JSON with the note word for word. Raises ConfigError."""
    place = address if address.startswith("/") else split_address(address)

    def send(note: str) -> None:
        # Opened anew each time: a log server that was restarted is found again.
        handler = _Loud(place, facility=SysLogHandler.LOG_AUTHPRIV)
        handler.ident = "holdfast: "
        try:
            line = json.dumps({"event": "checkpoint.signed", "note": note}, ensure_ascii=False)
            handler.emit(logging.LogRecord("holdfast", logging.INFO, "", 0, line, None, None))
        finally:
            handler.close()

    return send
