"""Streams, events and captures of the fake of a GPU.

Knows: what is queued where. Rules: nothing runs before somebody waits or asks for it, so that a forgotten wait shows as old
bytes; what is queued while capturing is kept and not run. Leaves to others: the work itself (`tests.gpu.fakes`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

Work: TypeAlias = Callable[[], None]


@dataclass
class Captured:
    """A capture, begun by this thread; see Capture of `runtime.gpu.device`."""

    graph: int = 0
    thread: int = field(default_factory=threading.get_ident)
    queued: list[Work] = field(default_factory=list)
    broken: bool = False


@dataclass
class Event:
    """Where a mark was put last; `done` counts the marks that were reached, `at` when the last was."""

    marks: int = 0
    done: int = 0
    stream: int = 0
    at: float = 0.0


class Queues:
    """All streams and events, by handle."""

    def __init__(self) -> None:
        self.streams: dict[int, deque[Work]] = {}
        self.events: dict[int, Event] = {}
        self.capturing: dict[int, Captured] = {}

    def add(self, stream: int, work: Work) -> None:
        """Queue work, or keep it for the capture of that stream."""
        if stream in self.capturing:
            self.capturing[stream].queued.append(work)
        else:
            self.streams[stream].append(work)

    def record(self, event: int, stream: int) -> None:
        """Queue a mark."""
        told = self.events[event]
        told.marks += 1
        told.stream = stream

        def reached() -> None:
            told.done += 1
            told.at = time.perf_counter()

        self.add(stream, reached)

    def reached(self, event: int) -> bool:
        """Whether the last mark is done. Each question does one piece of work: the first is hardly ever yes."""
        told = self.events[event]
        if told.done < told.marks:
            self.step(told.stream)
        return told.done == told.marks

    def wait(self, stream: int, event: int) -> None:
        """Queue a wait for the mark as it is now."""
        told = self.events[event]
        mark = told.marks

        def waited() -> None:
            while told.done < mark:
                self.step(told.stream)

        self.add(stream, waited)

    def elapsed_ms(self, begin: int, end: int) -> float | None:
        """Milliseconds between two marks; None when one was not reached."""
        first, last = self.events[begin], self.events[end]
        if any(event.done < max(event.marks, 1) for event in (first, last)):
            return None
        return (last.at - first.at) * 1000

    def step(self, stream: int) -> None:
        """Run one piece of work."""
        if self.streams[stream]:
            self.streams[stream].popleft()()

    def drain(self, stream: int) -> None:
        """Run all of a stream."""
        while self.streams[stream]:
            self.step(stream)
