"""The control service on its Unix socket.

Knows: grpcio's public asyncio server, who may open the socket. Rules: the socket is the runtime's own
user's, and the configured group's if any; a call is made by whom the kernel names, and that person's role
must allow it; a socket that nobody listens on is taken over, anything else in its place is an error.
Leaves to others: the service, passing connections on (`relay`), roles (`runtime.access`).
"""

import grp
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from appliance.config import AccessConfig
from appliance.errors import AccessError, ListenError, Unidentified
from runtime.access import CALLER, Person, Roster
from runtime.interceptors import ErrorInterceptor, Refusal
from runtime.protocol import control_pb2_grpc as control_stubs
from runtime.transport.relay import Relay

# Records a refusal: the error, the person's name, the peer, the method.
Refused = Callable[[AccessError, str, str, str], Refusal | None]


def unrecorded(_: AccessError, __: str, ___: str, ____: str) -> None:
    """Nobody records it."""


class ControlTransport:
    """The control service on its Unix socket."""

    def __init__(
        self, path: Path, access: AccessConfig | None = None, refused: Refused = unrecorded
    ) -> None:
        self._path, self._inner = path, path.with_suffix(".grpc")
        self._access = access or AccessConfig()
        self._relay: Relay | None = None
        asking = PersonInterceptor(Roster(self._access), self._person, refused)
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor(), asking])

    async def start(self, service: control_stubs.ControlServicer) -> None:
        """Take the socket and begin to answer. Raises ListenError when another runtime holds it."""
        control_stubs.add_ControlServicer_to_server(service, self._server)
        _remove_stale_socket(self._path)
        outer = socket.socket(socket.AF_UNIX)
        # The mask makes the sockets private from their first moment; nothing else starts here meanwhile.
        mask = os.umask(0o177)
        try:
            outer.bind(str(self._path))
            self._relay = Relay(outer, self._inner)
            self._inner.unlink(missing_ok=True)
            self._server.add_insecure_port(f"unix:{self._inner}")
            await self._server.start()
        except (OSError, RuntimeError) as error:
            raise ListenError(
                f"cannot bind {self._path}", remedy="use a shorter path to the state directory"
            ) from error
        finally:
            os.umask(mask)
        if self._access.control_group:
            self._open_to(self._access.control_group)
        await self._relay.start()

    async def stop(self, seconds: float) -> None:
        """Let running calls end within `seconds` and remove the socket, if it is ours."""
        await self._server.stop(seconds)
        if self._relay is not None:
            await self._relay.stop()
            self._inner.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def _person(self, peer: str) -> Person | None:
        return self._relay.person(peer) if self._relay is not None else None

    def _open_to(self, group: str) -> None:
        """Let the members of `group` open the socket. Raises ListenError."""
        try:
            os.chown(self._path, -1, grp.getgrnam(group).gr_gid)
            self._path.chmod(0o660)
        except (KeyError, OSError) as error:
            raise ListenError(
                f"the control socket cannot be given to the group '{group}': {error}",
                remedy="set [access] control_group to a group that the runtime's user is in",
            ) from error


class PersonInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets those call whose role allows it; `runtime.access.CALLER` is then the person."""

    def __init__(
        self, roster: Roster, person: Callable[[str], Person | None], refused: Refused
    ) -> None:
        self._roster, self._person, self._refused = roster, person, refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the method's handler (see grpc.aio.ServerInterceptor); no request here is a stream."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = str(details.method)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._asked_stream(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._asked(method, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _asked(
        self, method: str, serve: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def asked(request: Any, context: Any) -> Any:
            self._check(context.peer(), method)
            return await serve(request, context)

        return asked

    def _asked_stream(
        self, method: str, serve: Callable[[Any, Any], AsyncIterator[Any]]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def asked(request: Any, context: Any) -> AsyncIterator[Any]:
            self._check(context.peer(), method)
            async for reply in serve(request, context):
                yield reply

        return asked

    def _check(self, peer: str, method: str) -> None:
        """Say who calls, to the rest of this call; raises Unidentified or Forbidden, recorded."""
        person = self._person(peer)
        try:
            if person is None:
                raise Unidentified(
                    "the call did not come by the control socket", remedy="connect to control.sock"
                )
            self._roster.check(person, method)
        except AccessError as error:
            name, peer = (person.name, person.peer) if person else ("", peer)
            self._refused(error, name, peer, method)
            raise
        CALLER.set(person)


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises ListenError when the path is anything else."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if path.is_socket():
                path.unlink()
                return
        except OSError:
            pass  # told below, as every other thing that stands in the way
    raise ListenError(
        f"{path} is in the way: another runtime's socket, or no socket at all",
        remedy="stop the other runtime, use another state directory, or move the file away",
    )
