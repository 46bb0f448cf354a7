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
from appliance.audit.log import AuditLog
from appliance.audit.record import Boot, Stop
from appliance.clock import SystemClock
from appliance.config import Config, StateConfig
from appliance.deployment import Tuning, tuned
from appliance.errors import AuditBroken
from appliance.signing import SigningKey
from appliance.store import Store, StoredVersion
from appliance.version import release
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.lanes import load_lanes
from runtime.metrics import Metrics, MetricsServer, serve_metrics
from runtime.recorder import Recorder
from runtime.regions import Regions
from runtime.servable import Servable
from runtime.services.control import Addresses, ControlService
from runtime.services.infer import INFERRING, InferCalls
from runtime.services.protocol import SERVICE, calls
from runtime.swap import ServedTable
from runtime.traces import Traces, open_traces
from runtime.transport import Health, Methods, Transport, on_loop, reflection_methods


class Parts(NamedTuple):
    """What the server is made of, but for the wire."""

    config: Config
    clock: SystemClock
    store: Store
    metrics: Metrics
    traces: Traces
    recorder: Recorder
    table: ServedTable
    controlplane: ControlPlane
    dataplane: DataPlane


async def open_parts(config: Config, life: AsyncExitStack) -> Parts:
    """Everything behind the wire, with an open log and nothing loaded yet."""
    journal.event("runtime.starting", release=release(), config_sha256=config.digest)
    clock, store, metrics = SystemClock(), Store(config.state.store), Metrics()
    traces = open_traces(config.traces, service=config.server.name)
    life.push_async_callback(asyncio.to_thread, traces.close)
    recorder = await _open_recorder(config, clock, life)
    table = ServedTable(
        store,
        partial(_loaded, config),
        config.batching,
        clock,
        drain_seconds=config.server.drain_seconds,
    )
    life.push_async_callback(table.close)
    controlplane = ControlPlane(
        store=store, table=table, recorder=recorder, new_id=lambda: uuid.uuid4().hex
    )
    dataplane = DataPlane(
        table=table,
        recorder=recorder,
        metrics=metrics,
        clock=clock,
        bytes_max=config.server.bytes_in_flight_max,
        awaited=config.audit.awaited,
        traces=traces,
    )
    return Parts(config, clock, store, metrics, traces, recorder, table, controlplane, dataplane)


def show_metrics(parts: Parts, inference: Transport) -> MetricsServer:
    """Let the metrics read what stands at the moment, and serve them."""
    metrics, recorder, table = parts.metrics, parts.recorder, parts.table
    metrics.commits, metrics.audit_queue = recorder.commits, lambda: recorder.queued
    metrics.queued, metrics.standings = table.queued, table.standings
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
    )


def inference_methods(parts: Parts, health: Health) -> Methods:
    """What the inference service answers: inferences, all else of the protocol, health and reflection."""
    config, loop = parts.config, asyncio.get_running_loop()
    regions = Regions(config.shared_memory)
    infer = InferCalls(
        parts.dataplane,
        regions if regions.allowed else None,
        identified=bool(config.server.tls.client_ca),
    )
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
        **reflection_methods([SERVICE.full_name]),
        **{path: on_loop(call.answer, call.request, loop) for path, call in answers.items()},
        **infer.methods(),
    }


async def _open_recorder(config: Config, clock: SystemClock, life: AsyncExitStack) -> Recorder:
    """Open the audit log and record this boot; its stop is the last record that life writes."""
    _check_log_is_there(config.state)
    log = AuditLog.open(
        config.state.audit_log,
        key=SigningKey.load_or_generate(config.state.box_key),
        clock=clock,
        checkpoint_records=config.audit.checkpoint_records,
        checkpoint_seconds=config.audit.checkpoint_seconds,
    )
    life.callback(log.close)
    recorder = Recorder(log, queue_records_max=config.audit.queue_records_max)
    life.push_async_callback(asyncio.to_thread, recorder.close)
    boot = Boot(release=release(), config_sha256=config.digest)
    await recorder.appended(lambda: boot)
    life.push_async_callback(recorder.appended, lambda: Stop(reason="the runtime was stopped"))
    return recorder


def _check_log_is_there(state: StateConfig) -> None:
    """Refuse to begin a second log under a key that signed one before: it would hide what is lost."""
    log = state.audit_log
    if state.box_key.exists() and not (log.exists() and log.stat().st_size):
        raise AuditBroken(
            f"the box has a key, but its audit log {log} is missing or empty",
            remedy="restore the log; to begin a new one, move keys/box.pem and box.pub away",
        )


def _loaded(config: Config, stored: StoredVersion, tuning: Tuning | None) -> Sequence[Servable]:
    """Load a version, proven and warm, for each lane that its model has."""
    model = stored.record.model
    engine = tuned(config.engine_of(model), tuning)
    sizes = tuned(config.batching.of(model), tuning).bucket_rows
    return load_lanes(stored, threads=engine.threads, lanes=engine.lanes, sizes=sizes)
