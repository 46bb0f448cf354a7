"""A child process started, followed and ended.

Knows: how a child is started, what its death means, and how it is ended. Rules: a child never outlives its
act, whatever ends the parent's wait; its environment holds nothing but what libraries need; nothing it
says is believed without a limit. Leaves to others: the fences (`fences`), what an act is.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from appliance import journal
from appliance.commands import printable
from appliance.config import BuildConfig
from appliance.errors import ApplianceError, BuildCrashed, BuildError, BuildLimit
from compiler.child.act import Act, Ended, Places
from compiler.child.exhaustion import exhausted
from compiler.child.messages import (
    LINE_BYTES_MAX,
    Done,
    Failed,
    Fenced,
    Order,
    Stage,
    Step,
    Told,
    error_of,
)
from compiler.progress import Progress

R = TypeVar("R")

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PREFIXES = ("PYTHON", "NUMBA_", "OMP_", "OPENBLAS_", "MALLOC_", "CUDA_", "NVIDIA_")
_ERROR_LINES_MAX = 20
_WORDS_BYTES_MAX = 8192
_ENDING_SECONDS_MAX = 5.0  # for an interpreter that has told its result to clean up after itself
_CHUNK_BYTES = 1 << 16
_TOLD: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)
_GONE_WRONG = "the model made the tool that read it fail; ask the engineer to export it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """Does an act in a child within `bounds`."""

    bounds: BuildConfig

    def do(self, act: Act[R], places: Places, progress: Progress) -> Ended[R]:
        """See Doer. Raises BuildCrashed when the child died, BuildLimit when it exceeded a bound."""
        reading, writing = os.pipe()
        with contextlib.ExitStack() as closing:
            pipe = closing.enter_context(os.fdopen(reading, "rb", buffering=0))
            with os.fdopen(writing, "wb"):
                child = closing.enter_context(_started(places, writing))
                _hand_over(child, self._order(act, places, writing))
            return _Following(child, pipe, progress, self.bounds).until_it_ends(act.result())

    def _order(self, act: Act[R], places: Places, descriptor: int) -> Order:
        return Order(
            module=type(act).__module__,
            name=type(act).__qualname__,
            act=msgspec.Raw(msgspec.json.encode(act)),
            parent=os.getpid(),
            descriptor=descriptor,
            memory_bytes=self.bounds.memory_bytes_max,
            cpu_seconds=int(self.bounds.seconds_max * len(os.sched_getaffinity(0))) + 1,
            readable=_names(places.readable),
            listable=_names(places.listable),
            writable=_names((places.scratch, *places.writable)),
            devices=_names(places.devices),
        )


def _names(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path.absolute()) for path in paths)


@contextlib.contextmanager
def _started(places: Places, descriptor: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a session of its own; whatever happens, its whole group is gone afterwards."""
    child = subprocess.Popen(
        # -P: the directory one happens to stand in is no place to import from.
        [sys.executable, "-P", "-m", "compiler.child.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=_environment(places),
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdin, child.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _environment(places: Places) -> dict[str, str]:
    """What of our environment the child needs; secrets in other variables stay here."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_PREFIXES)
    }
    scratch = str(places.scratch)
    return kept | {"TMPDIR": scratch, "HOME": scratch, "ORT_DISABLE_TELEMETRY": "1"}


def _hand_over(child: subprocess.Popen[bytes], order: Order) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once; its last words say why
        child.stdin.write(msgspec.json.encode(order))
        child.stdin.close()


class _Following:
    """What one child tells, until it ends or its time is over."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        pipe: IO[bytes],
        progress: Progress,
        bounds: BuildConfig,
    ) -> None:
        self._child, self._pipe, self._progress, self._bounds = child, pipe, progress, bounds
        self._until = time.monotonic() + bounds.seconds_max
        self._half = b""
        self._staged = False
        self._missing: tuple[str, ...] = ()
        self._last: Done | Failed | None = None
        self._words = b""

    def until_it_ends(self, kind: type[R]) -> Ended[R]:
        """Follow the child to its end and return its result. Raises as `Confined.do`."""
        self._listen()
        if isinstance(self._last, Failed):
            raise error_of(self._last) or self._broken(f"the unknown error '{self._last.code}'")
        if self._last is None:
            raise self._death()
        try:
            result = msgspec.json.decode(self._last.result, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._broken(f"a result that cannot be read: {error}") from error
        return Ended(result=result, missing=self._missing)

    def _listen(self) -> None:
        """Read both pipes until they are closed or the last word was said."""
        assert self._child.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ, self._hear)
            selector.register(self._child.stderr, selectors.EVENT_READ, self._note)
            while selector.get_map() and self._last is None:
                left = self._until - time.monotonic()
                ready = selector.select(max(left, 0.0))
                if left <= 0.0 or not ready:  # also one that never stops talking is ended
                    raise self._too_long()
                for key, _ in ready:
                    data = os.read(key.fd, _CHUNK_BYTES)
                    if data:
                        key.data(data)
                    else:
                        selector.unregister(key.fileobj)

    def _hear(self, data: bytes) -> None:
        *lines, self._half = (self._half + data).split(b"\n")
        if len(self._half) > LINE_BYTES_MAX:
            raise self._broken("a line without an end")
        for line in lines:
            try:
                self._take(_TOLD.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self._broken(f"a line that cannot be read: {error}") from error

    def _take(self, told: Told) -> None:
        if isinstance(told, Stage):
            self._staged = True
            self._progress.stage(printable(told.name), told.steps)
        elif isinstance(told, Step) and not self._staged:
            raise self._broken("a step before the first stage")
        elif isinstance(told, Step):
            self._progress.step(told.steps)
        elif isinstance(told, Fenced):
            self._missing = told.missing
            for why in told.missing:
                journal.event("build.unfenced", why=why)
        else:
            self._last = told

    def _note(self, data: bytes) -> None:
        """Keep the end of standard error, where libraries say what they died of."""
        self._words = (self._words + data)[-_WORDS_BYTES_MAX:]

    def _too_long(self) -> ApplianceError:
        return BuildLimit(
            f"it took longer than {self._bounds.seconds_max:g} seconds and was ended",
            remedy="raise seconds_max in [build], or use a smaller model or fewer rows",
        )

    def _broken(self, what: str) -> BuildError:
        return BuildCrashed(f"the child process said {what}", remedy=_GONE_WRONG)

    def _death(self) -> BuildError:
        """The error of a child that ended without a word."""
        try:
            code = self._child.wait(_ENDING_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return self._broken("nothing more, yet did not end")
        lines = self._words.decode("utf-8", "replace").strip().splitlines()
        words = "\n".join(lines[-_ERROR_LINES_MAX:])
        if limit := exhausted(words):
            return limit
        if -code == signal.SIGXCPU:
            return BuildLimit(
                "it used more processor time than all cores give in seconds_max",
                remedy="raise seconds_max in [build], or use a smaller model or fewer rows",
            )
        if -code == signal.SIGKILL:
            return BuildLimit(
                "the system killed it, as it does when the machine's memory runs out",
                remedy="free memory on this machine, or use a smaller model or batch_max",
            )
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        told = f"; its last words: {words}" if words else ""
        return BuildCrashed(f"the child process {how}{told}", remedy=_GONE_WRONG)
