"""What the server and its models are: metadata and configuration.

Knows: how an interface is told in the protocol's two forms. Rules: only what is served is listed; a
configuration says what holds, so that load tools and generated clients can rely on it. Leaves to others:
which version is asked about (`runtime.router`).
"""

from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import model_config_pb2 as oip_config
from tritonclient.grpc import service_pb2 as oip

from appliance.config import BatchingConfig, Config, QueueConfig, SequencesConfig
from appliance.deployment import Tuning
from appliance.manifest import Manifest
from appliance.states import state_specs
from appliance.store import StoredVersion
from appliance.tensors import DataType, TensorSpec
from appliance.version import release
from runtime.holding import batching_of, engine_of, is_on_gpu
from runtime.services.found import found
from runtime.swap import ServedTable

# What an own configuration and Triton's have in common is told; the name is the first thing scripts check.
ALWAYS = ("holdfast", "model_configuration", "model_repository", "statistics")


class Description:
    """ServerMetadata, ModelMetadata and ModelConfig; `inferring` are the extensions of inference calls."""

    def __init__(
        self, *, config: Config, table: ServedTable, inferring: Iterable[str] = ()
    ) -> None:
        self._config = config
        self._table = table
        self._extensions = (*ALWAYS, *inferring, *granted_extensions(config))

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Name, release and the protocol extensions served."""
        return oip.ServerMetadataResponse(
            name=self._config.server.name, version=release(), extensions=self._extensions
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Inputs and outputs as clients see them, batch axis included."""
        stored = await found(self._table, request.name, request.version)
        interface = stored.manifest.served
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=map(str, self._table.loaded(request.name)),
            platform=platform(stored),
            inputs=[_metadata(spec, interface.wire_shape(spec)) for spec in interface.inputs],
            outputs=[_metadata(spec, interface.wire_shape(spec)) for spec in interface.outputs],
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """The configuration as load tools read it: dims without the batch axis."""
        stored = await found(self._table, request.name, request.version)
        loaded = self._table.loaded(request.name)
        tuning = self._table.deployment(request.name).tuning
        config = configuration(stored, config=self._config, loaded=loaded, tuning=tuning)
        return oip.ModelConfigResponse(config=config)


def granted_extensions(config: Config) -> Iterable[str]:
    """Names of the extensions that a box has only when its configuration grants them."""
    granted = {
        "model_repository(unload_dependents)": config.server.repository_control,
        "system_shared_memory": config.shared_memory.allowed,
        "cuda_shared_memory": config.shared_memory.cuda_allowed,
        "trace": config.server.settings_control,
        "logging": config.server.settings_control,
    }
    return [name for name, on in granted.items() if on]


def platform(stored: StoredVersion) -> str:
    """What runs the version, such as "holdfast_onnxruntime"."""
    return f"holdfast_{stored.record.engine.kind}"


def configuration(
    stored: StoredVersion, *, config: Config, loaded: Iterable[int], tuning: Tuning | None
) -> Any:
    """The ModelConfig of a version; `loaded` are the versions of its model that can be asked."""
    model, interface = stored.manifest.model, stored.manifest.served
    told = oip_config.ModelConfig(
        name=model,
        platform=platform(stored),
        backend=stored.record.engine.kind,
        max_batch_size=interface.batch_max,
        input=[_configured(oip_config.ModelInput, spec) for spec in interface.inputs],
        output=[_configured(oip_config.ModelOutput, spec) for spec in interface.outputs],
    )
    told.version_policy.specific.versions.extend(loaded)
    lanes, groups = engine_of(config, stored, tuning).lanes, oip_config.ModelInstanceGroup
    kind = groups.KIND_GPU if is_on_gpu(stored) else groups.KIND_CPU
    told.instance_group.add(name=model, kind=kind, count=lanes)
    # Every request has one reply, which is its last; told in full, since clients ask for it.
    told.model_transaction_policy.decoupled = False
    batching = batching_of(config.batching, stored, tuning)
    if stored.manifest.states:
        _add_sequences(told.sequence_batching, stored.manifest, config.sequences, batching)
    elif interface.batch_max:
        _add_batching(told.dynamic_batching, batching)
    return told


def _add_sequences(
    told: Any, manifest: Manifest, sequences: SequencesConfig, batching: BatchingConfig
) -> None:
    """Requests of many sequences share a batch, whichever came first: Triton's strategy "oldest"."""
    told.max_sequence_idle_microseconds = int(sequences.idle_seconds * 1e6)
    told.oldest.max_candidate_sequences = sequences.sequences_max
    told.oldest.max_queue_delay_microseconds = batching.delay_us_max
    told.oldest.preferred_batch_size.extend(batching.preferred_rows)
    specs = state_specs(manifest.engine, manifest.states)
    for state, spec in zip(manifest.states, specs, strict=True):
        kept = told.state.add(input_name=state.input, output_name=state.output, dims=spec.shape)
        kept.data_type = getattr(oip_config, f"TYPE_{spec.datatype}")
        zeros = kept.initial_state.add(name="zeros", dims=spec.shape, zero_data=True)
        zeros.data_type = kept.data_type


def _add_batching(told: Any, batching: BatchingConfig) -> None:
    told.max_queue_delay_microseconds = batching.delay_us_max
    told.preferred_batch_size.extend(batching.preferred_rows)
    whole = QueueConfig(requests_max=batching.queue_requests_max)
    _add_queue(told.default_queue_policy, whole)
    told.priority_levels = len(batching.queues)
    if batching.queues:
        told.default_priority_level = batching.priority_default or len(batching.queues)
    for level, queue in enumerate(batching.queues, 1):
        _add_queue(told.priority_queue_policy[level], queue)


def _add_queue(told: Any, queue: QueueConfig) -> None:
    actions = {"reject": told.REJECT, "delay": told.DELAY}
    told.timeout_action = actions[queue.timeout_action]
    told.default_timeout_microseconds = queue.timeout_us_default
    told.allow_timeout_override = queue.timeout_override
    told.max_queue_size = queue.requests_max


def _metadata(spec: TensorSpec, shape: Iterable[int]) -> Any:
    kind = oip.ModelMetadataResponse.TensorMetadata
    return kind(name=spec.name, datatype=spec.datatype, shape=shape)


def _configured(kind: Any, spec: TensorSpec) -> Any:
    name = "STRING" if spec.datatype is DataType.BYTES else spec.datatype
    datatype = getattr(oip_config, f"TYPE_{name}")
    return kind(name=spec.name, data_type=datatype, dims=spec.shape)
