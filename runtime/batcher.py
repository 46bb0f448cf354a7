"""Forms batches and runs them on the servable's own thread.

Knows: the queue of one servable. Rules: a batch is what queued while the engine ran (plus at most the
configured delay), in order of arrival, of one shape, within the row limit (a larger request goes
alone); a caller that left or whose
time is over never reaches the engine; each caller gets exactly its own rows, once. Leaves to others:
what a batch computes (`runtime.servable`).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from appliance.clock import Clock
from appliance.config import BatchingConfig
from appliance.errors import ApplianceError, Draining, EngineError, Overloaded
from appliance.tensors import Interface
from runtime.servable import Answer, Inputs


class Runner(Protocol):
    """What the batcher needs of a servable."""

    interface: Interface

    def run(self, requests: list[Inputs]) -> list[Answer | ApplianceError]:
        """Answer the requests of one batch, in order."""

    def batch_key(self, inputs: Inputs) -> Hashable:
        """Equal for requests that fit one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An answer and where its time went, in nanoseconds; `batch_rows` rows shared the engine call."""

    answer: Answer
    queue_ns: int
    compute_ns: int
    batch_rows: int


@dataclass(slots=True, eq=False)
class _Job:
    inputs: Inputs
    rows: int
    key: Hashable
    deadline_ns: int | None
    queued_ns: int
    future: "asyncio.Future[Served]"


class Batcher:
    """One queue and one engine thread. `submit` is called on the event loop it was made on."""

    def __init__(
        self, servable: Runner, config: BatchingConfig, clock: Clock, *, name: str
    ) -> None:
        self._servable = servable
        self._clock = clock
        self._rows_max = min(config.rows_max, max(servable.interface.batch_max, 1))
        self._delay_ns = config.delay_us_max * 1000
        self._queue_max = config.queue_requests_max
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"engine {name}", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Requests that wait now."""
        return len(self._waiting)

    async def submit(self, inputs: Inputs, rows: int, *, deadline_ns: int | None = None) -> Served:
        """Run one request of `rows` rows and return its answer.

        `deadline_ns` is on the clock's monotonic_ns. Raises Overloaded when the queue is full or the
        deadline passed in it, Draining after `close`, else what the servable raised.
        """
        key, now = self._servable.batch_key(inputs), self._clock.monotonic_ns()
        job = _Job(inputs, rows, key, deadline_ns, now, self._loop.create_future())
        with self._change:
            if self._closed:
                raise Draining("GRPC server is shutting down", remedy="try again later")
            if len(self._waiting) >= self._queue_max:
                raise Overloaded("Exceeds maximum queue size", remedy="send fewer at a time")
            self._waiting.append(job)
            self._change.notify()
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._change, suppress(ValueError):
                self._waiting.remove(job)
            raise

    def close(self) -> None:
        """Answer what is queued, then end the thread; blocks until it has ended."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            started = self._clock.monotonic_ns()
            answers = self._answers(batch)
            took = self._clock.monotonic_ns() - started
            self._loop.call_soon_threadsafe(_deliver, batch, answers, started, took)

    def _answers(self, batch: list[_Job]) -> list[Answer | ApplianceError]:
        try:
            return self._servable.run([job.inputs for job in batch])
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of a kernel
            failed = EngineError(f"the engine failed: {error}", remedy="see the journal")
            failed.__cause__ = error
            return [failed] * len(batch)

    def _next_batch(self) -> list[_Job]:
        """Wait for work and take one batch; empty when closed and nothing is left."""
        with self._change:
            while True:
                while not self._waiting:
                    if self._closed:
                        return []
                    self._change.wait()
                if self._delay_ns:
                    self._wait_for_more()
                if batch := self._take():
                    return batch

    def _wait_for_more(self) -> None:
        until = self._waiting[0].queued_ns + self._delay_ns
        while not self._closed and sum(job.rows for job in self._waiting) < self._rows_max:
            left = until - self._clock.monotonic_ns()
            if left <= 0:
                return
            self._change.wait(left / 1e9)

    def _take(self) -> list[_Job]:
        """Take jobs from the head while they are alive, fit the row limit and share one key."""
        batch: list[_Job] = []
        rows, now = 0, self._clock.monotonic_ns()
        while self._waiting:
            job = self._waiting[0]
            if job.deadline_ns is not None and now >= job.deadline_ns:
                self._waiting.popleft()
                self._loop.call_soon_threadsafe(_expire, job)
            elif batch and (rows + job.rows > self._rows_max or job.key != batch[0].key):
                break
            else:
                batch.append(self._waiting.popleft())
                rows += job.rows
                if not self._servable.interface.batch_max:
                    break
        return batch


def _expire(job: _Job) -> None:
    if not job.future.done():
        job.future.set_exception(
            Overloaded("Request timeout expired", remedy="allow more time or send fewer at a time")
        )


def _deliver(
    batch: list[_Job], answers: list[Answer | ApplianceError], started_ns: int, compute_ns: int
) -> None:
    rows = sum(job.rows for job in batch)
    for job, answer in zip(batch, answers, strict=True):
        if job.future.done():
            continue
        if isinstance(answer, ApplianceError):
            job.future.set_exception(answer)
        else:
            job.future.set_result(
                Served(
                    answer=answer,
                    queue_ns=started_ns - job.queued_ns,
                    compute_ns=compute_ns,
                    batch_rows=rows,
                )
            )
