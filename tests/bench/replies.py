"""Right replies: what a model must answer, asked by a stock client before any load; records against replies.

Knows: the reference (ONNX Runtime on the source file), tritonclient, the audit log's table. Rules: a server
that answers wrongly is not measured. Leaves to others: the load.
"""

import json
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from h2load import INFER, Target, counted
from models import Model
from servers import Server
from tritonclient import grpc as stock
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import shared_memory

from appliance.audit.schema import SCHEMA
from appliance.database import Database

CALL_SECONDS_MAX = 60.0
REFERENCE_PART = 10
RELATIVE = 2e-2
REGION = "picture"
EXACT_REQUESTS = 2000


class WrongReply(Exception):
    """A server that does not answer as the reference does; the text says how."""


@dataclass(slots=True)
class References:
    """The right answers, by model, computed once from `folder`/NAME.onnx."""

    folder: Path
    _found: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, model: Model) -> np.ndarray:
        """The first output for the model's request."""
        if model.name not in self._found:
            session = onnxruntime.InferenceSession(str(self.folder / f"{model.name}.onnx"))
            name = session.get_inputs()[0].name
            self._found[model.name] = session.run(None, {name: model.engine_rows()})[0]
        return self._found[model.name]


def target(server: Server, model: Model, references: References) -> Target:
    """Ask once and compare; then what a load is to send there. Raises WrongReply."""
    if model.name in server.json_path:
        return json_target(server, model, references)
    wanted = references.of(model)
    address = server.addresses.get(model.name, server.address)
    try:
        found = asked(address, model)
        with channel(address) as wire:
            message = model.request().SerializeToString()
            reply = wire.unary_unary(INFER)(message, timeout=CALL_SECONDS_MAX)
    except (grpc.RpcError, stock.InferenceServerException) as error:
        raise WrongReply(f"{server.name} does not answer {model.name}: {error}") from error
    compare(server, model, found, wanted)
    return Target(address=address, message=message, reply_bytes=len(reply))


def asked(address: str, model: Model) -> np.ndarray:
    """The first output of the model's request, by the stock client."""
    row = model.rows(1)
    given = stock.InferInput(model.tensor, list(row.shape), model.datatype)
    given.set_data_from_numpy(row)
    with stock.InferenceServerClient(address) as client:
        result = client.infer(model.name, [given], client_timeout=CALL_SECONDS_MAX)
        return np.asarray(result.as_numpy(result.get_response().outputs[0].name))


def compare(server: Server, model: Model, found: np.ndarray, wanted: np.ndarray) -> None:
    """Raise WrongReply unless the numbers agree to `RELATIVE` of their range.

    An echo server's answer to a large input is the beginning of that input.
    """
    flat, right = found.ravel(), wanted.ravel()
    if not server.models:
        flat, right = flat[:REFERENCE_PART], model.rows(1).ravel()[:REFERENCE_PART]
    if flat.shape != right.shape:
        raise WrongReply(f"{server.name} answers {model.name} with {flat.shape} numbers")
    worst = float(np.abs(flat - right).max() / max(float(np.ptp(right)), 1e-6))
    if not worst <= RELATIVE:
        raise WrongReply(f"{server.name} answers {model.name} wrongly, by {worst:.2g} of the range")


def json_target(server: Server, model: Model, references: References) -> Target:
    """The same for a server of JSON over HTTP: {"x": rows} to a list of rows. Raises WrongReply."""
    address = server.addresses.get(model.name, server.address)
    body = json.dumps({"x": model.rows(1).tolist()}).encode()
    path = server.json_path[model.name]
    request = urllib.request.Request(
        f"http://{address}{path}", data=body, headers={"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS_MAX) as reply:
            said = reply.read()
        found = np.array(json.loads(said), np.float32)
    except (OSError, ValueError) as error:
        raise WrongReply(f"{server.name} does not answer {model.name}: {error}") from error
    compare(server, model, found, references.of(model))
    return Target(address=address, message=body, reply_bytes=len(said), path=path, json=True)


def channel(address: str) -> grpc.Channel:
    """A channel of its own to a server, for large messages."""
    limits = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
    options = [("grpc.use_local_subchannel_pool", 1), *((limit, -1) for limit in limits)]
    return grpc.insecure_channel(address, options=options)


def shared_target(server: Server, model: Model, references: References) -> tuple[Target, object]:
    """The model's row in shared memory, and the region, to be destroyed. Raises WrongReply."""
    row, key = model.rows(1), f"/holdfast-client-bench-{server.process.pid}"
    region = shared_memory.create_shared_memory_region(REGION, key, row.nbytes)
    shared_memory.set_shared_memory_region(region, [row])
    message = oip.ModelInferRequest(model_name=model.name)
    given = message.inputs.add(name=model.tensor, datatype=model.datatype, shape=row.shape)
    given.parameters["shared_memory_region"].string_param = REGION
    given.parameters["shared_memory_byte_size"].int64_param = row.nbytes
    try:
        with stock.InferenceServerClient(server.address) as client:
            client.register_system_shared_memory(REGION, key, row.nbytes)
        with channel(server.address) as wire:
            reply = wire.unary_unary(INFER)(message.SerializeToString(), timeout=CALL_SECONDS_MAX)
        raw = oip.ModelInferResponse.FromString(reply).raw_output_contents[0]
        compare(server, model, np.frombuffer(raw, np.float32), references.of(model))
    except (grpc.RpcError, stock.InferenceServerException, WrongReply) as error:
        shared_memory.destroy_shared_memory_region(region)
        raise WrongReply(f"{server.name} takes no shared memory: {error}") from error
    sent = message.SerializeToString()
    return Target(address=server.address, message=sent, reply_bytes=len(reply)), region


def statistics(address: str, model: str = "") -> list:
    """The server's ModelStatistics."""
    with channel(address) as wire:
        service = service_pb2_grpc.GRPCInferenceServiceStub(wire)
        request = oip.ModelStatisticsRequest(name=model)
        return list(service.ModelStatistics(request, timeout=CALL_SECONDS_MAX).model_stats)


def records(server: Server) -> int:
    """How many inferences the server's audit log holds."""
    database = Database.read(server.state / "audit" / "log.db", SCHEMA)
    try:
        sql = "SELECT count(*) FROM record WHERE category = 'inference'"
        return int(database.connection.execute(sql).fetchone()[0])
    finally:
        database.close()


def exact(server: Server, sent: Target, root: Path) -> dict[str, object]:
    """Send a known number of requests and count the records that they leave.

    Where replies do not wait for their records, those may still be on their way for a moment.
    """
    before = records(server)
    window = counted(sent, 32, EXACT_REQUESTS, root)
    until = time.monotonic() + 10.0
    while (found := records(server) - before) < EXACT_REQUESTS and time.monotonic() < until:
        time.sleep(0.05)
    answered = sum(each.inference_stats.success.count for each in statistics(server.address))
    return {
        "requests": EXACT_REQUESTS,
        "replies": window.sent,
        "records": found,
        "answers_of_the_run": answered,
        "records_of_the_run": records(server),
    }
