"""Traced requests as OpenTelemetry spans, sent by OTLP over gRPC.

Knows: the names and attributes of the spans, and opentelemetry's libraries, which only this room imports
and which only an endpoint loads. Rules: spans are handed over finished and the library's own thread sends
them; its queue is bounded, and what does not fit is dropped; an endpoint that does not answer costs a line
of the journal a minute and nothing else. Leaves to others: which requests (`sampling`).

Made against opentelemetry-sdk 1.45. General attributes have the names of OpenTelemetry's semantic
conventions; our own begin with "holdfast.".
"""

import logging
from threading import Thread

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from appliance import journal
from appliance.version import release
from runtime.traces.sampling import Metadata, Trace

ROOT = "inference.GRPCInferenceService/ModelInfer"
QUEUE_SPANS_MAX = 4096
# Few at a time: turning spans into a message keeps other threads from running.
SENT_SPANS_MAX = 60
SEND_SECONDS = 1.0  # between two of them
EXPORT_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 3.0
TELL_SECONDS = 60.0  # between two lines about spans that could not be sent

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_PROPAGATOR = TraceContextTextMapPropagator()


class Spans:
    """Sends spans (see `sampling.Export`); every method may be called from any thread."""

    def __init__(self, exporter: SpanExporter, *, service: str) -> None:
        """Send by `exporter`, which is ours from now on; `service` names this runtime among others."""
        about = {"service.name": service, "service.version": release()}
        self._resource = Resource.create(about)
        self._scope = InstrumentationScope("holdfast", release())
        self._ids = RandomIdGenerator()
        self._exporter = exporter
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS_MAX,
            max_export_batch_size=SENT_SPANS_MAX,
            schedule_delay_millis=SEND_SECONDS * 1000,
        )
        _tell_troubles()

    def asked(self, metadata: Metadata) -> bool:
        """Whether the trace that the caller's metadata names is being recorded."""
        caller = _caller(metadata)
        return caller.is_valid and caller.trace_flags.sampled

    def write(self, trace: Trace, metadata: Metadata) -> None:
        """Queue the span of one request and those of its parts; never waits."""
        caller = _caller(metadata)
        parent = caller if caller.is_valid else None
        trace_id = parent.trace_id if parent else self._ids.generate_trace_id()
        epoch_ns = trace.wall_ns - trace.ended_ns  # from the monotonic clock to the Unix epoch
        root = self._span(
            ROOT,
            trace_id,
            parent,
            (trace.began_ns + epoch_ns, trace.ended_ns + epoch_ns),
            kind=SpanKind.SERVER,
            attributes=_attributes(trace),
            status=Status(StatusCode.ERROR, trace.code) if trace.code else _UNSET,
        )
        for name, (begin, end) in trace.parts().items():
            times = begin + epoch_ns, end + epoch_ns
            self._processor.on_end(self._span(name, trace_id, root.get_span_context(), times))
        self._processor.on_end(root)

    def close(self) -> None:
        """Send what is queued, within CLOSE_SECONDS_MAX, and end the thread; blocks."""
        ending = Thread(target=self._processor.shutdown, name="holdfast-spans-end", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS_MAX)
        if ending.is_alive():
            self._exporter.shutdown()  # ends what it is at, and refuses the rest

    def _span(
        self,
        name: str,
        trace_id: int,
        parent: SpanContext | None,
        times: tuple[int, int],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, str | int] | None = None,
        status: Status = _UNSET,
    ) -> ReadableSpan:
        """A span that is over; `times` in nanoseconds of the Unix epoch."""
        context = SpanContext(
            trace_id,
            self._ids.generate_span_id(),
            is_remote=False,
            trace_flags=_SAMPLED,
            trace_state=parent.trace_state if parent else None,
        )
        # Not by the library's tracer, which takes several times as long for spans that can still grow.
        return ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes or {},
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


def open_spans(endpoint: str, *, service: str) -> Spans:
    """Spans to the OTLP receiver at `endpoint`, a URL; it connects when there is something to send.

    OTLPSpanExporter takes headers and certificates from OpenTelemetry's environment variables.
    """
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS_MAX)
    return Spans(exporter, service=service)


def _caller(metadata: Metadata) -> SpanContext:
    """The span that the caller's metadata names (W3C Trace Context), an invalid one without any."""
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    return get_current_span(_PROPAGATOR.extract(carrier)).get_span_context()


def _attributes(trace: Trace) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "rpc.system": "grpc",
        "holdfast.request_id": trace.request_id,
        "holdfast.model": trace.model,
    }
    if trace.version:
        about |= {"holdfast.version": trace.version, "holdfast.route": trace.route}
    if trace.batch_rows:
        about |= {"holdfast.rows": trace.rows, "holdfast.batch_rows": trace.batch_rows}
    if trace.code:
        about["error.type"] = trace.code
    return about


class _Telling(logging.Handler):
    """Turns the library's complaints into lines of the journal, one in TELL_SECONDS."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if record.created - self._told < TELL_SECONDS:
            return
        self._told = record.created
        journal.event("traces.unsent", message=record.getMessage())


def _tell_troubles() -> None:
    library = logging.getLogger("opentelemetry")
    library.handlers[:] = [_Telling()]
    library.propagate = False
