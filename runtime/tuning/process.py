"""The process that measures, from outside.

Knows: how it is started, asked and ended. Rules: it runs in a session of its own, so that Ctrl-C reaches
only who waits for it, and whatever ends that wait ends the process; one that died in a trial is that
trial's trouble, and the next trial gets another. Leaves to others: what it does (`worker`).
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Self

import msgspec

from appliance.commands import printable
from appliance.deployment import Tuning
from appliance.errors import EngineLoad
from runtime.tuning.messages import (
    Arrivals,
    Failed,
    Measured,
    Order,
    Reached,
    Ready,
    Reply,
    Trial,
    nothing,
)

_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class Measuring:
    """A process that measures `order`'s version under any setting; a context manager.

    `ready` is what it says of the version once it is entered.
    """

    ready: Ready

    def __init__(self, order: Order) -> None:
        self._order = order
        self._running: ExitStack | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it. Raises EngineLoad when the version cannot be measured."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is at."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def measure(
        self,
        tuning: Tuning,
        arrivals: Arrivals,
        late_max: int,
        reached: Callable[[int], None] = lambda _requests: None,
    ) -> Measured:
        """Measure one setting with `arrivals`; `reached` is told how many have come, now and then.

        It is abandoned once more than `late_max` of them were late. Raises EngineLoad when the version cannot be measured at all.
        """
        if self._running is None:
            self._start()
        try:
            self._send(Trial(tuning=tuning, arrivals=arrivals, late_max=late_max))
            while not isinstance(reply := self._next(), Measured):
                if isinstance(reply, Reached):
                    reached(reply.requests)
        except _Died as died:
            self.close()
            return nothing(str(died))
        return reply

    def _start(self) -> None:
        with ExitStack() as starting:
            words = starting.enter_context(tempfile.TemporaryFile())
            child = subprocess.Popen(
                # -P: the directory one happens to stand in is no place to import from.
                [sys.executable, "-P", "-m", "runtime.tuning.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,
            )
            starting.callback(_end, child)
            self._words, self._child = words, child
            self._running = starting.pop_all()
        try:
            self._send(self._order)
            reply = self._next()
        except _Died as died:
            raise EngineLoad(str(died), remedy="see the message") from died
        if isinstance(reply, Failed):
            raise EngineLoad(reply.message, remedy=reply.remedy)
        assert isinstance(reply, Ready)
        self.ready = reply

    def _send(self, message: Order | Trial) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(msgspec.json.encode(message) + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _next(self) -> Reply:
        assert self._child is not None
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        return _REPLY.decode(line)

    def _death(self) -> "_Died":
        """The end of a process that had more to do, with the last that was heard of it."""
        assert self._words is not None
        self._words.seek(0)
        words = self._words.read().decode("utf-8", "replace").strip().splitlines()
        last = f": {printable(words[-1])}" if words else ""
        return _Died(f"the process that measures has ended{last}")


class _Died(Exception):
    """The process is gone."""


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
