"""The control service on its Unix socket.

Knows: grpcio's public asyncio server. Rules: only the runtime's own user may open the socket; one that
nobody listens on is taken over, anything else in its place is an error. Leaves to others: the service.
"""

import os
import socket
from pathlib import Path

import grpc

from appliance.errors import ListenError
from runtime.interceptors import ErrorInterceptor
from runtime.protocol import control_pb2_grpc as control_stubs


class ControlTransport:
    """The control service on its Unix socket, which only the runtime's own user may open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound = False
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor()])

    async def start(self, service: control_stubs.ControlServicer) -> None:
        """Take the socket and begin to answer. Raises ListenError when another runtime holds it."""
        control_stubs.add_ControlServicer_to_server(service, self._server)
        _remove_stale_socket(self._path)
        # The mask makes the socket private from its first moment; nothing else starts here meanwhile.
        mask = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
            self._bound = True
            await self._server.start()
        except RuntimeError as error:
            raise ListenError(
                f"cannot bind {self._path}", remedy="use a shorter path to the state directory"
            ) from error
        finally:
            os.umask(mask)

    async def stop(self, seconds: float) -> None:
        """Let running calls end within `seconds` and remove the socket, if it is ours."""
        await self._server.stop(seconds)
        if self._bound:
            self._path.unlink(missing_ok=True)


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
