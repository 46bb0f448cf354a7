"""The wire: gRPC servers on a TCP address and on the control socket.

Knows: grpcio's public asyncio server and its options. Rules: an address that cannot be bound is an error
before anything is served; message sizes and concurrent calls are limited by the config. Leaves to
others: what the services do.
"""

import os
import socket
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs

from appliance.config import ServerConfig, split_address
from appliance.errors import ListenError
from runtime.interceptors import ErrorInterceptor
from runtime.protocol import control_pb2_grpc as control_stubs
from runtime.services.control import ControlService
from runtime.services.inference import InferenceService

INFERENCE_NAME = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class InferenceTransport:
    """The inference service with health and reflection, bound but not yet answering."""

    def __init__(self, config: ServerConfig) -> None:
        self._server = grpc.aio.server(
            interceptors=[ErrorInterceptor()],
            maximum_concurrent_rpcs=config.requests_in_flight_max,
            options=[
                ("grpc.max_receive_message_length", config.request_bytes_max),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", int(config.connection_seconds_max * 1000)),
                ("grpc.max_connection_age_grace_ms", int(config.call_seconds_max * 1000)),
            ],
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self.address = _bind(self._server, config.address)

    async def start(self, service: InferenceService) -> None:
        """Add the services and begin to answer."""
        oip_stubs.add_GRPCInferenceServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (INFERENCE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        await self._server.start()
        await self.show_health(serving=True)

    async def show_health(self, *, serving: bool) -> None:
        """Tell health clients whether to send requests here."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if serving else status.NOT_SERVING
        for name in ("", INFERENCE_NAME):
            await self._health.set(name, state)

    async def stop(self, seconds: float) -> None:
        """Take no new calls and let running ones end within `seconds`."""
        await self._server.stop(seconds)


class ControlTransport:
    """The control service on its Unix socket, which only the runtime's own user may open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound = False
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor()])

    async def start(self, service: ControlService) -> None:
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


def _bind(server: Any, address: str) -> str:
    """Bind `address` and return it with the port it got."""
    host, _ = split_address(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ListenError(
            f"cannot listen on {address}: it is taken or not an address of this machine",
            remedy="stop what holds the port, or set [server] address",
        ) from error
    return f"{host}:{port}"


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
