"""Failures that come in floods: the first ones singly, the others counted together.

Knows: how many failures of one principal with one code were recorded this minute. Rules: none is forgotten: what is
not recorded singly is in a summary at the end of its minute; what is remembered is bounded, however many
principals there seem to be. Leaves to others: writing (`runtime.recorder`), using it one thread at a time.

A refusal that is counted is told to its caller before its summary is durable: a crash can take a minute's counts.
"""

from appliance.audit.kinds import AnyRecord, Failure, Refusals
from appliance.clock import Clock

WINDOW_NS = 60_000_000_000
# Beyond so many different principals and codes a minute the others are counted by code alone.
KEYS_MAX = 1024


class _Flood:
    """The failures of one principal with one code since `began_ns` (monotonic)."""

    __slots__ = ("began_ns", "count", "first", "first_ns", "last_ns", "singly")

    def __init__(self, began_ns: int, first: Failure) -> None:
        self.began_ns = began_ns
        self.singly = 0
        self.count = 0
        self.first = first
        self.first_ns = self.last_ns = 0

    def add(self, failure: Failure, wall_ns: int) -> None:
        if not self.count:
            self.first, self.first_ns = failure, wall_ns
        self.count += 1
        self.last_ns = wall_ns

    def summary(self, *, principal: str) -> Refusals:
        return Refusals(
            principal=principal,
            peer=self.first.peer,
            code=self.first.code,
            count=self.count,
            message=self.first.message,
            first_wall_ns=self.first_ns,
            last_wall_ns=self.last_ns,
        )


class Floods:
    """Decides for each failure whether it is recorded by itself; `singly` a minute are."""

    def __init__(self, clock: Clock, *, singly: int) -> None:
        self._clock = clock
        self._singly = singly
        self._floods: dict[tuple[str, str], _Flood] = {}

    def keep(self, record: AnyRecord) -> bool:
        """Whether `record` is to be written by itself; otherwise it is counted."""
        if not isinstance(record, Failure):
            return True
        # Nobody known: told apart by address, without the port, which would let one caller be many.
        who = record.principal or record.peer.rpartition(":")[0]
        flood = self._floods.get((who, record.code))
        if flood is None:
            if len(self._floods) >= KEYS_MAX:
                who = ""
            flood = self._floods.setdefault(
                (who, record.code), _Flood(self._clock.monotonic_ns(), record)
            )
        if flood.singly < self._singly:
            flood.singly += 1
            return True
        flood.add(record, self._clock.wall_ns())
        return False

    def due(self, *, all_of_them: bool = False) -> list[Refusals]:
        """The summaries of the minutes that are over, or of all, which are then forgotten."""
        now_ns = self._clock.monotonic_ns()
        over = [
            key
            for key, flood in self._floods.items()
            if all_of_them or now_ns - flood.began_ns >= WINDOW_NS
        ]
        found = []
        for key in over:
            flood = self._floods.pop(key)
            if flood.count:
                found.append(flood.summary(principal=flood.first.principal if key[0] else ""))
        return found
