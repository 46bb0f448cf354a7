"""Traced requests as OpenTelemetry spans."""

import json
import logging
import threading

import pytest

from appliance import journal
from appliance.config import TracesConfig
from runtime.traces import Trace, open_traces

pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="as above")

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from runtime.traces import spans as room
from runtime.traces.spans import ROOT, Spans

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = (("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=1"), ("x-bin", b"\0"))
ANSWERED = Trace(
    request_id="r",
    model="m",
    version=3,
    route="canary",
    code="",
    began_ns=100,
    ended_ns=200,
    wall_ns=1_000_200,
    rows=2,
    batch_rows=6,
    queue_ns=10,
    before_ns=20,
    compute_ns=30,
    after_ns=5,
    made_ns=170,
    recorded_ns=190,
)
REFUSED = Trace(
    request_id="r",
    model="m",
    version=0,
    route="",
    code="model.unknown",
    began_ns=100,
    ended_ns=200,
    wall_ns=1_000_200,
)


@pytest.fixture
def lines(tmp_path):
    """The journal's lines of this test."""
    with (tmp_path / "journal").open("w") as stream:
        journal.start_journal(stream)
        yield lambda: [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    logging.getLogger("opentelemetry").handlers.clear()


def written(trace, metadata=()):
    """The spans that a trace becomes, by name."""
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, service="box-7")
    spans.write(trace, metadata)
    spans.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_an_answer_is_a_span_with_a_child_for_each_part():
    told = written(ANSWERED)
    root = told.pop(ROOT)
    assert (root.start_time, root.end_time) == (1_000_100, 1_000_200)
    assert (root.kind, root.parent, root.status.status_code) == (
        SpanKind.SERVER,
        None,
        StatusCode.UNSET,
    )
    assert root.attributes == {
        "rpc.system": "grpc",
        "holdfast.request_id": "r",
        "holdfast.model": "m",
        "holdfast.version": 3,
        "holdfast.route": "canary",
        "holdfast.rows": 2,
        "holdfast.batch_rows": 6,
    }
    assert root.resource.attributes["service.name"] == "box-7"
    assert {name: (span.start_time, span.end_time) for name, span in told.items()} == {
        "queue": (1_000_100, 1_000_110),
        "before": (1_000_110, 1_000_130),
        "engine": (1_000_130, 1_000_160),
        "after": (1_000_160, 1_000_165),
        "record": (1_000_170, 1_000_190),
    }
    for span in told.values():
        assert span.parent.span_id == root.context.span_id
        assert span.context.trace_id == root.context.trace_id


def test_a_refusal_is_one_span_with_its_code():
    (root,) = written(REFUSED).values()
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "model.unknown")
    assert root.attributes["error.type"] == "model.unknown"
    assert "holdfast.version" not in root.attributes


def test_a_span_belongs_to_the_trace_that_its_caller_began():
    root = written(ANSWERED, CALLER)[ROOT]
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == SPAN
    assert root.parent.is_remote
    assert root.context.trace_state["a"] == "1"


@pytest.mark.parametrize("value", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", "00-é-1-01"])
def test_what_names_no_trace_begins_one(value):
    root = written(ANSWERED, (("traceparent", value),))[ROOT]
    assert root.parent is None


def test_the_caller_says_whether_its_trace_is_recorded():
    spans = Spans(InMemorySpanExporter(), service="x")
    assert spans.asked(CALLER)
    assert not spans.asked((("traceparent", f"00-{TRACE}-{SPAN}-00"),))
    assert not spans.asked((("traceparent", "nonsense"),))
    assert not spans.asked((("traceparent", b"bytes"),))
    spans.close()


class Stuck(SpanExporter):
    """An exporter whose calls end only when it is shut down."""

    def __init__(self):
        self.over = threading.Event()

    def export(self, spans):
        self.over.wait()
        logging.getLogger("opentelemetry.exporter").warning("could not send %s", len(spans))
        logging.getLogger("opentelemetry.exporter").warning("nor these")
        return SpanExportResult.FAILURE

    def shutdown(self):
        self.over.set()


def test_an_endpoint_that_does_not_answer_holds_up_nobody(monkeypatch, lines):
    monkeypatch.setattr(room, "CLOSE_SECONDS_MAX", 0.01)
    exporter = Stuck()
    spans = Spans(exporter, service="x")
    for _ in range(2 * room.QUEUE_SPANS_MAX // 6):
        spans.write(ANSWERED, ())
    spans.close()
    assert exporter.over.is_set()
    spans._processor._batch_processor._worker_thread.join()
    (told,) = [line for line in lines() if line["event"] == "traces.unsent"]
    assert told["message"]


def test_spans_reach_a_collector(lines, collector, monkeypatch):
    for limit in ("EXPORT_SECONDS_MAX", "CLOSE_SECONDS_MAX"):
        monkeypatch.setattr(room, limit, 120.0)
    endpoint, spans = collector
    traces = open_traces(TracesConfig(endpoint=endpoint, share_per_mille=1000), service="box-7")
    traces.ended("m", CALLER, 0, lambda: ANSWERED)
    traces.close()
    assert len(spans) == 6
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert not lines()
