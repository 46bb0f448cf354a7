"""The edge: the one table from errors to gRPC status codes.

Knows: how an error leaves the box. Rules: an ApplianceError travels as its status, message, code and
remedy; anything else answers INTERNAL with an incident number and nothing more, its text goes to the
journal. Leaves to others: raising.
"""

import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from appliance import errors, journal
from runtime.client import CODE_KEY, REMEDY_KEY

STATUS_CODES: dict[type[errors.ApplianceError], grpc.StatusCode] = {
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.UnknownVersion: grpc.StatusCode.NOT_FOUND,
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.VersionNotServed: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.UNAVAILABLE,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.AuditUnwritable: grpc.StatusCode.UNAVAILABLE,
    errors.DecisionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StoreError: grpc.StatusCode.DATA_LOSS,
    errors.ApplianceError: grpc.StatusCode.INTERNAL,
}


def status_code(error: errors.ApplianceError) -> grpc.StatusCode:
    """The status for `error`: its nearest listed ancestor's."""
    return next(STATUS_CODES[kind] for kind in type(error).__mro__ if kind in STATUS_CODES)


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
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )


def _guarded(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            reply = method(request, context)
            return await reply if inspect.isawaitable(reply) else reply
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            await _abort(context, error)

    return guarded


def _guarded_stream(
    method: Callable[[Any, Any], AsyncIterator[Any]],
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for reply in method(request, context):
                yield reply
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            await _abort(context, error)

    return guarded


async def _abort(context: Any, error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this call is not served")
    if isinstance(error, errors.ApplianceError):
        if status_code(error) is grpc.StatusCode.INTERNAL:
            journal.failure("request.failed", error)
        trailing = ((CODE_KEY, error.code), (REMEDY_KEY, error.remedy.encode()))
        await context.abort(status_code(error), str(error), trailing)
    incident = uuid.uuid4().hex
    journal.failure("request.crashed", error, incident=incident)
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error, incident {incident}")
    raise AssertionError("abort raises")
