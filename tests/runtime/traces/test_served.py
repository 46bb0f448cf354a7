"""One request's id and trace, wherever they are told: reply, record, journal, span."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs

from appliance.audit.kinds import Failure, Inference
from appliance.audit.reader import AuditReader

pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
ID_KEY = "holdfast-request-id"
# The runtime, with time to send its last spans also where the processor is shared.
PATIENT = """
from runtime.traces import spans
spans.EXPORT_SECONDS_MAX = spans.CLOSE_SECONDS_MAX = 50.0
from runtime.entry import main
main()
"""


def request(model="digits", **other):
    image = np.zeros((1, 8, 8, 1), np.uint8)
    asked = oip.ModelInferRequest(model_name=model, **other)
    asked.inputs.add(name="image", datatype="UINT8", shape=image.shape)
    asked.raw_input_contents.append(image.tobytes())
    return asked


@pytest.mark.parametrize("transport", ["fast", "public"])
def test_a_request_is_found_by_one_id_everywhere(state, start_runtime, collector, transport):
    endpoint, spans = collector
    runtime = start_runtime(
        state,
        f'[server]\naddress = "127.0.0.1:0"\ntransport = "{transport}"\n'
        f'[traces]\nendpoint = "{endpoint}"\nshare_per_mille = 0\n',
        code=PATIENT,
    )
    runtime.decide("activate", 1)
    with grpc.insecure_channel(runtime.address) as channel:
        stub = oip_stubs.GRPCInferenceServiceStub(channel)
        reply, call = stub.ModelInfer.with_call(request(), metadata=CALLER)
        assert reply.id == ""
        answered = dict(call.trailing_metadata())[ID_KEY]
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request("nothing"), metadata=CALLER)
        failed = dict(refused.value.trailing_metadata())[ID_KEY]
        stub.ModelInfer(request(id="mine"))  # of no trace
        streamed = stub.ModelStreamInfer(
            iter([request(), request("nothing"), request("nothing", id="own")]), metadata=CALLER
        )
        first, second, third = (
            (message.error_message, message.infer_response) for message in streamed
        )
    assert not first[0]
    in_stream = first[1].parameters[ID_KEY].string_param
    refused_in_stream = second[1].parameters[ID_KEY].string_param
    assert second[1].parameters["holdfast-code"].string_param == "model.unknown"
    assert (third[1].id, ID_KEY in third[1].parameters) == ("own", False)
    assert runtime.stop() == 0
    with AuditReader(state / "audit" / "log.db") as reader:
        records = [entry.record for entry in reader.records()]
    ids = {
        kind: [record.request_id for record in records if isinstance(record, kind)]
        for kind in (Inference, Failure)
    }
    assert ids[Inference] == [answered, "mine", in_stream]
    assert ids[Failure] == [failed, refused_in_stream, "own"]
    roots = [span for span in spans if span.parent_span_id.hex() == "b7ad6b7169203331"]
    told = [{item.key: item.value.string_value for item in span.attributes} for span in roots]
    assert {about["holdfast.request_id"]: about.get("error.type") for about in told} == {
        answered: None,
        failed: "model.unknown",
        in_stream: None,
        refused_in_stream: "model.unknown",
        "own": "model.unknown",
    }
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert len(spans) == 2 * 6 + 3
