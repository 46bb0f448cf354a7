"""The parts of the serving process, and how they are joined.

Knows: which part needs which, and what is answered where. Rules: whatever is opened here is closed by the
life that it is given, in reverse order. Leaves to others: what is written down and by whom
(`runtime.recording`), when (`runtime.server`), and the work itself.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from appliance import journal
from appliance.audit.capacity import bytes_used
from appliance.clock import SystemClock
from appliance.config import Config
from appliance.deployment import Tuning
from appliance.errors import AccessError
from appliance.store import Store, StoredVersion
from appliance.version import release
from runtime.access import Door, Principal, check_access, open_door
from runtime.certificates import Certificates
from runtime.codec import Call
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.denials import open_denials
from runtime.evidence import failure_record
from runtime.gpu import current
from runtime.gpu.watching import GpuWatch, Source
from runtime.holding import batching_of, engine_of
from runtime.lanes import load_lanes
from runtime.metrics import Metrics, MetricsServer, serve_metrics
from runtime.recorder import Recorder
from runtime.recording import Recording, open_recording
from runtime.regions import Regions
from runtime.replaying import warm_with_payloads
from runtime.servable import Servable
from runtime.services.control import Addresses, ControlService
from runtime.services.evidence import EVIDENCE, WITNESS
from runtime.services.feedback import FeedbackCall
from runtime.services.infer import INFERRING, InferCalls, new_id
from runtime.services.protocol import SERVICE, calls
from runtime.storage import StorageWatch
from runtime.swap import ServedTable
from runtime.traces import Traces, open_traces
from runtime.transport import (
    Health,
    Methods,
    Transport,
    on_loop,
    reflection_methods,
    while_standing,
)


class Parts(NamedTuple):
    """What the server is made of, but for the wire."""

    config: Config
    clock: SystemClock
    store: Store
    metrics: Metrics
    traces: Traces
    certificates: Certificates
    recording: Recording
    door: Door
    table: ServedTable
    controlplane: ControlPlane
    dataplane: DataPlane
    storage: StorageWatch
    gpus: GpuWatch


async def open_parts(config: Config, life: AsyncExitStack) -> Parts:
    """Everything behind the wire, with an open log and nothing loaded yet."""
    journal.event("runtime.starting", release=release(), config_sha256=config.digest)
    clock, store, metrics = SystemClock(), Store(config.state.store), Metrics()
    check_access(config, clock)
    certificates = Certificates(config.server.tls, clock)
    life.callback(asyncio.create_task(certificates.keep_looking()).cancel)
    traces = open_traces(config.traces, service=config.server.name)
    life.push_async_callback(asyncio.to_thread, traces.close)
    recording = await open_recording(config, clock, life)
    life.push_async_callback(asyncio.to_thread, current.release)  # once no version is loaded
    table = ServedTable(
        store,
        partial(_loaded, config),
        config.batching,
        clock,
        drain_seconds=config.server.drain_seconds,
        sequences=config.sequences,
    )
    life.push_async_callback(table.close)
    recorder = recording.recorder
    denials = open_denials(certificates, recorder, config.state.audit_log)
    await denials.look()
    life.callback(asyncio.create_task(denials.keep_looking()).cancel)
    door = _open_door(config, clock, recorder, metrics, certificates)
    life.callback(door.look, leaving=True)  # what it has counted of floods is recorded
    dataplane = DataPlane(
        table=table,
        recorder=recorder,
        metrics=metrics,
        clock=clock,
        bytes_max=config.server.bytes_in_flight_max,
        awaited=config.audit.awaited,
        traces=traces,
        keeper=recording.payloads,
        kept_out=partial(_note_kept_out, door),
    )
    return Parts(
        config=config,
        clock=clock,
        store=store,
        metrics=metrics,
        traces=traces,
        certificates=certificates,
        recording=recording,
        door=door,
        table=table,
        controlplane=ControlPlane(
            store=store, table=table, recorder=recorder, new_id=lambda: uuid.uuid4().hex
        ),
        dataplane=dataplane,
        storage=_watch_storage(config, recording, dataplane, life),
        gpus=_watch_gpus(config, clock, life),
    )


def _open_door(
    config: Config,
    clock: SystemClock,
    recorder: Recorder,
    metrics: Metrics,
    certificates: Certificates,
) -> Door:
    """The door of the inference port."""
    door = open_door(
        config,
        clock=clock,
        recorder=recorder,
        counted=metrics.model("").refused_one,
        new_id=new_id,
        denied=certificates.denied,
    )
    certificates.on_change(door.forget)
    return door


def _note_kept_out(door: Door, error: AccessError, call: Call, principal: Principal) -> None:
    """Have the door record that a request of `principal` is refused."""
    told = failure_record(
        call, principal=principal.name, version=0, code=error.code, message=str(error)
    )
    door.note(told)


def _watch_storage(
    config: Config, recording: Recording, dataplane: DataPlane, life: AsyncExitStack
) -> StorageWatch:
    """The watch, which has looked once and goes on looking."""
    storage = StorageWatch(
        config.storage,
        config.state,
        dataplane=dataplane,
        omissions=recording.omissions,
        payloads=recording.payloads,
    )
    storage.begin()
    life.callback(storage.close)
    life.callback(asyncio.create_task(storage.keep_looking()).cancel)
    return storage


def _watch_gpus(config: Config, clock: SystemClock, life: AsyncExitStack) -> GpuWatch:
    """The watch over the GPUs, which begins when one is used."""

    def opened() -> Source:
        from runtime.gpu.telemetry import open_telemetry  # noqa: PLC0415 - only a box with a GPU pays for it

        return open_telemetry(config.gpu.devices)

    gpus = GpuWatch(opened, lambda: bool(current.standings()), clock)
    life.push_async_callback(asyncio.to_thread, gpus.close)
    return gpus


def show_metrics(parts: Parts, inference: Transport) -> MetricsServer:
    """Let the metrics read what stands at the moment, and serve them."""
    metrics, recorder, table = parts.metrics, parts.recording.recorder, parts.table
    metrics.commits, metrics.audit_queue = recorder.commits, lambda: recorder.queued
    metrics.queued, metrics.standings = table.queued, table.standings
    metrics.certificates = parts.certificates.shown
    metrics.checkpoints_blocked = lambda: parts.recording.publisher.blocked
    metrics.payloads = parts.recording.payloads.counts
    metrics.gpus, metrics.gpu_owners = parts.gpus.newest, current.standings
    metrics.bytes_free = lambda: parts.storage.bytes_free
    metrics.audit_bytes = partial(bytes_used, parts.config.state.audit_log)
    metrics.calls, metrics.calls_refused = lambda: inference.in_flight, lambda: inference.refused
    return serve_metrics(metrics, parts.config.metrics.address)


def control_service(parts: Parts, addresses: Addresses) -> ControlService:
    """What answers on the control socket."""
    return ControlService(
        addresses=addresses,
        clock=parts.clock,
        store=parts.store,
        table=parts.table,
        controlplane=parts.controlplane,
        dataplane=parts.dataplane,
        recorder=parts.recording.recorder,
        metrics=parts.metrics,
        certificates=parts.certificates,
        payloads=parts.recording.payloads,
        feedback=parts.recording.feedback,
        sign_over=parts.recording.evidence.sign_over,
    )


def inference_methods(parts: Parts, health: Health) -> Methods:
    """What the inference service answers: inferences, all else of the protocol, health and reflection."""
    config, loop = parts.config, asyncio.get_running_loop()
    names = [service.full_name for service in (SERVICE, EVIDENCE, WITNESS)]
    regions = Regions(config.shared_memory, share=current.share)
    infer = InferCalls(parts.dataplane, regions if regions.allowed else None)
    answers = calls(
        config=config,
        store=parts.store,
        table=parts.table,
        dataplane=parts.dataplane,
        controlplane=parts.controlplane,
        metrics=parts.metrics,
        regions=regions,
        traces=parts.traces,
        inferring=INFERRING,
    )
    return {
        **while_standing({**health.methods(), **reflection_methods(names)}, parts.door.refused),
        **{
            path: on_loop(parts.door.guarded(path, call.answer), call.request, loop)
            for path, call in answers.items()
        },
        **infer.methods(),
        **parts.recording.evidence.methods(),
        **FeedbackCall(parts.recording.feedback).methods(),
    }


def _loaded(config: Config, stored: StoredVersion, tuning: Tuning | None) -> Sequence[Servable]:
    """Load a version, proven and warm, for each lane that its model has."""
    engine = engine_of(config, stored, tuning)
    sizes = batching_of(config.batching, stored, tuning).bucket_rows
    lanes = load_lanes(stored, threads=engine.threads, lanes=engine.lanes, sizes=sizes)
    warm_with_payloads(lanes, stored, config)
    return lanes
