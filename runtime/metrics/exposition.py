"""How Prometheus reads what the runtime counts.

Knows: the names of the metrics, and the HTTP endpoint. Rules: everything is worked out when it is asked
for, on the endpoint's own thread; a name and its meaning stay once they are released. Leaves to others:
counting (`counts`).
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from appliance.config import split_address
from appliance.errors import ListenError
from runtime.metrics.counts import (
    STATES,
    TIME_BOUNDS_NS,
    BatchCounts,
    Metrics,
    Times,
)

_OF_VERSION = ("model", "version")


class _Requests(Collector):
    """What became of the requests of each version."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "holdfast_requests", "Requests ended", labels=[*_OF_VERSION, "result"]
        )
        failed = CounterMetricFamily(
            "holdfast_failed",
            "Requests that reached a version and got an error",
            labels=[*_OF_VERSION, "code"],
        )
        rows = CounterMetricFamily("holdfast_rows", "Rows answered", labels=_OF_VERSION)
        batches = CounterMetricFamily("holdfast_batches", "Engine executions", labels=_OF_VERSION)
        seconds = CounterMetricFamily(
            "holdfast_seconds", "Time spent by requests", labels=[*_OF_VERSION, "part"]
        )
        refused = CounterMetricFamily(
            "holdfast_refused", "Requests that reached no version", labels=["model", "code"]
        )
        took = HistogramMetricFamily(
            "holdfast_request_seconds", "Time from a request to its reply", labels=_OF_VERSION
        )
        waited = HistogramMetricFamily(
            "holdfast_queue_seconds", "Time that requests waited for an engine", labels=_OF_VERSION
        )
        shared = HistogramMetricFamily(
            "holdfast_batch_rows", "Rows in one engine execution", labels=_OF_VERSION
        )
        for model, counts in list(self._metrics.models.items()):
            with counts.lock:
                _add_codes(refused, [model], counts.codes)
            for number, version in list(counts.versions.items()):
                names = [model, str(number)]
                with version.lock:
                    requests.add_metric([*names, "answered"], version.success.count)
                    requests.add_metric([*names, "failed"], version.fail.count)
                    _add_codes(failed, names, version.codes)
                    rows.add_metric(names, version.rows)
                    batches.add_metric(names, round(version.batches))
                    for part in PARTS:
                        seconds.add_metric([*names, part], getattr(version, part).ns / 1e9)
                    took.add_metric(names, _buckets(version.took), version.took.ns / 1e9)
                    waited.add_metric(names, _buckets(version.waited), version.waited.ns / 1e9)
                    shared.add_metric(names, *_batches(version.by_batch))
        yield from (requests, failed, rows, batches, seconds, refused, took, waited, shared)


PARTS = ("success", "queue", "compute", "compute_input", "compute_infer", "compute_output")


class _Versions(Collector):
    """Where each version stands at this moment."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        queued = GaugeMetricFamily("holdfast_queued", "Requests waiting", labels=["model"])
        for model, count in self._metrics.queued().items():
            queued.add_metric([model], count)
        waiting = GaugeMetricFamily(
            "holdfast_version_queued", "Requests waiting for this version", labels=_OF_VERSION
        )
        sequences = GaugeMetricFamily(
            "holdfast_version_sequences", "Sequences that are kept", labels=_OF_VERSION
        )
        states = GaugeMetricFamily(
            "holdfast_version_state",
            "1 for each state that the version is in: loading, loaded, draining, failed",
            labels=[*_OF_VERSION, "state"],
        )
        roles = GaugeMetricFamily(
            "holdfast_version_role",
            "1 for each role that the version plays: active, canary, shadow, previous",
            labels=[*_OF_VERSION, "role"],
        )
        lanes = GaugeMetricFamily(
            "holdfast_lanes",
            "Lanes at work, and engine calls that hang",
            labels=[*_OF_VERSION, "state"],
        )
        for standing in self._metrics.standings():
            names = [standing.model, str(standing.version)]
            waiting.add_metric(names, standing.queued)
            sequences.add_metric(names, standing.sequences)
            for state in STATES:
                states.add_metric([*names, state], state in standing.states)
            for role in standing.roles:
                roles.add_metric([*names, role], 1)
            lanes.add_metric([*names, "working"], standing.lanes)
            lanes.add_metric([*names, "hanging"], standing.hanging)
        yield from (queued, waiting, sequences, states, roles, lanes)


class _Box(Collector):
    """The audit log, the wire, and the process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics, commits = self._metrics, self._metrics.commits
        with commits.lock:
            took = HistogramMetricFamily(
                "holdfast_audit_commit_seconds",
                "Time that a commit of the audit log takes",
                buckets=_buckets(commits.took),
                sum_value=commits.took.ns / 1e9,
            )
            records, failures = commits.records, commits.failures
            since_ns = commits.now_ns() - commits.done_ns
        yield took
        yield CounterMetricFamily("holdfast_audit_records", "Records made durable", records)
        yield CounterMetricFamily("holdfast_audit_failures", "Commits that failed", failures)
        yield GaugeMetricFamily(
            "holdfast_audit_queue", "Records waiting for a commit", metrics.audit_queue()
        )
        yield GaugeMetricFamily(
            "holdfast_audit_idle_seconds", "Time since the last durable commit", since_ns / 1e9
        )
        yield GaugeMetricFamily(
            "holdfast_audit_running_seconds",
            "How long the commit that runs has taken so far, 0 when none runs",
            commits.running_ns() / 1e9,
        )
        yield GaugeMetricFamily(
            "holdfast_audit_bytes", "What the audit log's files take", metrics.audit_bytes()
        )
        yield GaugeMetricFamily(
            "holdfast_state_free_bytes",
            "Free on the disk of the state directory, the ballast counted as taken",
            metrics.bytes_free(),
        )
        yield GaugeMetricFamily("holdfast_calls", "Calls that are open", metrics.calls())
        yield CounterMetricFamily(
            "holdfast_calls_refused", "Calls over the limit, not looked at", metrics.calls_refused()
        )
        expiry = GaugeMetricFamily(
            "holdfast_certificate_expiry_timestamp_seconds",
            "Until when a certificate in use holds, seconds since the epoch",
            labels=["certificate", "name"],
        )
        for item in metrics.certificates():
            expiry.add_metric([item.what, item.name], item.not_after_ns / 1e9)
        yield expiry
        blocked = GaugeMetricFamily(
            "holdfast_checkpoint_blocked",
            "1 for each way or witness that the newest checkpoint did not get to",
            labels=["way"],
        )
        for way in metrics.checkpoints_blocked():
            blocked.add_metric([way], 1)
        yield blocked
        payloads = metrics.payloads()
        kept = CounterMetricFamily(
            "holdfast_payloads", "Requests whose inputs were to be kept", labels=["result"]
        )
        kept.add_metric(["kept"], payloads.kept)
        kept.add_metric(["missed"], payloads.missed)
        yield kept
        yield GaugeMetricFamily(
            "holdfast_payload_bytes", "Bytes of the inputs that are kept", payloads.bytes
        )
        yield GaugeMetricFamily("holdfast_threads", "Python threads", threading.active_count())


class _Gpus(Collector):
    """The GPUs in use; nothing where there is none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        busy = GaugeMetricFamily(
            "holdfast_gpu_busy_ratio",
            "Share of the last moment in which a kernel ran",
            labels=["gpu"],
        )
        used = GaugeMetricFamily(
            "holdfast_gpu_memory_used_bytes", "Memory of a GPU in use, by whomever", labels=["gpu"]
        )
        memory = GaugeMetricFamily("holdfast_gpu_memory_bytes", "Memory of a GPU", labels=["gpu"])
        warmth = GaugeMetricFamily(
            "holdfast_gpu_temperature_celsius", "How warm a GPU is", labels=["gpu"]
        )
        power = GaugeMetricFamily("holdfast_gpu_power_watts", "What a GPU takes", labels=["gpu"])
        throttled = GaugeMetricFamily(
            "holdfast_gpu_throttled",
            "1 for each reason that slows a GPU down",
            labels=["gpu", "reason"],
        )
        ecc = CounterMetricFamily(
            "holdfast_gpu_ecc_errors",
            "Errors of a GPU's memory since its driver was loaded",
            labels=["gpu", "result"],
        )
        for gpu in self._metrics.gpus():
            values = (gpu.busy, gpu.memory_used_bytes, gpu.memory_bytes, gpu.celsius, gpu.watts)
            for family, value in zip((busy, used, memory, warmth, power), values, strict=True):
                if value is not None:
                    family.add_metric([gpu.uuid], value)
            for reason in gpu.throttled or ():
                throttled.add_metric([gpu.uuid, reason], 1)
            errors = (("corrected", gpu.ecc_corrected), ("uncorrected", gpu.ecc_uncorrected))
            for result, count in errors:
                if count is not None:
                    ecc.add_metric([gpu.uuid, result], count)
        yield from (busy, used, memory, warmth, power, throttled, ecc, *self._owners())

    def _owners(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "holdfast_gpu_ready", "1 when a GPU's owner can run engines", labels=["device"]
        )
        restarts = CounterMetricFamily(
            "holdfast_gpu_restarts", "Times that a GPU's owner was started again", labels=["device"]
        )
        engines = GaugeMetricFamily(
            "holdfast_gpu_engines", "Engines loaded on a GPU", labels=["device"]
        )
        for owner in self._metrics.gpu_owners():
            ready.add_metric([owner.device], owner.state == "ready")
            restarts.add_metric([owner.device], owner.restarts)
            engines.add_metric([owner.device], len(owner.engines))
        yield from (ready, restarts, engines)


def _add_codes(family: CounterMetricFamily, names: Sequence[str], codes: Mapping[str, int]) -> None:
    for code, count in codes.items():
        family.add_metric([*names, code], count)


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
    for kind in (_Requests, _Versions, _Gpus, _Box):
        registry.register(kind(metrics))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    try:
        server, thread = start_http_server(port, addr=host.strip("[]"), registry=registry)
    except OSError as error:
        raise ListenError(
            f"cannot serve metrics on {address}: {error.strerror or error}",
            remedy="stop what holds the port, or set [metrics] address",
        ) from error
    return MetricsServer(address=f"{host}:{server.server_port}", server=server, thread=thread)
