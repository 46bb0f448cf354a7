"""Worker processes whose death or delay costs one task and nothing more.

Knows: how a task is given to a child and what is made of one that dies or does not end. Rules: a worker
does one task at a time, its time is limited, and a new one takes the place of one that is gone. Leaves
to others: what a task is.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

CONTEXT = multiprocessing.get_context("spawn")
Task: TypeAlias = tuple[Any, ...]
Perform: TypeAlias = Callable[[Task], Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A task without a result: its process died (and how), or was killed at the time limit."""

    what: str
    how: str


DIED, HUNG = "died", "hung"


@dataclass(slots=True)
class Worker:
    """A child process, what it is doing, and until when it may."""

    process: Any
    pipe: Connection
    task: Task | None = None
    until: float = 0.0


def each_result(
    perform: Perform, tasks: Sequence[Task], *, workers: int, seconds_max: float
) -> Iterator[tuple[Task, Any]]:
    """Perform every task in one of `workers` processes; results, or Ended, come as they are ready.

    `perform` is a function of a module and its result can be pickled; `seconds_max` is the limit of
    one task, and of the first one also of the worker's start.
    """
    waiting = list(reversed(tasks))
    crew = [_start(perform) for _ in range(min(workers, len(tasks)))]
    try:
        while waiting or any(worker.task is not None for worker in crew):
            for worker in crew:
                _give(worker, waiting, seconds_max)
            ready = set(wait([worker.pipe for worker in crew if worker.task], timeout=0.5))
            for at, worker in enumerate(crew):
                if worker.task is None:
                    continue
                result, done = _result(worker, ready=worker.pipe in ready)
                if not done:
                    continue
                yield worker.task, result
                worker.task = None
                if isinstance(result, Ended):
                    _kill(worker)
                    crew[at] = _start(perform)
    finally:
        for worker in crew:
            _kill(worker)


def _start(perform: Perform) -> Worker:
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(perform, there))
    process.start()
    there.close()
    return Worker(process, here)


def _work(perform: Perform, pipe: Connection) -> None:
    """What a worker does until its pipe is closed; an interrupt is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)  # so that its own children go with it
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(perform(task))


def _give(worker: Worker, waiting: list[Task], seconds_max: float) -> None:
    if worker.task is None and waiting:
        worker.task = waiting.pop()
        worker.until = time.monotonic() + seconds_max
        with suppress(BrokenPipeError):  # it died idle; the pipe's end is read as its death
            worker.pipe.send(worker.task)


def _result(worker: Worker, *, ready: bool) -> tuple[Any, bool]:
    """What the worker's task came to, and whether it is over."""
    if ready:
        try:
            return worker.pipe.recv(), True
        except (EOFError, ConnectionResetError):
            worker.process.join()
            return Ended(DIED, _ended_by(worker.process.exitcode)), True
    if time.monotonic() > worker.until:
        return Ended(HUNG, "killed at the time limit"), True
    return None, False


def _ended_by(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _kill(worker: Worker) -> None:
    worker.pipe.close()
    try:
        os.killpg(worker.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        worker.process.kill()  # it has no group of its own yet, or is gone
    worker.process.join()
