"""Records that are not written by themselves, and what is written instead.

Knows: which failures come in floods, and which records a full disk may cost when the configuration says to serve on.
Rules: nothing is left out silently: a summary says how many; decisions and what else the box does are never left
out; a summary that could not be written is written later. Leaves to others: writing (`runtime.recorder`, on whose one
thread all of this runs but `gap`).
"""

from collections.abc import Sequence

from appliance.audit.kinds import AnyRecord, Failure, Feedback, Gap, Inference
from appliance.clock import Clock
from runtime.floods import Floods

LOOK_NS = 1_000_000_000
_OF_REQUESTS = (Inference, Failure, Feedback)


class Omissions:
    """`gaps`: whether requests are answered although their record cannot be written."""

    def __init__(self, clock: Clock, *, singly: int, gaps: bool) -> None:
        self._clock = clock
        self._floods = Floods(clock, singly=singly)
        self._gaps = gaps
        self._gap_reason, self._missing = "", 0
        self._waiting: list[AnyRecord] = []
        self._looked_ns = clock.monotonic_ns()
        # Why no records of requests are to be written, "" when they are; set by whoever watches the disk.
        self.gap = ""

    def keep(self, record: AnyRecord) -> bool:
        """Whether `record` is to be written by itself; otherwise it is counted."""
        if self.gap and self._may_miss(record):
            self._miss(1, self.gap)
            return False
        return self._floods.keep(record)

    def missed(self, record: AnyRecord, reason: str) -> bool:
        """`record` could not be written for `reason`: whether its answer goes out all the same, counted."""
        if not self._may_miss(record):
            return False
        self._miss(1, reason)
        return True

    def due(self, *, last: bool = False) -> Sequence[AnyRecord]:
        """The summaries to write now, at the `last` all; `written` tells that they are."""
        now_ns = self._clock.monotonic_ns()
        # While some wait to be written, counting goes on instead: what waits stays bounded on a log that fails.
        if last or (not self._waiting and now_ns - self._looked_ns >= LOOK_NS):
            self._looked_ns = now_ns
            self._waiting += self._floods.due(all_of_them=last)
            if self._missing and (last or not self.gap):
                self._waiting.append(Gap(count=self._missing, reason=self._gap_reason))
                self._missing = 0
        return self._waiting

    def written(self) -> None:
        """What `due` gave is durable."""
        self._waiting = []

    def _may_miss(self, record: AnyRecord) -> bool:
        return self._gaps and isinstance(record, _OF_REQUESTS)

    def _miss(self, count: int, reason: str) -> None:
        self._missing += count
        self._gap_reason = reason
