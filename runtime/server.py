"""The life of the serving process.

Knows: the order in which its parts start and stop. Rules: ready only when every port is bound and every
active version is warm; a stop drains within its limit and leaves a closed log. Leaves to others: what there
is to start (`runtime.parts`), and all the work.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import NamedTuple

from appliance import journal
from appliance.audit.reader import AuditReader
from appliance.config import Config, use_kernel_cache
from appliance.exits import OK
from appliance.files import make_directory
from runtime.access import Door
from runtime.background import at_work
from runtime.controlplane import ControlPlane
from runtime.gpu import current
from runtime.health import SelfCheck
from runtime.notify import notify, watchdog_seconds
from runtime.parts import control_service, inference_methods, open_parts, show_metrics
from runtime.renewal import Renewal
from runtime.services.control import Addresses
from runtime.services.protocol import SERVICE
from runtime.swap import ServedTable
from runtime.transport import ControlTransport, Health, Transport, listen
from runtime.waiting import ended_before

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
    current.use(config.gpu)
    with asyncio.Runner() as runner:
        runner.run(serve(config))
        if at_work():  # everything is closed, but for a version still loading that nobody waits for
            os._exit(OK)


async def serve(config: Config) -> None:
    """Start, serve until SIGTERM or SIGINT, drain and stop; `life` stops the parts in reverse order.

    A second signal cuts the drain short.
    """
    asked = Asked()
    async with AsyncExitStack() as life:
        starting = asyncio.create_task(startup(config, life, asked))
        if await ended_before(starting, asked.stop):
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


class Running(NamedTuple):
    """What `main_loop` looks after."""

    wire: Transport
    held_seconds_max: float
    table: ServedTable
    health: Health
    door: Door
    self_check: SelfCheck
    renewal: Renewal


async def startup(config: Config, life: AsyncExitStack, asked: Asked) -> Running:
    """Open the log, bind, load what was last decided, and answer.

    Raises ConfigError, ListenError, StateError, KeyFileError or AuditError.
    """
    notify(f"EXTEND_TIMEOUT_USEC={START_SECONDS_MAX * 1_000_000}", "STATUS=starting")
    parts = await open_parts(config, life)
    control = ControlTransport(config.state.control_socket, config.access, parts.door.refused)
    life.push_async_callback(control.stop, STOP_SECONDS)
    inference, health = listen(config.server, parts.certificates), Health([SERVICE.full_name])
    life.push_async_callback(inference.stop, STOP_SECONDS)  # idle streams are cut, not waited for
    life.push_async_callback(parts.controlplane.settle)  # while who decided can still be answered
    drain = partial(parts.dataplane.drain, config.server.drain_seconds, asked.hurry)
    life.push_async_callback(_drain, health, drain)
    exposition = show_metrics(parts, inference)
    life.push_async_callback(asyncio.to_thread, exposition.close)
    await _resume(config, parts.controlplane)
    addresses = Addresses(inference=inference.address, metrics=exposition.address)
    await control.start(control_service(parts, addresses))
    inference.start(inference_methods(parts, health), parts.dataplane.settle, parts.door.admit)
    health.show_health(serving=parts.table.ready)
    return Running(
        wire=inference,
        held_seconds_max=config.batching.engine_seconds_max,
        table=parts.table,
        health=health,
        door=parts.door,
        self_check=SelfCheck(table=parts.table, metrics=parts.metrics, clock=parts.clock),
        renewal=Renewal(store=parts.store, table=parts.table, controlplane=parts.controlplane),
    )


async def main_loop(running: Running, stop: asyncio.Event) -> None:
    """Stay alive until `stop`: look after versions and tokens, and tell the watchdog so each time."""
    interval = min(watchdog_seconds() or CHECK_SECONDS, CHECK_SECONDS)
    renewing = asyncio.create_task(running.renewal.keep_looking())
    while not stop.is_set():
        running.table.check()
        running.door.look()
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


async def _resume(config: Config, controlplane: ControlPlane) -> None:
    """Return to the last completed decision of each model."""
    with AuditReader(config.state.audit_log) as reader:
        completed, interrupted = reader.last_outcomes(), reader.open_decisions()
    await controlplane.resume(completed, interrupted)


async def _drain(health: Health, drain: Callable[[], Awaitable[None]]) -> None:
    """Refuse new requests and let running ones end."""
    health.show_health(serving=False)
    await drain()
