"""What parent and child say to each other: JSON, one line a message.

Knows: the messages and how an error travels. Rules: the child is not believed: a line has a limit, an
unknown message or error code is a broken child. Leaves to others: pipes and processes (`parent`,
`worker`).
"""

from typing import Annotated, TypeAlias

import msgspec

from appliance.errors import ApplianceError

LINE_BYTES_MAX = 16 << 20
TEXT_CHARACTERS_MAX = 20_000
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line."""


class Order(Message, frozen=True, kw_only=True):
    """What the parent asks: the act, by module and name, its bounds and its places.

    `descriptor` is the pipe that the child tells on, `parent` the process it must not outlive. With
    `devices`, those of a GPU, the fences let its driver work.
    """

    module: str
    name: str
    act: msgspec.Raw
    parent: int
    descriptor: int
    memory_bytes: int
    cpu_seconds: int
    readable: tuple[str, ...]
    listable: tuple[str, ...]
    writable: tuple[str, ...]
    devices: tuple[str, ...] = ()


class Fenced(Message, frozen=True, kw_only=True, tag="fenced"):
    """The fences are up, but for those `missing` on this machine: one sentence each."""

    missing: tuple[str, ...]


class Stage(Message, frozen=True, kw_only=True, tag="stage"):
    """A stage begins."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    steps: Count


class Step(Message, frozen=True, kw_only=True, tag="step"):
    """So many more steps are done."""

    steps: Count


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """The act's result."""

    result: msgspec.Raw


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    """The act's error."""

    code: str
    message: str
    remedy: str


Told: TypeAlias = Fenced | Stage | Step | Done | Failed


def failed(error: ApplianceError) -> Failed:
    """The message of an error."""
    return Failed(
        code=error.code,
        message=str(error)[:TEXT_CHARACTERS_MAX],
        remedy=error.remedy[:TEXT_CHARACTERS_MAX],
    )


def error_of(told: Failed) -> ApplianceError | None:
    """The error that a message tells of; None when there is no such code."""
    kind = error_kinds().get(told.code)
    return None if kind is None else kind(told.message, remedy=told.remedy)


def error_kinds() -> dict[str, type[ApplianceError]]:
    """Every class of error by its code."""
    kinds: dict[str, type[ApplianceError]] = {}
    level: list[type[ApplianceError]] = [ApplianceError]
    while level:
        kinds = {kind.code: kind for kind in level} | kinds
        level = [below for kind in level for below in kind.__subclasses__()]
    return kinds
