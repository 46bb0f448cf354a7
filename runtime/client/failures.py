"""How a call that failed comes back: one error from what the wire carries.

Knows: where code and remedy travel, and which error stands for a status of a server that sends none.
Rules: an error comes back as the class it was raised as, with its remedy; texts of the server stay as
they are, callers match on them. Leaves to others: whether to try again (`runtime.client.retry`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from appliance.errors import (
    ApplianceError,
    DeadlinePassed,
    Overloaded,
    RequestError,
    RequestLimit,
    UnknownModel,
    Unreachable,
    Unsupported,
)
from runtime.protocol import CODE_KEY, REMEDY_KEY

Trailing = Mapping[str, str | bytes]

_NO_LEAVE = (
    ApplianceError,
    "check the token, the client certificate and what they are allowed to do",
)
_BY_STATUS: dict[grpc.StatusCode, tuple[type[ApplianceError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        RequestError,
        "compare the request with the model's metadata",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (RequestError, "see the server's own documentation"),
    grpc.StatusCode.OUT_OF_RANGE: (RequestError, "compare the request with the model's metadata"),
    grpc.StatusCode.UNIMPLEMENTED: (Unsupported, "this server does not serve this call"),
    grpc.StatusCode.NOT_FOUND: (UnknownModel, "ask the server which models and versions it serves"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Overloaded, "send fewer requests at a time"),
    grpc.StatusCode.UNAUTHENTICATED: _NO_LEAVE,
    grpc.StatusCode.PERMISSION_DENIED: _NO_LEAVE,
}
_NOBODY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# gRPC itself refuses a message over a limit, on either side; it has no status of its own for that.
_TOO_LARGE = "larger than max"
# What grpc.aio says when the server ended a stream that was still being written to.
_CUT = "Internal error from Core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What gRPC says of a call that failed; `begun` when the server had begun to answer."""

    status: grpc.StatusCode
    details: str
    trailing: Trailing
    begun: bool

    @property
    def repeatable(self) -> bool:
        """Whether another try may be made: UNAVAILABLE, and nothing of an answer had come."""
        return self.status is grpc.StatusCode.UNAVAILABLE and not self.begun


def failure_from(error: grpc.RpcError) -> Failure:
    """Read the error of a call, synchronous or not."""
    call: Any = error  # every RpcError that a call raises is a grpc.Call too, as grpc documents
    return Failure(
        status=call.code(),
        details=call.details() or "",
        trailing=pairs(call.trailing_metadata()),
        begun=bool(call.initial_metadata()),
    )


def pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> Trailing:
    """Metadata by key, the last of equal keys."""
    return {key: value for key, value in metadata or ()}  # noqa: C416 - aio's is a Mapping by half


def carried(details: str, trailing: Trailing) -> ApplianceError | None:
    """The error as a Holdfast raised it, from its code and remedy; None where it sent none we know."""
    kind = _by_code().get(_text(trailing.get(CODE_KEY, "")))
    remedy = trailing.get(REMEDY_KEY)
    return None if kind is None or remedy is None else kind(details, remedy=_text(remedy))


def error_from(failure: Failure, address: str) -> ApplianceError:
    """The error to raise for a failed call to the server at `address`, a Holdfast or another."""
    if found := carried(failure.details, failure.trailing):
        return found
    told = failure.details or failure.status.name
    if failure.status in _NOBODY or told == _CUT:
        return Unreachable(
            f"the server at {address} does not answer: {told}",
            remedy="see that it runs, is ready, and speaks TLS if and only if this client does",
        )
    if failure.status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed(
            f"the server at {address} did not answer in time: {told}",
            remedy="allow more time or send fewer requests at a time",
        )
    if failure.status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in told:
        return RequestLimit(told, remedy="split the request, or raise the server's limit")
    if failure.status in _BY_STATUS:
        kind, remedy = _BY_STATUS[failure.status]
        return kind(told, remedy=remedy)
    return ApplianceError(
        f"the server at {address} did not finish the call: {failure.status.name}, {told}",
        remedy="see the server's own journal",
    )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _by_code() -> dict[str, type[ApplianceError]]:
    found: dict[str, type[ApplianceError]] = {}
    waiting: list[type[ApplianceError]] = [ApplianceError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found
