"""What stands for the batcher, the version and the clock where sequences alone are looked at."""

from functools import partial

import numpy as np

from appliance.config import SequencesConfig
from appliance.errors import EngineError, Overloaded
from runtime.batching import Served
from runtime.codec import Sequence
from runtime.router import Route
from runtime.sequences import Sequences
from runtime.servable import Answer

ROUTE = Route(1, "active")


class Stopped:
    """A clock that a test moves."""

    def __init__(self):
        self.now_ns = 0

    def monotonic_ns(self):
        return self.now_ns


class Users:
    """A version that counts who holds it; whoever submits does."""

    def __init__(self):
        self.count = 1

    def hold_again(self):
        self.count += 1
        return True

    def release(self):
        self.count -= 1


class Waits:
    """A ticket of the batcher below."""

    gathered = False

    def __init__(self, batcher, inputs, then):
        self.batcher, self.inputs, self.then = batcher, inputs, then

    @property
    def line(self):
        return 0 if self in self.batcher.tickets else -1

    def cancel(self):
        if self not in self.batcher.tickets:
            return False
        self.batcher.tickets.remove(self)
        return True


class Adding:
    """A batcher that answers when it is told to: the state "total" and the sum are total + x."""

    def __init__(self):
        self.tickets = []
        self.refusing = 0  # the next so many are refused at their coming
        self.timeouts = []

    def submit(self, inputs, rows, then, *, timeout_us=0, **_):
        assert rows == 1
        self.timeouts.append(timeout_us)
        if self.refusing:
            self.refusing -= 1
            raise Overloaded("Exceeds maximum queue size", remedy="later")
        self.tickets.append(Waits(self, inputs, then))
        return self.tickets[-1]

    def answer(self, at=0):
        """End one of those that compute."""
        ticket = self.tickets.pop(at)
        total = ticket.inputs.get("total", np.zeros((1, 1))) + ticket.inputs["x"]
        answer = Answer(
            outputs={"sum": total}, vectors=np.zeros((1, 1), np.float32), states={"total": total}
        )
        ticket.then(
            Served(answer=answer, queue_ns=0, before_ns=0, compute_ns=0, after_ns=0, batch_rows=1)
        )

    def fail(self, at=0):
        """Let the engine fail for one of them."""
        self.tickets.pop(at).then(EngineError("it failed", remedy="none"))


class Bench:
    """The sequences of one version over these."""

    def __init__(self, **settings):
        self.batcher, self.version, self.clock = Adding(), Users(), Stopped()
        self.sequences = Sequences(
            self.batcher,
            SequencesConfig(**settings),
            self.clock,
            model="sums",
            state_bytes=8,
        )
        self.told = []

    def ask(
        self, value, sequence=5, *, start=False, end=False, name="", rows=1, route=ROUTE, **more
    ):
        """Submit one request; its outcome comes to `told` as (value, sum and step, or the error)."""
        asked = None if sequence is None else Sequence(sequence, start, end)
        return self.sequences.submit(
            {"x": np.full((rows, 1), float(value))},
            rows,
            partial(self._told, value),
            sequence=asked,
            name=name,
            version=self.version,
            route=route,
            key=1,
            **more,
        )

    def _told(self, value, outcome):
        if isinstance(outcome, Served):
            self.told.append((value, float(outcome.answer.outputs["sum"][0, 0]), outcome.step))
        else:
            self.told.append((value, outcome.code))
