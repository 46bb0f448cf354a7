"""The edge: errors to status codes, counters, words to systemd."""

import socket
import urllib.request

import grpc
import pytest

from appliance import errors
from appliance.errors import ListenError
from runtime.interceptors import status_code
from runtime.metrics import Metrics, ModelCounts, serve_metrics
from runtime.notify import notify, watchdog_seconds


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UnknownModel, grpc.StatusCode.NOT_FOUND),
        (errors.UnknownVersion, grpc.StatusCode.NOT_FOUND),
        (errors.VersionNotServed, grpc.StatusCode.UNAVAILABLE),
        (errors.RequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.RequestLimit, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Overloaded, grpc.StatusCode.UNAVAILABLE),
        (errors.Draining, grpc.StatusCode.UNAVAILABLE),
        (errors.AuditUnwritable, grpc.StatusCode.UNAVAILABLE),
        (errors.DecisionError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.EngineError, grpc.StatusCode.INTERNAL),
        (errors.StoreError, grpc.StatusCode.DATA_LOSS),
    ],
)
def test_each_error_has_the_status_clients_expect(kind, code):
    assert status_code(kind("what", remedy="do")) is code


def test_metrics_are_read_as_prometheus_text():
    metrics = Metrics()
    counts = metrics.model("m").version(3)
    counts.success.add(2_000_000_000)
    counts.rows += 5
    metrics.model("").refused += 1
    metrics.queued = lambda: {"m": 4}
    server = serve_metrics(metrics, "127.0.0.1:0")
    try:
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as reply:
            text = reply.read().decode()
    finally:
        server.close()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'holdfast_requests_total{model="m",result="answered",version="3"} 1.0' in lines
    assert 'holdfast_rows_total{model="m",version="3"} 5.0' in lines
    assert 'holdfast_seconds_total{model="m",part="success",version="3"} 2.0' in lines
    assert 'holdfast_refused_total{model=""} 1.0' in lines
    assert 'holdfast_queued{model="m"} 4.0' in lines


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


def test_without_systemd_nothing_is_said(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify("READY=1")
    assert watchdog_seconds() is None


def test_systemd_is_told_also_on_an_abstract_socket(monkeypatch, tmp_path):
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_seconds() == 1.5
    name = f"holdfast-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1", "STATUS=ok")
        assert manager.recv(100) == b"READY=1\nSTATUS=ok"


def test_a_manager_that_is_gone_and_a_watchdog_of_another_process_are_nothing(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None
