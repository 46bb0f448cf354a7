"""What spans are sent to."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest


@pytest.fixture
def collector():
    """An OTLP receiver: its endpoint, and the spans that it got."""
    otlp = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    spans = []

    def export(request, context):
        for resource in request.resource_spans:
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        return otlp.ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        otlp.ExportTraceServiceRequest.FromString,
        otlp.ExportTraceServiceResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", spans
    server.stop(0).wait()
