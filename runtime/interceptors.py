"""The edge: the one table from errors to gRPC status codes.

Knows: how an error leaves the box. Rules: an ApplianceError travels as its status, message, code and
remedy; anything else answers INTERNAL with an incident number and nothing more, its text goes to the
journal. Leaves to others: raising.
"""

import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc

from appliance import errors, journal
from runtime.protocol import CODE_KEY, REMEDY_KEY

TOLD_BYTES_MAX = 1000
# How long gRPC clients that retry are asked to wait first (gRPC's proposal A6), in whole milliseconds.
PUSHBACK_KEY, PUSHBACK_MS = "grpc-retry-pushback-ms", "100"

STATUS_CODES: dict[type[errors.ApplianceError], grpc.StatusCode] = {
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.UnknownVersion: grpc.StatusCode.NOT_FOUND,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.UnknownRegion: grpc.StatusCode.NOT_FOUND,
    errors.RegionTaken: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotGranted: grpc.StatusCode.UNAVAILABLE,
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.VersionNotServed: grpc.StatusCode.UNAVAILABLE,
    errors.SequenceBroken: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.UNAVAILABLE,
    errors.GpuLost: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.AuditUnwritable: grpc.StatusCode.UNAVAILABLE,
    errors.UnknownRecord: grpc.StatusCode.NOT_FOUND,
    errors.NotCovered: grpc.StatusCode.UNAVAILABLE,
    errors.UnknownLog: grpc.StatusCode.NOT_FOUND,
    errors.WitnessRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PayloadGone: grpc.StatusCode.NOT_FOUND,
    errors.DecisionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AccessError: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unidentified: grpc.StatusCode.UNAUTHENTICATED,
    errors.LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreError: grpc.StatusCode.DATA_LOSS,
    errors.ApplianceError: grpc.StatusCode.INTERNAL,
}


def status_code(error: errors.ApplianceError) -> grpc.StatusCode:
    """The status for `error`: its nearest listed ancestor's."""
    return next(STATUS_CODES[kind] for kind in type(error).__mro__ if kind in STATUS_CODES)


class Refusal(NamedTuple):
    """What the caller is told instead of a reply."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Turns what a servicer raises into a status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the method's handler (see grpc.aio.ServerInterceptor)."""
        handler = await continuation(details)
        if handler is None:
            return None
        shape = (handler.request_streaming, handler.response_streaming)
        method, make = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        }[shape]
        if handler.response_streaming and inspect.iscoroutinefunction(method):
            return handler  # it writes to the context by itself, as health's Watch does
        guard = _guarded_stream if handler.response_streaming else _guarded
        return make(guard(method), handler.request_deserializer, handler.response_serializer)


# Both guards let go of request and error before they abort: gRPC keeps the abort's traceback, and with
# it would keep every tensor of a refused request until the garbage collector runs.


def _guarded(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            reply = method(request, context)
            return await reply if inspect.isawaitable(reply) else reply
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            refused = refusal(error, tuple(context.trailing_metadata() or ()))
        del request
        reply = None
        await context.abort(*refused)
        return None

    return guarded


def _guarded_stream(
    method: Callable[[Any, Any], AsyncIterator[Any]],
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for reply in method(request, context):
                yield reply
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            refused = refusal(error, tuple(context.trailing_metadata() or ()))
        else:
            return
        del request
        await context.abort(*refused)

    return guarded


def refusal(
    error: Exception,
    trailing: tuple[tuple[str, str | bytes], ...] = (),
    *,
    request_id: str = "",
) -> Refusal:
    """What the caller is told about `error`; the journal hears of what is our own fault, and of which request.

    `trailing` is metadata that the method had set before it failed.
    """
    about = {"request_id": request_id} if request_id else {}
    if isinstance(error, NotImplementedError):
        return Refusal(grpc.StatusCode.UNIMPLEMENTED, "this call is not served", trailing)
    if isinstance(error, errors.ApplianceError):
        if status_code(error) is grpc.StatusCode.INTERNAL:
            journal.failure("request.failed", error, **about)
        return _told(error, status_code(error), trailing)
    incident = uuid.uuid4().hex
    journal.failure("request.crashed", error, incident=incident, **about)
    return Refusal(grpc.StatusCode.INTERNAL, f"internal error, incident {incident}", trailing)


def over_limit(calls_max: int) -> Refusal:
    """The answer to a call that comes while `calls_max` others run."""
    error = errors.Overloaded(
        f"more than {calls_max} calls at once", remedy="send fewer at once, or try again later"
    )
    return _told(error, grpc.StatusCode.RESOURCE_EXHAUSTED)


def not_served(method: str) -> Refusal:
    """The answer to a call of a `method` that nobody serves."""
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, _cut(f"no method {method}"), ())


def not_one_message() -> Refusal:
    """The answer to a unary call without a message (gRPC's status codes call this UNIMPLEMENTED)."""
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, "the call needs one message", ())


def unfit() -> Refusal:
    """The answer to a call whose method set trailing metadata that HTTP/2 does not carry."""
    return refusal(ValueError("a key or a value of the trailing metadata is not fit for HTTP/2"))


def _told(
    error: errors.ApplianceError,
    code: grpc.StatusCode,
    trailing: tuple[tuple[str, str | bytes], ...] = (),
) -> Refusal:
    told = (*trailing, (CODE_KEY, error.code), (REMEDY_KEY, _cut(error.remedy).encode()))
    if isinstance(error, errors.Overloaded | errors.Draining | errors.LimitReached):
        told = (*told, (PUSHBACK_KEY, PUSHBACK_MS))
    return Refusal(code, _cut(str(error)), told)


def _cut(text: str) -> str:
    """`text` in at most TOLD_BYTES_MAX bytes: gRPC drops a status whose metadata is too large."""
    return text.encode()[:TOLD_BYTES_MAX].decode(errors="ignore")
