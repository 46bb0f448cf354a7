"""Whoever writes down what the box does, opened and joined.

Knows: the order in which they open and close. Rules: this boot is the log's first record of a run and its stop the
last; a checkpoint leaves the box after that one too. Leaves to others: what each of them does.
"""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from appliance.audit.kinds import Boot, Erased, Stop
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.payloads import PayloadWriter
from appliance.version import release
from runtime.boxkey import open_with_key
from runtime.checkpoints import Publisher, open_publisher
from runtime.feedback import FeedbackTaker
from runtime.omissions import Omissions
from runtime.payloads import PayloadKeeper
from runtime.recorder import Recorder
from runtime.services.evidence import EvidenceService, open_evidence
from runtime.tending import Tending


class Recording(NamedTuple):
    """Records and what is left out of them, checkpoints, payloads, feedback, and whoever shows evidence of it all."""

    recorder: Recorder
    omissions: Omissions
    publisher: Publisher
    payloads: PayloadKeeper
    feedback: FeedbackTaker
    evidence: EvidenceService


async def open_recording(config: Config, clock: Clock, life: AsyncExitStack) -> Recording:
    """Open them all and record this boot; `life` closes them. Raises as the log, its key and payloads do."""
    publisher = open_publisher(config, clock)
    async with AsyncExitStack() as log:
        recorder, omissions = await _open_recorder(config, clock, log)
        # Its last act follows the log's own; where the log did not open, it is another's to publish.
        life.push_async_callback(asyncio.to_thread, publisher.close)
        life.push_async_exit(log.pop_all())
    life.callback(asyncio.create_task(publisher.keep_publishing()).cancel)
    evidence = open_evidence(config, clock, recorder, life)
    payloads = await _open_payloads(config, clock, recorder, life)
    feedback = FeedbackTaker(config.state.audit_log, recorder)
    life.push_async_callback(asyncio.to_thread, feedback.close)
    return Recording(recorder, omissions, publisher, payloads, feedback, evidence)


async def _open_recorder(
    config: Config, clock: Clock, life: AsyncExitStack
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
    config: Config, clock: Clock, recorder: Recorder, life: AsyncExitStack
) -> PayloadKeeper:
    """Open the payloads; what is erased for its age or the budget is recorded, and nobody waits for that."""

    def record(erased: Erased) -> None:
        def told(result: int | ApplianceError) -> None:
            if isinstance(result, ApplianceError):
                keeper.record_later(erased)

        recorder.append(lambda: erased, told)

    writer = await asyncio.to_thread(PayloadWriter.open, config.state.payloads)
    keeper = PayloadKeeper(writer, config.payloads, clock, record)
    life.push_async_callback(asyncio.to_thread, keeper.close)
    return keeper
