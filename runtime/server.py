"""The life of the serving process.

Knows: the order in which its parts start and stop. Rules: ready only when every port is bound and every
active version is warm; a stop drains within its limit and leaves a closed log. Leaves to others: all the
work.
"""

import asyncio
import gc
import signal
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import NamedTuple

from appliance import journal
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import Boot, Stop
from appliance.clock import SystemClock
from appliance.config import Config, StateConfig, use_kernel_cache
from appliance.deployment import Tuning, tuned
from appliance.errors import AuditBroken
from appliance.files import make_directory
from appliance.signing import SigningKey
from appliance.store import Store, StoredVersion
from appliance.version import release
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.health import SelfCheck
from runtime.lanes import load_lanes
from runtime.metrics import Metrics, MetricsServer, serve_metrics
from runtime.notify import notify, watchdog_seconds
from runtime.recorder import Recorder
from runtime.regions import Regions
from runtime.renewal import Renewal
from runtime.servable import Servable
from runtime.services.control import Addresses, ControlService
from runtime.services.infer import INFERRING, InferCalls
from runtime.services.protocol import SERVICE, calls
from runtime.swap import ServedTable
from runtime.traces import Traces, open_traces
from runtime.transport import (
    ControlTransport,
    Health,
    Methods,
    Transport,
    listen,
    on_loop,
    reflection_methods,
)

# How long a call may still take once nothing of value is running.
STOP_SECONDS = 2.0
STATE_MODE = 0o750
# New objects between two garbage collections of the youngest; Python's own 700 come every few requests.
COLLECT_OBJECTS = 50_000
# How often versions are looked after.
CHECK_SECONDS = 1.0
# Longer than any model loads here; systemd waits this long for READY=1 instead of its own default.
START_SECONDS_MAX = 600


def run(config: Config) -> None:
    """Serve until told to stop. Raises the ApplianceError that kept it from starting."""
    journal.start_journal()
    make_directory(config.state.root, mode=STATE_MODE)
    use_kernel_cache(config.state.kernel_cache)
    asyncio.run(serve(config))


async def serve(config: Config) -> None:
    """Start, serve until SIGTERM or SIGINT, drain and stop; `life` stops the parts in reverse order.

    A second signal cuts the drain short.
    """
    asked = Asked()
    async with AsyncExitStack() as life:
        starting = asyncio.create_task(startup(config, life, asked))
        if await _first(starting, asked.stop):
            running = starting.result()
            _freeze_heap()
            notify("READY=1")
            journal.event("runtime.ready", address=running.wire.address)
            await main_loop(running, asked.stop)
        notify("STOPPING=1", "STATUS=draining")
        journal.event("runtime.draining")
    journal.event("runtime.stopped")


def _freeze_heap() -> None:
    """Keep what was made at the start out of garbage collections, and have them seldom.

    One stops every thread while it walks all modules, and finds nothing: requests are freed by their
    reference counts (tests/runtime/answering/test_leaving.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_OBJECTS)


class Asked:
    """What the signals asked for: the first one `stop`, the second one `hurry`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


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


class Running(NamedTuple):
    """What `main_loop` looks after."""

    wire: Transport
    held_seconds_max: float
    table: ServedTable
    health: Health
    self_check: SelfCheck
    renewal: Renewal


async def startup(config: Config, life: AsyncExitStack, asked: Asked) -> Running:
    """Open the log, bind, load what was last decided, and answer.

    Raises ConfigError, ListenError, StateError, KeyFileError or AuditError.
    """
    notify(f"EXTEND_TIMEOUT_USEC={START_SECONDS_MAX * 1_000_000}", "STATUS=starting")
    parts = await _open_parts(config, life)
    control = ControlTransport(config.state.control_socket)
    life.push_async_callback(control.stop, STOP_SECONDS)
    life.push_async_callback(parts.controlplane.settle)
    inference, health = listen(config.server), Health([SERVICE.full_name])
    drain = partial(parts.dataplane.drain, config.server.drain_seconds, asked.hurry)
    life.push_async_callback(_drain, inference, health, drain)
    exposition = _show_metrics(parts, inference)
    life.push_async_callback(asyncio.to_thread, exposition.close)
    await _resume(config, parts.controlplane)
    addresses = Addresses(inference=inference.address, metrics=exposition.address)
    await control.start(_control_service(parts, addresses))
    inference.start(_methods(parts, health))
    health.show_health(serving=parts.table.ready)
    return Running(
        wire=inference,
        held_seconds_max=config.batching.engine_seconds_max,
        table=parts.table,
        health=health,
        self_check=SelfCheck(table=parts.table, metrics=parts.metrics, clock=parts.clock),
        renewal=Renewal(store=parts.store, table=parts.table, controlplane=parts.controlplane),
    )


async def _open_parts(config: Config, life: AsyncExitStack) -> Parts:
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


def _show_metrics(parts: Parts, inference: Transport) -> MetricsServer:
    """Let the metrics read what stands at the moment, and serve them."""
    metrics, recorder, table = parts.metrics, parts.recorder, parts.table
    metrics.commits, metrics.audit_queue = recorder.commits, lambda: recorder.queued
    metrics.queued, metrics.standings = table.queued, table.standings
    metrics.calls, metrics.calls_refused = lambda: inference.in_flight, lambda: inference.refused
    return serve_metrics(metrics, parts.config.metrics.address)


def _control_service(parts: Parts, addresses: Addresses) -> ControlService:
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


def _methods(parts: Parts, health: Health) -> Methods:
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


async def main_loop(running: Running, stop: asyncio.Event) -> None:
    """Stay alive until `stop`: look after the versions, and tell the watchdog so each time."""
    interval = min(watchdog_seconds() or CHECK_SECONDS, CHECK_SECONDS)
    renewing = asyncio.create_task(running.renewal.keep_looking())
    while not stop.is_set():
        running.table.check()
        running.self_check.look()
        trouble = running.table.trouble
        running.health.show_health(serving=not trouble)
        notify(f"STATUS={trouble or f'serving on {running.wire.address}'}")
        # An engine call that hangs on the wire's own thread is for the service manager: no call is read.
        if running.wire.held_seconds <= running.held_seconds_max:
            notify("WATCHDOG=1")
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval)
    renewing.cancel()


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


async def _resume(config: Config, controlplane: ControlPlane) -> None:
    """Return to the last completed decision of each model."""
    with AuditReader(config.state.audit_log) as reader:
        completed, interrupted = reader.last_outcomes(), reader.open_decisions()
    await controlplane.resume(completed, interrupted)


def _loaded(config: Config, stored: StoredVersion, tuning: Tuning | None) -> Sequence[Servable]:
    """Load a version, proven and warm, for each lane that its model has."""
    model = stored.record.model
    engine = tuned(config.engine_of(model), tuning)
    sizes = tuned(config.batching.of(model), tuning).bucket_rows
    return load_lanes(stored, threads=engine.threads, lanes=engine.lanes, sizes=sizes)


async def _drain(
    inference: Transport, health: Health, drain: Callable[[], Awaitable[None]]
) -> None:
    """Refuse new requests, let running ones end, then cut what is left open.

    Idle streams are cut, not waited for.
    """
    health.show_health(serving=False)
    await drain()
    await inference.stop(STOP_SECONDS)


async def _first(starting: asyncio.Task[Running], stop: asyncio.Event) -> bool:
    """Whether `starting` ended before `stop` was asked for; it is cancelled otherwise."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        stopping.cancel()
        return True
    starting.cancel()
    await asyncio.wait({starting})
    return False
