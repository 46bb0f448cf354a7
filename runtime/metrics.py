"""What the runtime counts, and how Prometheus reads it.

Knows: the counters of each version and of each model's recent latency. Rules: a request is counted once, by
whichever thread ends it, under the lock of its model; whoever reads several figures that must agree holds
that lock too. Leaves to others: showing them.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Lock, Thread
from wsgiref.simple_server import WSGIServer

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from appliance.config import split_address
from appliance.errors import ListenError

RECENT_REQUESTS = 1000
# Upper bounds of the latency histograms, in nanoseconds: three a decade from 0.1 ms to 10 s.
TIME_BOUNDS_NS = tuple(step * 10**power for power in range(5, 11) for step in (1, 2, 5))[:16]


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
class Times:
    """A histogram over TIME_BOUNDS_NS: how many were at most each bound, the last one above them all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(TIME_BOUNDS_NS) + 1))
    ns: int = 0

    def add(self, ns: int) -> None:
        """Note one that took `ns` nanoseconds."""
        self.counts[bisect_left(TIME_BOUNDS_NS, ns)] += 1
        self.ns += ns


@dataclass(slots=True)
class BatchCounts:
    """The executions of one batch size.

    Each request of a batch brings its rows and, a row, the times of the whole batch; a batch whose requests
    are all counted adds up to exactly one execution, without a fraction on the way.
    """

    rows: int = 0
    input_row_ns: int = 0
    infer_row_ns: int = 0
    output_row_ns: int = 0

    def executions(self, size: int) -> int:
        """How many executions of `size` rows these were, to the nearest."""
        return round(self.rows / size)


@dataclass(slots=True)
class VersionCounts:
    """Counters of one version since the start of the process; `lock` guards every one of them."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: float = 0.0
    by_batch: dict[int, BatchCounts] = field(default_factory=dict)
    took: Times = field(default_factory=Times)
    waited: Times = field(default_factory=Times)
    last_wall_ms: int = 0
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))
    lock: Lock = field(default_factory=Lock)

    def answered(
        self,
        *,
        rows: int,
        batch_rows: int,
        queue_ns: int,
        compute_ns: int,
        took_ns: int,
        wall_ns: int,
        input_ns: int = 0,
        output_ns: int = 0,
    ) -> None:
        """Count one answered request of `rows` rows; from any thread.

        `batch_rows` rows shared its engine call. Times are nanoseconds: `compute_ns` of the whole batch,
        of which `input_ns` went before the engine and `output_ns` after it; `took_ns` from the request to
        its reply. `wall_ns` is when it was answered (Unix epoch).
        """
        infer_ns = max(compute_ns - input_ns - output_ns, 0)
        with self.lock:
            self.success.add(took_ns)
            self.queue.add(queue_ns)
            self.compute.add(compute_ns)
            self.compute_input.add(input_ns)
            self.compute_infer.add(infer_ns)
            self.compute_output.add(output_ns)
            self.rows += rows
            # Each request of a batch carries its share, so that the shares add up to whole executions.
            self.batches += rows / batch_rows
            batch = self.by_batch.setdefault(batch_rows, BatchCounts())
            batch.rows += rows
            batch.input_row_ns += rows * input_ns
            batch.infer_row_ns += rows * infer_ns
            batch.output_row_ns += rows * output_ns
            self.took.add(took_ns)
            self.waited.add(queue_ns)
            self.last_wall_ms = max(self.last_wall_ms, wall_ns // 1_000_000)
            self.recent_ns.append(took_ns)

    def failed(self, took_ns: int) -> None:
        """Count one request that reached this version and got an error; from any thread."""
        with self.lock:
            self.fail.add(took_ns)


@dataclass(slots=True)
class ModelCounts:
    """Counters of one model: per version, refusals that reached no version, recent latencies."""

    versions: dict[int, VersionCounts] = field(default_factory=dict)
    refused: int = 0
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))
    lock: Lock = field(default_factory=Lock)

    def version(self, number: int) -> VersionCounts:
        """The counters of a version, made at first use; from any thread."""
        found = self.versions.get(number)
        if found is None:
            made = VersionCounts(recent_ns=self.recent_ns, lock=self.lock)
            found = self.versions.setdefault(number, made)
        return found

    def refused_one(self) -> None:
        """Count one request that reached no version; from any thread."""
        with self.lock:
            self.refused += 1

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the recent requests' latency in milliseconds, 0.0 without any."""
        with self.lock:
            recent = list(self.recent_ns)
        return float(np.quantile(np.array(recent), quantile)) / 1e6 if recent else 0.0


@dataclass(slots=True)
class Metrics:
    """All counters. `queued` and `audit_queue` read what is waiting at this moment."""

    models: dict[str, ModelCounts] = field(default_factory=dict)
    queued: Callable[[], dict[str, int]] = dict
    audit_queue: Callable[[], int] = int

    def model(self, name: str) -> ModelCounts:
        """The counters of a model, made at first use; from any thread."""
        found = self.models.get(name)
        return found if found is not None else self.models.setdefault(name, ModelCounts())


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
        took = HistogramMetricFamily(
            "holdfast_request_seconds", "Time from a request to its reply", labels=by_version
        )
        waited = HistogramMetricFamily(
            "holdfast_queue_seconds", "Time that requests waited for an engine", labels=by_version
        )
        shared = HistogramMetricFamily(
            "holdfast_batch_rows", "Rows in one engine execution", labels=by_version
        )
        for model, counts in list(self._metrics.models.items()):
            refused.add_metric([model], counts.refused)
            for number, version in list(counts.versions.items()):
                names = [model, str(number)]
                with version.lock:
                    requests.add_metric([*names, "answered"], version.success.count)
                    requests.add_metric([*names, "failed"], version.fail.count)
                    rows.add_metric(names, version.rows)
                    batches.add_metric(names, round(version.batches))
                    for part in ("success", "queue", "compute"):
                        seconds.add_metric([*names, part], getattr(version, part).ns / 1e9)
                    took.add_metric(names, _buckets(version.took), version.took.ns / 1e9)
                    waited.add_metric(names, _buckets(version.waited), version.waited.ns / 1e9)
                    shared.add_metric(names, *_batches(version.by_batch))
        yield from (requests, rows, batches, seconds, refused, took, waited, shared)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        queued = GaugeMetricFamily("holdfast_queued", "Requests waiting", labels=["model"])
        for model, count in self._metrics.queued().items():
            queued.add_metric([model], count)
        yield queued
        yield GaugeMetricFamily(
            "holdfast_audit_queue", "Records waiting for a commit", self._metrics.audit_queue()
        )


def _buckets(times: Times) -> Sequence[tuple[str, float]]:
    """The histogram as Prometheus has it: (upper bound in seconds, how many were at most that)."""
    bounds = [str(bound / 1e9) for bound in TIME_BOUNDS_NS] + ["+Inf"]
    return _running(bounds, times.counts)


def _batches(by_batch: dict[int, BatchCounts]) -> tuple[Sequence[tuple[str, float]], float]:
    """Executions by batch size, over bounds that double, and the rows of all of them."""
    bounds = [2**power for power in range(11)]
    counts = [0] * (len(bounds) + 1)
    for size, batch in by_batch.items():
        counts[bisect_left(bounds, size)] += batch.executions(size)
    rows = sum(batch.rows for batch in by_batch.values())
    return _running([*map(str, bounds), "+Inf"], counts), rows


def _running(bounds: Sequence[str], counts: Sequence[int]) -> Sequence[tuple[str, float]]:
    return list(zip(bounds, accumulate(map(float, counts)), strict=True))


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
