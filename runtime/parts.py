"""The parts of the serving process, and how they are joined.

Knows: which part needs which, and what is answered where. Rules: whatever is opened here is closed by the
life that it is given, in reverse order. Leaves to others: when (`runtime.server`), and the work itself.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from appliance import journal
from appliance.audit.capacity import bytes_used
from appliance.audit.log import AuditLog
from appliance.audit.record import Boot, Erased, Stop
from appliance.clock import SystemClock
from appliance.config import Config
from appliance.deployment import Tuning, tuned
from appliance.errors import AccessError
from appliance.payloads import PayloadWriter
from appliance.store import Store, StoredVersion
from appliance.version import release
from runtime.access import Door, Principal, check_access, open_door
from runtime.boxkey import open_with_key
from runtime.certificates import Certificates
from runtime.checkpoints import open_publisher
from runtime.codec import Call
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.evidence import refusal
from runtime.feedback import FeedbackTaker
from runtime.lanes import load_lanes
from runtime.metrics import Metrics, MetricsServer, serve_metrics
from runtime.omissions import Omissions
from runtime.payloads import PayloadKeeper
from runtime.recorder import Recorder, unheard
from runtime.regions import Regions
from runtime.replaying import warm_with_payloads
from runtime.servable import Servable
from runtime.services.control import Addresses, ControlService
from runtime.services.evidence import EVIDENCE, WITNESS, EvidenceService, open_evidence
from runtime.services.feedback import FeedbackCall
from runtime.services.infer import INFERRING, InferCalls, new_id
from runtime.services.protocol import SERVICE, calls
from runtime.storage import StorageWatch
from runtime.swap import ServedTable
from runtime.tending import Tending
from runtime.traces import Traces, open_traces
from runtime.transport import Health, Methods, Transport, on_loop, reflection_methods


class Parts(NamedTuple):
    """What the server is made of, but for the wire."""

    config: Config
    clock: SystemClock
    certificates: Certificates
    door: Door
    store: Store
    metrics: Metrics
    traces: Traces
    recorder: Recorder
    table: ServedTable
    controlplane: ControlPlane
    dataplane: DataPlane
    payloads: PayloadKeeper
    storage: StorageWatch
    feedback: FeedbackTaker
    evidence: EvidenceService


async def open_parts(config: Config, life: AsyncExitStack) -> Parts:
    """Everything behind the wire, with an open log and nothing loaded yet."""
    journal.event("runtime.starting", release=release(), config_sha256=config.digest)
    clock, store, metrics = SystemClock(), Store(config.state.store), Metrics()
    check_access(config, clock)
    certificates = Certificates(config.server.tls, clock)
    life.callback(asyncio.create_task(certificates.keep_looking()).cancel)
    traces = open_traces(config.traces, service=config.server.name)
    life.push_async_callback(asyncio.to_thread, traces.close)
    publisher = open_publisher(config, clock, life)  # its last act follows the log's own
    recorder, omissions = await _open_recorder(config, clock, life)
    life.callback(asyncio.create_task(publisher.keep_publishing()).cancel)
    evidence = open_evidence(config, clock, recorder, life)
    payloads = await _open_payloads(config, clock, recorder, life)
    feedback = FeedbackTaker(config.state.audit_log, recorder)
    life.push_async_callback(asyncio.to_thread, feedback.close)
    table = ServedTable(
        store,
        partial(_loaded, config),
        config.batching,
        clock,
        drain_seconds=config.server.drain_seconds,
        sequences=config.sequences,
    )
    life.push_async_callback(table.close)
    controlplane = ControlPlane(
        store=store, table=table, recorder=recorder, new_id=lambda: uuid.uuid4().hex
    )
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
        keeper=payloads,
        kept_out=partial(_note_kept_out, door),
    )
    storage = StorageWatch(
        config.storage,
        config.state,
        dataplane=dataplane,
        omissions=omissions,
        payloads=payloads,
    )
    storage.begin()
    life.callback(storage.close)
    life.callback(asyncio.create_task(storage.keep_looking()).cancel)
    return Parts(
        config,
        clock,
        certificates,
        door,
        store,
        metrics,
        traces,
        recorder,
        table,
        controlplane,
        dataplane,
        payloads,
        storage,
        feedback,
        evidence,
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
    told = refusal(call, principal=principal.name, version=0, code=error.code, message=str(error))
    door.note(told)


def show_metrics(parts: Parts, inference: Transport) -> MetricsServer:
    """Let the metrics read what stands at the moment, and serve them."""
    metrics, recorder, table = parts.metrics, parts.recorder, parts.table
    metrics.commits, metrics.audit_queue = recorder.commits, lambda: recorder.queued
    metrics.queued, metrics.standings = table.queued, table.standings
    metrics.certificates = parts.certificates.shown
    metrics.payloads = parts.payloads.counts
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
        recorder=parts.recorder,
        metrics=parts.metrics,
        certificates=parts.certificates,
        payloads=parts.payloads,
        feedback=parts.feedback,
    )


def inference_methods(parts: Parts, health: Health) -> Methods:
    """What the inference service answers: inferences, all else of the protocol, health and reflection."""
    config, loop = parts.config, asyncio.get_running_loop()
    regions = Regions(config.shared_memory)
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
        **health.methods(),
        **reflection_methods([service.full_name for service in (SERVICE, EVIDENCE, WITNESS)]),
        **{
            path: on_loop(parts.door.guarded(path, call.answer), call.request, loop)
            for path, call in answers.items()
        },
        **infer.methods(),
        **parts.evidence.methods(),
        **FeedbackCall(parts.feedback).methods(),
    }


async def _open_recorder(
    config: Config, clock: SystemClock, life: AsyncExitStack
) -> tuple[Recorder, Omissions]:
    """Open the audit log and record this boot; its stop is the last record that life writes."""
    opening = partial(
        AuditLog.open,
        config.state.audit_log,
        clock=clock,
        checkpoint_records=config.audit.checkpoint_records,
        checkpoint_seconds=config.audit.checkpoint_seconds,
    )
    log = open_with_key(config.state, lambda key: opening(key=key))
    life.callback(log.close)
    omissions = Omissions(
        clock,
        singly=config.audit.refusals_singly,
        gaps=config.storage.when_full == "gap",
    )
    recorder = Recorder(
        log,
        queue_records_max=config.audit.queue_records_max,
        omissions=omissions,
        tend=Tending(log, config.audit, config.state, clock),
    )
    life.push_async_callback(asyncio.to_thread, recorder.close)
    boot = Boot(release=release(), config_sha256=config.digest)
    await recorder.appended(lambda: boot)
    life.push_async_callback(recorder.appended, lambda: Stop(reason="the runtime was stopped"))
    return recorder, omissions


async def _open_payloads(
    config: Config, clock: SystemClock, recorder: Recorder, life: AsyncExitStack
) -> PayloadKeeper:
    """Open the payloads; what is erased for its age or the budget is recorded, and nobody waits for that."""

    def record(erased: Erased) -> None:
        recorder.append(lambda: erased, unheard)

    writer = await asyncio.to_thread(PayloadWriter.open, config.state.payloads)
    keeper = PayloadKeeper(writer, config.payloads, clock, record)
    life.push_async_callback(asyncio.to_thread, keeper.close)
    return keeper


def _loaded(config: Config, stored: StoredVersion, tuning: Tuning | None) -> Sequence[Servable]:
    """Load a version, proven and warm, for each lane that its model has."""
    model = stored.record.model
    engine = tuned(config.engine_of(model), tuning)
    sizes = tuned(config.batching.of(model), tuning).bucket_rows
    lanes = load_lanes(stored, threads=engine.threads, lanes=engine.lanes, sizes=sizes)
    warm_with_payloads(lanes, stored, config)
    return lanes
