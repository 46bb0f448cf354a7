"""One request on its way through a batcher, and what becomes of it.

Knows: what is kept of a request while it waits. Rules: a ticket is the only thing made for a request.
Leaves to others: when it is taken (`waiting`) and by whom (`batcher`).
"""

from collections.abc import Callable, Hashable
from typing import TypeAlias

import msgspec

from appliance.errors import ApplianceError
from runtime.servable import Answer, Inputs

NEVER = 1 << 63  # later than any time on a clock of nanoseconds


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and where its time went; `batch_rows` rows shared the engine call.

    In nanoseconds: it waited `queue_ns`; its batch took `before_ns` to prepare, `compute_ns` in the engine
    and `after_ns` for what follows there. `step` is its place in its sequence, from 1, 0 without one.
    """

    answer: Answer
    queue_ns: int
    before_ns: int
    compute_ns: int
    after_ns: int
    batch_rows: int
    step: int = 0


Outcome: TypeAlias = Served | ApplianceError


class Ticket(msgspec.Struct, eq=False):
    """A request that was submitted. All but `cancel` is the batcher's own.

    `line` is the place of its line while it waits, else -1; `due_ns`, on the monotonic clock, is when
    its time in that line is over; `gathered` says that the thread which brought it will run it.
    """

    inputs: Inputs
    rows: int
    then: Callable[[Outcome], None]
    key: Hashable
    client: str
    queued_ns: int
    deadline_ns: int
    leave: Callable[["Ticket"], bool]
    due_ns: int = NEVER
    line: int = -1
    number: int = 0
    gathered: bool = False

    def cancel(self) -> bool:
        """True when the request still waited and is gone now; its `then` is never called. Any thread."""
        return self.leave(self)


def outcome_of(
    answer: Answer | ApplianceError, queue_ns: int, took_ns: int, batch_rows: int
) -> Outcome:
    """What becomes of a request that waited `queue_ns` and whose batch took `took_ns`."""
    if isinstance(answer, ApplianceError):
        return answer
    return Served(
        answer=answer,
        queue_ns=queue_ns,
        before_ns=answer.before_ns,
        compute_ns=took_ns - answer.before_ns - answer.after_ns,
        after_ns=answer.after_ns,
        batch_rows=batch_rows,
    )
