"""What the audit log needs now and then: notes of others, sealing the file that grew, removing what is old.

Knows: what is done when. Rules: it runs on the recorder's thread, the log's one writer; what fails is journalled and
tried again, and holds no record up. Leaves to others: how (`appliance.audit.log`, `runtime.notes`).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from appliance import journal
from appliance.audit.kinds import AnyRecord
from appliance.clock import Clock
from appliance.config import AuditConfig, StateConfig
from appliance.errors import ApplianceError
from appliance.notes import prepare
from runtime.notes import take_up

DAY_SECONDS = 86_400
# How often sealed files are looked at, and how long after a failure something is tried again.
REMOVAL_NS, AGAIN_NS = 3_600_000_000_000, 60_000_000_000


class Log(Protocol):
    """What tending needs of `appliance.audit.log.AuditLog`."""

    def append(self, records: Sequence[AnyRecord]) -> Sequence[int]:
        """Make the records durable."""

    def seal_due(self, *, bytes_max: int, seconds: float) -> bool:
        """Whether the growing file is large or old enough."""

    def seal(self) -> bool:
        """Seal it; False when that cannot be just now."""

    def remove_expired(self, days: int) -> int:
        """Remove sealed files that are old enough; how many went."""

    @property
    def size(self) -> int:
        """Durable records."""


class Tending:
    """Looks after `log`; to be called about once a second. StateError when notes cannot be left."""

    def __init__(self, log: Log, config: AuditConfig, state: StateConfig, clock: Clock) -> None:
        self._log, self._config, self._state, self._clock = log, config, state, clock
        self._seal_from_ns = self._remove_from_ns = 0
        self._failures: dict[str, str] = {}
        prepare(state)

    def __call__(self) -> None:
        """Do what is due; a failure is journalled."""
        now_ns = self._clock.monotonic_ns()
        self._tried("notes", lambda: take_up(self._state, self._log))
        if now_ns >= self._seal_from_ns:
            self._seal_from_ns = now_ns + AGAIN_NS
            self._tried("sealing", self._seal)
        if self._config.retention_days and now_ns >= self._remove_from_ns:
            self._remove_from_ns = now_ns + REMOVAL_NS
            self._tried("removing", self._remove)

    def _tried(self, what: str, act: Callable[[], object]) -> None:
        """Do one of them; what keeps it from being done keeps none of the others."""
        try:
            act()
        except ApplianceError as error:
            if str(error) != self._failures.get(what):
                journal.failure("audit.untended", error, what=what)
            self._failures[what] = str(error)
        else:
            self._failures.pop(what, None)

    def _seal(self) -> None:
        seconds = self._config.segment_days * DAY_SECONDS
        if not self._log.seal_due(bytes_max=self._config.segment_bytes_max, seconds=seconds):
            self._seal_from_ns = 0
        elif self._log.seal():
            journal.event("audit.sealed", records=self._log.size)
            self._seal_from_ns = self._remove_from_ns = 0

    def _remove(self) -> None:
        removed = self._log.remove_expired(self._config.retention_days)
        if removed:
            self._remove_from_ns = 0  # a few at a time
            journal.event("audit.removed", files=removed, days=self._config.retention_days)
