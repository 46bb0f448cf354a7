"""What both inference clients know of their server: where it is, how to prove who asks, how to try again.

Knows: TLS files, the token, gRPC's channel options. Rules: a token never leaves this box unencrypted;
a call is tried again on UNAVAILABLE only, within its deadline and never after a part of its reply came.
Leaves to others: making the calls.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from appliance.clock import Clock
from appliance.errors import (
    ApplianceError,
    ConfigError,
    DeadlinePassed,
    Draining,
    Overloaded,
    UnknownModel,
    UnknownVersion,
    Unreachable,
    VersionNotServed,
)
from runtime.client.failures import error_from, failure_from
from runtime.client.retry import Attempts, Retry

DEADLINE_SECONDS = 30.0
STREAM_SECONDS = 600.0
STREAM_WINDOW = 16
MESSAGE_BYTES_MAX = (1 << 31) - 1  # protobuf's own limit; grpc's default is 4 MiB
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # gRPC waits 1 s up to 2 minutes before it connects anew, and fails calls at once meanwhile: our
    # tries would all meet a server that is long up again as UNAVAILABLE.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also how long one attempt may take, handshake included.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
# Errors that mean "not ready" to a caller who asks just that.
NOT_READY = (
    DeadlinePassed,
    Draining,
    Overloaded,
    UnknownModel,
    UnknownVersion,
    Unreachable,
    VersionNotServed,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM files: `root` signed the server's certificate (None: the roots that gRPC ships).

    `chain` and `key` are the client's own certificate and private key, where the server asks for one.
    """

    root: Path | None = None
    chain: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises ConfigError."""
        return grpc.ssl_channel_credentials(_pem(self.root), _pem(self.key), _pem(self.chain))


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One server and the manner of calling it; `uniform` draws from [0, 1)."""

    address: str
    tls: Tls | None
    token: str
    deadline_seconds: float
    retry: Retry
    clock: Clock
    uniform: Callable[[], float]

    def channel(self, library: Any = grpc) -> Any:
        """A channel of `library`, grpc or grpc.aio, to the server. Raises ConfigError."""
        if self.tls:
            return library.secure_channel(self.address, self.tls.credentials(), CHANNEL_OPTIONS)
        return library.insecure_channel(self.address, CHANNEL_OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with each call: the token, if any, as RFC 6750 has it.

        Raises ConfigError where it would travel in clear text to another box.
        """
        if not self.token:
            return ()
        if self.tls is None and not _is_here(self.address):
            raise ConfigError(
                f"a token for {self.address} would travel in clear text",
                remedy="connect with TLS",
            )
        return (("authorization", f"Bearer {self.token}"),)

    def attempts(self, deadline_seconds: float | None, retry: Retry | None = None) -> Attempts:
        """The tries of a call that begins now."""
        return Attempts(
            retry or self.retry,
            deadline_seconds=self.deadline_seconds
            if deadline_seconds is None
            else deadline_seconds,
            clock=self.clock,
            uniform=self.uniform,
        )

    def pause(self, error: grpc.RpcError, attempts: Attempts) -> float:
        """Seconds to wait before the next try; raises the call's error when there is to be none."""
        failure = failure_from(error)
        wait = attempts.wait_after(failure.trailing) if failure.repeatable else None
        if wait is None:
            raise error_from(failure, self.address) from error
        return wait

    def told(self, error: grpc.RpcError) -> ApplianceError:
        """The error of a call that is not tried again."""
        return error_from(failure_from(error), self.address)

    def cut_short(self) -> Unreachable:
        """The error of a stream that the server ended before its last answer."""
        return Unreachable(
            f"the server at {self.address} ended the stream before its last answer",
            remedy="see the server's own journal",
        )


def _is_here(address: str) -> bool:
    """Whether all that is sent to a gRPC address stays on this box: by a Unix socket or the loopback."""
    if address.startswith("unix:"):
        return True
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0]
    try:  # a list of addresses and a name such as 127.0.0.1.example are none
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _pem(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", remedy="name a PEM file that can be read"
        ) from error
