"""How the wire listens: limits, TLS and the port.

Knows: grpcio's options and credentials as the config means them, the same for both lanes. Rules: what
cannot be used is an error before anything is served; every limit of a connection is set here, none is
left to a library's default. Leaves to others: answering.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from appliance.config import ServerConfig, TlsConfig, split_address
from appliance.errors import ListenError

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


def credentials(tls: TlsConfig) -> grpc.ServerCredentials | None:
    """The server's certificate and whom it trusts, read once; None for plain text.

    Raises ListenError when the files cannot be read or do not fit each other.
    """
    if not tls.certificate:
        return None
    try:
        # grpcio takes any bytes and fails without a word, so the files are tried here first.
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # No password: an encrypted key is an error, not a question on a terminal nobody sees.
        trial.load_cert_chain(tls.certificate, tls.key, password="")
        if tls.client_ca:
            trial.load_verify_locations(tls.client_ca)
        pair = Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes()
        roots = Path(tls.client_ca).read_bytes() if tls.client_ca else None
    except OSError as error:  # ssl.SSLError is one
        raise ListenError(
            f"the TLS files cannot be used: {error}",
            remedy="set [server.tls] certificate, key and client_ca to PEM files that belong together",
        ) from error
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)


def bind(config: ServerConfig, add: Callable[[str, Any], int]) -> str:
    """Bind the config's address by `add(address, credentials)` and return it with the port it got.

    Raises ListenError.
    """
    host, _ = split_address(config.address)
    trusted = credentials(config.tls)
    try:
        port = add(config.address, trusted)
    except RuntimeError as error:
        raise _taken(config.address) from error
    if not port:
        raise _taken(config.address)
    return f"{host}:{port}"


def _taken(address: str) -> ListenError:
    return ListenError(
        f"cannot listen on {address}: it is taken or not an address of this machine",
        remedy="stop what holds the port, or set [server] address",
    )
