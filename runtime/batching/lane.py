"""One lane: a runner, its thread, and what they are at.

Knows: how a sleeping lane is woken, and how requests become one call of the runner. Rules: whoever takes a
lane out of a list of sleepers wakes it exactly once; whatever a runner raises becomes the error of each
request in the batch. Leaves to others: which batch (`waiting`), and who guards these fields (`batcher`:
its lock does, but for `wake`).
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from appliance import journal
from appliance.errors import ApplianceError, EngineError
from appliance.tensors import Interface
from runtime.batching.ticket import Outcome, Ticket
from runtime.servable import Answer, Inputs


class Runner(Protocol):
    """What a lane needs of a servable."""

    interface: Interface

    @property
    def resting(self) -> bool:
        """Whether it could not run now, though another may. Waits for nobody."""

    def run(self, requests: Sequence[Inputs], rows: int) -> list[Answer | ApplianceError]:
        """Answer the requests of one batch, in order, by one engine call of `rows` rows, padded if need be."""

    def lane(self) -> "Runner":
        """Another one over the same weights, to run beside this one. Raises EngineError when there is none."""

    def close(self) -> None:
        """Free what it holds."""


class Lane:
    """A runner and its thread. `batch` is what it runs now, since `started_ns`; the last ended at `ended_ns`."""

    def __init__(self, runner: Runner, *, name: str, work: Callable[["Lane"], None]) -> None:
        self.runner = runner
        self.batch: list[Ticket] = []
        self.started_ns = self.ended_ns = 0
        self.lost = False  # given up: its call took too long and has not ended
        self.ended = False  # it takes no batch any more
        self.over = threading.Event()  # the thread is at its end, or lost
        self._asleep = threading.Lock()  # a bare lock: of what can wake a thread the quickest
        self._asleep.acquire()
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)

    def wake(self) -> None:
        """Let the thread go on; once for each sleep."""
        self._asleep.release()

    def sleep(self, seconds: float = -1) -> bool:
        """Wait to be woken, for ever or so many seconds; False when they are over."""
        return self._asleep.acquire(timeout=seconds)

    def answers(self, batch: Sequence[Ticket], rows: int) -> Sequence[Answer | ApplianceError]:
        """What the runner says to each of `batch`, as one engine call of `rows` rows."""
        try:
            answers = self.runner.run([ticket.inputs for ticket in batch], rows)
            if len(answers) == len(batch):
                return answers
            failed = EngineError(
                f"the engine gave {len(answers)} answers to {len(batch)} requests",
                remedy="see the journal",
            )
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of a kernel
            failed = EngineError(f"the engine failed: {error}", remedy="see the journal")
            failed.__cause__ = error
        return [failed] * len(batch)


def tell(ticket: Ticket, outcome: Outcome) -> None:
    """Hand the outcome over. What the receiver raises is journalled: the others must get theirs."""
    try:
        ticket.then(outcome)
    except Exception as error:  # noqa: BLE001 - as said
        journal.failure("batch.untold", error)
