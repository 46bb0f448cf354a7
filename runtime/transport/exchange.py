"""What the wire and the rooms behind it say to each other.

Knows: one call as its method sees it, unary or streaming, and a transport as the server's life sees it.
Rules: a call ends once, by whoever is first: a reply, a refusal or the caller's leaving; every later
ending is ignored. Any thread may call; nothing here blocks. Leaves to others: the lanes (`fast`,
`public`), and what the methods do.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from runtime.access import ANYONE, Arrival, Principal
from runtime.interceptors import Refusal

# Keys in lower case; a value is bytes where its key ends in "-bin", and text otherwise.
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


class Caller(Protocol):
    """Who calls, and what came before the first message. Read it before the call has ended."""

    @property
    def peer(self) -> str:
        """The address, as "ipv4:10.0.0.7:40212"."""

    @property
    def principal(self) -> Principal:
        """Who that is, as it was let in."""

    @property
    def metadata(self) -> Metadata:
        """As sent."""

    @property
    def deadline_ns(self) -> int | None:
        """When the caller stops waiting, on `time.monotonic_ns`; None when it never does."""


class Exchange(Caller, Protocol):
    """One unary call."""

    def reply(self, message: bytes, trailing: Metadata = ()) -> None:
        """End the call with its answer."""

    def refuse(self, refusal: Refusal) -> None:
        """End the call without one."""

    def on_gone(self, then: Callable[[], object]) -> None:
        """Have `then` called, once and on any thread, if the caller leaves before the end.

        It leaves by cancelling, by breaking off or by its deadline. One `then` a call.
        """


class Stream(Caller, Protocol):
    """The server's side of a call whose replies are a stream, whatever its requests are."""

    @property
    def unsent(self) -> int:
        """Messages that were given to `send` and that the wire has not taken yet."""

    def read(self) -> None:
        """Ask for one more message: flow control is one read, one `received`."""

    def send(self, message: bytes) -> None:
        """Queue a message; they leave in order. Ignored after the end."""

    def finish(self, refusal: Refusal | None = None, trailing: Metadata = ()) -> None:
        """End the call once all that is queued has left; `refusal` brings its own trailing metadata."""


class Receiver(Protocol):
    """The method's side of a stream. Called by one thread at a time; must not block.

    After `gone` nothing more is called, and after `finish` only `sent` and `gone`.
    """

    def received(self, message: bytes) -> None:
        """The message that was asked for."""

    def ended(self) -> None:
        """The client sends no more; replies may go on."""

    def sent(self) -> None:
        """The wire took a message: `unsent` fell."""

    def gone(self) -> None:
        """The caller left, or the call was cut: nothing can be sent."""


Unary: TypeAlias = Callable[[bytes, Exchange], None]


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method whose replies are a stream; `open` starts one call and must not block."""

    open: Callable[[Stream], Receiver]


# By full path, as "/inference.GRPCInferenceService/ModelInfer".
Methods: TypeAlias = Mapping[str, Unary | Streaming]

Settle: TypeAlias = Callable[[], None]


# Says who calls, or what the caller is told instead of being let in; must not block.
Admit: TypeAlias = Callable[[Arrival], Principal | Refusal]


def settled() -> None:
    """Nothing is left to do after a burst."""


def let_in(_: Arrival) -> Principal:
    """Whoever calls."""
    return ANYONE


class Transport(Protocol):
    """A bound server; `address` is "host:port" with the port that it got."""

    address: str
    refused: int  # calls over the limit, since the start

    @property
    def in_flight(self) -> int:
        """Calls that have begun and are not over."""

    @property
    def held_seconds(self) -> float:
        """How long a method has kept the thread that all calls need, 0 while none does."""

    def start(self, methods: Methods, settle: Settle = settled, admit: Admit = let_in) -> None:
        """Begin to answer those whom `admit` lets in. Called once, from the running asyncio loop.

        `settle` is called on the methods' own thread after those that came at once.
        """

    async def stop(self, seconds: float) -> None:
        """Take no new calls, let running ones end within `seconds`, then cut what is left."""


def on_monotonic(seconds_left: float) -> int:
    """The moment `seconds_left` from now on `time.monotonic_ns`."""
    return time.monotonic_ns() + int(seconds_left * 1e9)
