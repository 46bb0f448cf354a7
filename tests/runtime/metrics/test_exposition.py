"""What Prometheus reads."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.errors import ListenError
from runtime.gpu.standing import Standing as Owner
from runtime.gpu.telemetry import Reading
from runtime.metrics import Commits, Metrics, ModelCounts, serve_metrics
from runtime.metrics.counts import STATES
from runtime.standing import Standing, State


def read(metrics):
    """Every sample of the endpoint, as {(name, labels): value}, labels being sorted (key, value) pairs."""
    server = serve_metrics(metrics, "127.0.0.1:0")
    try:
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=120) as reply:
            text = reply.read().decode()
    finally:
        server.close()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**those):
    return tuple(sorted((name, str(value)) for name, value in those.items()))


def count(version):
    version.answered(
        rows=2,
        batch_rows=6,
        queue_ns=1_000_000,
        compute_ns=5_000_000,
        input_ns=1_000_000,
        output_ns=500_000,
        took_ns=7_000_000,
        wall_ns=0,
    )


def test_requests_are_told_by_version():
    metrics = Metrics()
    version = metrics.model("m").version(3)
    count(version)
    version.failed(1, "engine.failed")
    metrics.model("").refused_one("model.unknown")
    told = read(metrics)
    of = {"model": "m", "version": 3}
    assert told["holdfast_requests_total", labels(**of, result="answered")] == 1
    assert told["holdfast_requests_total", labels(**of, result="failed")] == 1
    assert told["holdfast_failed_total", labels(**of, code="engine.failed")] == 1
    assert told["holdfast_refused_total", labels(model="", code="model.unknown")] == 1
    assert told["holdfast_rows_total", labels(**of)] == 2
    for part, seconds in {
        "success": 0.007,
        "queue": 0.001,
        "compute": 0.005,
        "compute_input": 0.001,
        "compute_infer": 0.0035,
        "compute_output": 0.0005,
    }.items():
        assert told["holdfast_seconds_total", labels(**of, part=part)] == seconds
    assert told["holdfast_request_seconds_bucket", labels(**of, le="0.005")] == 0
    assert told["holdfast_request_seconds_bucket", labels(**of, le="0.01")] == 1
    assert told["holdfast_queue_seconds_bucket", labels(**of, le="0.001")] == 1


def test_a_batch_is_one_execution_for_all_its_requests():
    metrics = Metrics()
    for _ in range(3):
        count(metrics.model("m").version(1))
    told, of = read(metrics), {"model": "m", "version": 1}
    assert told["holdfast_batches_total", labels(**of)] == 1
    assert told["holdfast_batch_rows_bucket", labels(**of, le="4")] == 0
    assert told["holdfast_batch_rows_bucket", labels(**of, le="8")] == 1
    assert told["holdfast_batch_rows_sum", labels(**of)] == 6


def test_the_audit_log_tells_how_far_behind_it_is():
    now = iter([0, 10, 2_000_000_010, 3_000_000_010, 3_000_000_010, 5_000_000_010, 6_000_000_010])
    commits = Commits(now_ns=lambda: next(now))
    commits.begun()
    commits.ended(5)
    commits.begun()
    told = read(Metrics(commits=commits, audit_queue=lambda: 4))
    assert told["holdfast_audit_queue", ()] == 4
    assert told["holdfast_audit_records_total", ()] == 5
    assert told["holdfast_audit_commit_seconds_count", ()] == 1
    assert told["holdfast_audit_commit_seconds_sum", ()] == 2
    assert told["holdfast_audit_idle_seconds", ()] == 1
    assert told["holdfast_audit_running_seconds", ()] == 2
    commits.ended(0)
    assert (commits.failures, commits.running_ns()) == (1, 0)


def test_versions_tell_state_role_queue_and_lanes():
    standings = [
        Standing("m", 1, ("loaded", "draining"), ("active",), 7, 2, 1, 3),
        Standing("m", 2, ("failed",), (), 0, 0, 0),
    ]
    told = read(Metrics(standings=lambda: standings, queued=lambda: {"m": 7}))
    first, second = {"model": "m", "version": 1}, {"model": "m", "version": 2}
    states = {
        state: told["holdfast_version_state", labels(**first, state=state)] for state in STATES
    }
    assert states == {"loading": 0, "loaded": 1, "draining": 1, "failed": 0}
    assert told["holdfast_version_state", labels(**second, state="failed")] == 1
    assert told["holdfast_version_role", labels(**first, role="active")] == 1
    assert told["holdfast_version_queued", labels(**first)] == 7
    assert told["holdfast_version_sequences", labels(**first)] == 3
    assert told["holdfast_queued", labels(model="m")] == 7
    assert told["holdfast_lanes", labels(**first, state="working")] == 2
    assert told["holdfast_lanes", labels(**first, state="hanging")] == 1
    assert State.__args__ == STATES


def test_the_wire_and_the_process_are_told():
    told = read(Metrics(calls=lambda: 3, calls_refused=lambda: 2))
    assert told["holdfast_calls", ()] == 3
    assert told["holdfast_calls_refused_total", ()] == 2
    assert told["holdfast_threads", ()] >= 1
    assert told["process_resident_memory_bytes", ()] > 0
    assert told["process_open_fds", ()] > 0


def test_codes_are_counted_where_the_request_got_to():
    model = ModelCounts()
    for _ in range(2):
        model.version(1).failed(5, "server.overloaded")
    model.refused_one()
    assert model.version(1).codes == {"server.overloaded": 2}
    assert (model.codes, model.refused) == ({"internal": 1}, 1)


def test_metrics_can_be_off_and_a_taken_port_is_named():
    serve_metrics(Metrics(), "").close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=str(port)):
            serve_metrics(Metrics(), f"127.0.0.1:{port}")


def test_latency_is_of_recent_requests():
    counts = ModelCounts()
    assert counts.latency_ms(0.5) == 0.0
    counts.recent_ns.extend([1_000_000, 2_000_000, 9_000_000])
    assert counts.latency_ms(0.5) == 2.0


def test_gpus_in_use_are_told():
    first = Reading(
        device="0",
        uuid="GPU-a",
        name="A",
        busy=0.5,
        memory_used_bytes=1,
        memory_bytes=4,
        celsius=61,
        watts=200.5,
        throttled=("power cap",),
        ecc_corrected=2,
        ecc_uncorrected=0,
    )
    owner = Owner("0", "A", "restarting", "lost", 3, 7, 1, 4, ("one", "two"), 2, 0, ())
    metrics = Metrics(
        gpus=lambda: (first, Reading(device="MIG-b", uuid="MIG-b", name="B")),
        gpu_owners=lambda: (owner,),
    )
    told = read(metrics)
    of = labels(gpu="GPU-a")
    assert told["holdfast_gpu_busy_ratio", of] == 0.5
    assert told["holdfast_gpu_memory_used_bytes", of] == 1
    assert told["holdfast_gpu_memory_bytes", of] == 4
    assert told["holdfast_gpu_temperature_celsius", of] == 61
    assert told["holdfast_gpu_power_watts", of] == 200.5
    assert told["holdfast_gpu_throttled", labels(gpu="GPU-a", reason="power cap")] == 1
    assert told["holdfast_gpu_ecc_errors_total", labels(gpu="GPU-a", result="corrected")] == 2
    assert not [name for name, those in told if dict(those).get("gpu") == "MIG-b"]
    assert told["holdfast_gpu_ready", labels(device="0")] == 0
    assert told["holdfast_gpu_restarts_total", labels(device="0")] == 3
    assert told["holdfast_gpu_engines", labels(device="0")] == 2
