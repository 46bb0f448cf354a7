"""What the runtime counts, and how Prometheus reads it.

Knows: the counters of each version and of each model's recent latency. Rules: counted once, on the event
loop; other threads only read. Leaves to others: showing them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.config import split_address
from appliance.errors import ListenError

RECENT_REQUESTS = 1000


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took together, as the protocol counts."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Note `count` more that took `ns` nanoseconds together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class VersionCounts:
    """Counters of one version since the start of the process."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: float = 0.0
    last_wall_ms: int = 0


@dataclass(slots=True)
class ModelCounts:
    """Counters of one model: per version, refusals that reached no version, recent latencies."""

    versions: dict[int, VersionCounts] = field(default_factory=dict)
    refused: int = 0
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))

    def version(self, number: int) -> VersionCounts:
        """The counters of a version, made at first use."""
        return self.versions.setdefault(number, VersionCounts())

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the recent requests' latency in milliseconds, 0.0 without any."""
        if not self.recent_ns:
            return 0.0
        return float(np.quantile(np.array(self.recent_ns), quantile)) / 1e6


@dataclass(slots=True)
class Metrics:
    """All counters. `queued` and `audit_queue` read what is waiting at this moment."""

    models: dict[str, ModelCounts] = field(default_factory=dict)
    queued: Callable[[], dict[str, int]] = dict
    audit_queue: Callable[[], int] = int

    def model(self, name: str) -> ModelCounts:
        """The counters of a model, made at first use."""
        return self.models.setdefault(name, ModelCounts())


class _Exposition(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        by_version = ["model", "version"]
        requests = CounterMetricFamily(
            "holdfast_requests", "Requests ended", labels=[*by_version, "result"]
        )
        rows = CounterMetricFamily("holdfast_rows", "Rows answered", labels=by_version)
        batches = CounterMetricFamily("holdfast_batches", "Engine executions", labels=by_version)
        seconds = CounterMetricFamily(
            "holdfast_seconds", "Time spent by requests", labels=[*by_version, "part"]
        )
        refused = CounterMetricFamily(
            "holdfast_refused", "Requests that reached no version", labels=["model"]
        )
        for model, counts in list(self._metrics.models.items()):
            refused.add_metric([model], counts.refused)
            for number, version in list(counts.versions.items()):
                names = [model, str(number)]
                requests.add_metric([*names, "answered"], version.success.count)
                requests.add_metric([*names, "failed"], version.fail.count)
                rows.add_metric(names, version.rows)
                batches.add_metric(names, round(version.batches))
                for part in ("success", "queue", "compute"):
                    seconds.add_metric([*names, part], getattr(version, part).ns / 1e9)
        yield from (requests, rows, batches, seconds, refused)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        queued = GaugeMetricFamily("holdfast_queued", "Requests waiting", labels=["model"])
        for model, count in self._metrics.queued().items():
            queued.add_metric([model], count)
        yield queued
        yield GaugeMetricFamily(
            "holdfast_audit_queue", "Records waiting for a commit", self._metrics.audit_queue()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsServer:
    """The HTTP endpoint; `address` is "" when it is off."""

    address: str
    server: WSGIServer | None = None
    thread: Thread | None = None

    def close(self) -> None:
        """Stop answering and wait for the thread."""
        if self.server is not None and self.thread is not None:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()


def serve_metrics(metrics: Metrics, address: str) -> MetricsServer:
    """Answer Prometheus on `address`; raises ListenError when it cannot be bound."""
    if not address:
        return MetricsServer(address="")
    host, port = split_address(address)
    registry = CollectorRegistry()
    registry.register(_Exposition(metrics))
    try:
        server, thread = start_http_server(port, addr=host.strip("[]"), registry=registry)
    except OSError as error:
        raise ListenError(
            f"cannot serve metrics on {address}: {error.strerror or error}",
            remedy="stop what holds the port, or set [metrics] address",
        ) from error
    return MetricsServer(address=f"{host}:{server.server_port}", server=server, thread=thread)
