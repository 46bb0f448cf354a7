"""Settings of what clients meet: the inference service, shared memory, metrics, traces.

Leaves to others: acting on them (`runtime`).
"""

from typing import Annotated, Literal

import msgspec

from appliance.config.section import Natural, Positive, Seconds, Section


class TlsConfig(Section, frozen=True, kw_only=True):
    """TLS of the inference service, PEM files; without a certificate it speaks plain text.

    With `client_ca` only clients that present a certificate it signed are answered; `denied` is a file of
    certificates and URIs that are turned away all the same. The files are read anew when they change.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    denied: str = ""


class ServerConfig(Section, frozen=True, kw_only=True):
    """The inference service. Port 0 asks the system for a free one.

    A connection is asked to end after `connection_seconds_max` and clients make a new one; a call that
    is still open `call_seconds_max` later is cut, so that idle calls cannot hold every slot.
    """

    address: str = "127.0.0.1:8001"
    name: str = "holdfast"
    request_bytes_max: Positive = 64 << 20
    requests_in_flight_max: Positive = 1024
    bytes_in_flight_max: Positive = 1 << 30
    metadata_bytes_max: Positive = 16 << 10
    connections_max: Positive = 4096
    connection_seconds_max: Seconds = 600.0
    idle_seconds_max: Seconds = 300.0
    probe_seconds: Seconds = 60.0
    call_seconds_max: Seconds = 60.0
    drain_seconds: Seconds = 20.0
    transport: Literal["fast", "public"] = "fast"
    repository_control: bool = False
    settings_control: bool = False
    tls: TlsConfig = TlsConfig()


class SharedMemoryConfig(Section, frozen=True, kw_only=True):
    """Tensors of clients on this box in POSIX shared memory, or in a GPU's memory; each off unless allowed.

    Only objects whose key begins with `key_prefix` may be registered, of the runtime's own user or one of
    `owners` (uid). Memory of a GPU is by a handle that its process gave away (CUDA IPC).
    """

    allowed: bool = False
    cuda_allowed: bool = False
    key_prefix: str = "/holdfast-client-"
    owners: tuple[Natural, ...] = ()
    regions_max: Positive = 64
    bytes_max: Positive = 1 << 30


class MetricsConfig(Section, frozen=True, kw_only=True):
    """Prometheus text over HTTP; an empty address turns it off."""

    address: str = "127.0.0.1:9464"


class TracesConfig(Section, frozen=True, kw_only=True):
    """OpenTelemetry traces of requests, by OTLP over gRPC; an empty endpoint turns them off.

    A caller that began a trace (W3C traceparent) says itself whether the request belongs to it.
    """

    endpoint: str = ""
    share_per_mille: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    requests_per_second_max: Positive = 50
