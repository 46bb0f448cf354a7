"""How the wire listens: limits, TLS and the port.

Knows: grpcio's options and credentials as the config means them, the same for both lanes. Rules: what
cannot be used is an error before anything is served; every limit of a connection is set here, none is
left to a library's default. Leaves to others: answering.
"""

from collections.abc import Callable
from typing import Any

import grpc

from appliance.clock import SystemClock
from appliance.config import ServerConfig, split_address
from appliance.errors import ListenError
from runtime.certificates import Certificates, Material

# A connection that has not shaken hands by then is closed: half-open ones and garbage.
HANDSHAKE_SECONDS_MAX = 10.0
# gRPC lets no client ping more often than this (proposal A8); one that does is told to go away.
PING_SECONDS_MIN = 10
# Beyond the calls in flight a connection may hold as many that are about to be refused.
STREAMS_A_CALL = 2
# Calls that grpcio has accepted and nobody has taken yet: more are refused, the oldest after these seconds.
PENDING_CALLS_MAX = 1000
PENDING_SECONDS_MAX = 10


def options(config: ServerConfig) -> list[tuple[str, int]]:
    """The channel arguments of a server (grpc/impl/channel_arg_names.h); times in milliseconds."""
    probe = int(config.probe_seconds * 1000)
    handshake = int(HANDSHAKE_SECONDS_MAX * 1000)
    return [
        ("grpc.max_receive_message_length", config.request_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", config.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", config.metadata_bytes_max),
        ("grpc.max_concurrent_streams", STREAMS_A_CALL * config.requests_in_flight_max),
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", STREAMS_A_CALL * PENDING_CALLS_MAX),
        ("grpc.server_max_unrequested_time_in_server", PENDING_SECONDS_MAX),
        ("grpc.max_allowed_incoming_connections", config.connections_max),
        ("grpc.max_connection_age_ms", int(config.connection_seconds_max * 1000)),
        ("grpc.max_connection_age_grace_ms", int(config.call_seconds_max * 1000)),
        ("grpc.max_connection_idle_ms", int(config.idle_seconds_max * 1000)),
        ("grpc.server_handshake_timeout_ms", handshake),
        ("grpc.http2.settings_timeout", handshake),
        ("grpc.keepalive_time_ms", probe),
        ("grpc.keepalive_timeout_ms", probe),
        ("grpc.http2.ping_timeout_ms", probe),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_SECONDS_MIN * 1000),
        # A second runtime on a taken port must fail, not share it.
        ("grpc.so_reuseport", 0),
    ]


def credentials(certificates: Certificates) -> grpc.ServerCredentials | None:
    """What each handshake asks for the certificates then in use; None for plain text."""
    if certificates.material is None:
        return None
    handed = certificates.material

    def changed() -> Any:
        """The configuration from this handshake on, None while it is the last one still."""
        nonlocal handed
        current = certificates.material
        if current is None or current is handed:
            return None
        handed = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(handed), changed, require_client_authentication=certificates.required
    )


def bind(
    config: ServerConfig,
    add: Callable[[str, Any], int],
    certificates: Certificates | None = None,
) -> str:
    """Bind the config's address by `add(address, credentials)` and return it with the port it got.

    Without `certificates` the files that the config names are read once. Raises ListenError.
    """
    host, _ = split_address(config.address)
    trusted = credentials(certificates or Certificates(config.tls, SystemClock()))
    try:
        port = add(config.address, trusted)
    except RuntimeError as error:
        raise _taken(config.address) from error
    if not port:
        raise _taken(config.address)
    return f"{host}:{port}"


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    pair = (material.key, material.chain)
    return grpc.ssl_server_certificate_configuration([pair], material.roots)


def _taken(address: str) -> ListenError:
    return ListenError(
        f"cannot listen on {address}: it is taken or not an address of this machine",
        remedy="stop what holds the port, or set [server] address",
    )
