"""The Open Inference Protocol's service.

Knows: which messages answer which call. Rules: a servicer decodes, calls, encodes; nothing is decided
here. Leaves to others: answering (`runtime.dataplane`), the served table, status codes.
"""

import uuid
from typing import Any

from tritonclient.grpc import model_config_pb2 as model_config
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as oip_stubs

from appliance.config import Config
from appliance.deployment import Deployment
from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from appliance.tensors import DataType, TensorSpec
from appliance.version import release
from runtime.codec import WireTensors, call_from, encode
from runtime.dataplane import DataPlane
from runtime.metrics import Duration, Metrics
from runtime.protocol import REQUEST_ID_KEY
from runtime.swap import Lane, ServedTable

EXTENSIONS = ("holdfast", "model_configuration", "model_repository", "statistics")


class InferenceService(oip_stubs.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Calls that are not defined here answer UNIMPLEMENTED."""

    def __init__(
        self, *, config: Config, table: ServedTable, dataplane: DataPlane, metrics: Metrics
    ) -> None:
        self._config = config
        self._table = table
        self._dataplane = dataplane
        self._metrics = metrics

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Whether the process answers."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether every model with an active version can answer."""
        return oip.ServerReadyResponse(ready=self._table.ready and not self._dataplane.draining)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether a model (or one version) can answer; an unknown one cannot, which is no error."""
        try:
            self._table.route(request.name, request.version)
        except (UnknownModel, UnknownVersion, VersionNotServed):
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Name, release and the protocol extensions served."""
        return oip.ServerMetadataResponse(
            name=self._config.server.name, version=release(), extensions=EXTENSIONS
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Inputs and outputs as clients see them, batch axis included."""
        _, lane = self._table.route(request.name, request.version)
        interface = lane.servable.interface
        reply = oip.ModelMetadataResponse(
            name=request.name,
            versions=map(str, self._table.loaded(request.name)),
            platform=_platform(lane),
        )
        for spec in interface.inputs:
            shape = interface.wire_shape(spec)
            reply.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        for spec in interface.outputs:
            shape = interface.wire_shape(spec)
            reply.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        return reply

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """The configuration as load tools read it: dims without the batch axis."""
        _, lane = self._table.route(request.name, request.version)
        interface, batching = lane.servable.interface, self._config.batching
        config = model_config.ModelConfig(
            name=request.name,
            platform=_platform(lane),
            backend=lane.stored.record.engine.kind,
            max_batch_size=interface.batch_max,
            input=[_configured(model_config.ModelInput, spec) for spec in interface.inputs],
            output=[_configured(model_config.ModelOutput, spec) for spec in interface.outputs],
        )
        if interface.batch_max:
            config.dynamic_batching.max_queue_delay_microseconds = batching.delay_us_max
        return oip.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answer one request; the reply leaves when its audit record is durable.

        A request without an id finds the one it was recorded under in the trailing metadata.
        """
        call = call_from(request, peer=context.peer(), new_id=_new_id)
        if not call.sent_id:
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
        reply = await self._dataplane.infer(call, WireTensors(request))
        return encode(call, version=reply.version, outputs=reply.outputs)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        """Counts and times since start, of one model or all, of one version or all loaded."""
        models = [deployment.model for deployment in self._table.deployments()]
        if request.name and request.name not in models:
            raise RequestError(
                f"requested model '{request.name}' is not available", remedy=f"use one of {models}"
            )
        reply = oip.ModelStatisticsResponse()
        for model in [request.name] if request.name else models:
            for version in self._table.loaded(model):
                if request.version in ("", str(version)):
                    self._add_statistics(reply, model, version)
        return reply

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """Every version in the store; READY when it is loaded."""
        reply = oip.RepositoryIndexResponse()
        for deployment, version in self._table.versions():
            loaded = version in self._table.loaded(deployment.model)
            if loaded or not request.ready:
                reply.models.add(
                    name=deployment.model,
                    version=str(version),
                    state="READY" if loaded else "UNAVAILABLE",
                    reason="" if loaded else _why_not(deployment, version),
                )
        return reply

    def _add_statistics(self, reply: Any, model: str, version: int) -> None:
        counts = self._metrics.model(model).version(version)
        entry = reply.model_stats.add(
            name=model,
            version=str(version),
            last_inference=counts.last_wall_ms,
            inference_count=counts.rows,
            execution_count=round(counts.batches),
        )
        for name, duration in (
            ("success", counts.success),
            ("fail", counts.fail),
            ("queue", counts.queue),
            ("compute_infer", counts.compute),
        ):
            _fill(getattr(entry.inference_stats, name), duration)


def _fill(message: Any, duration: Duration) -> None:
    message.count, message.ns = duration.count, duration.ns


def _platform(lane: Lane) -> str:
    return f"holdfast_{lane.stored.record.engine.kind}"


def _configured(kind: Any, spec: TensorSpec) -> Any:
    name = "STRING" if spec.datatype is DataType.BYTES else spec.datatype
    return kind(name=spec.name, data_type=getattr(model_config, f"TYPE_{name}"), dims=spec.shape)


def _new_id() -> str:
    return uuid.uuid4().hex


def _why_not(deployment: Deployment, version: int) -> str:
    return deployment.role(version) or "not activated"
