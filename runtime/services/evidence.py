"""The evidence and witness services: receipts and checkpoints of this box, cosignatures for others.

Knows: what a receipt is asked by. Rules: a servicer decodes, calls, encodes; a caller gets receipts of what it
may see and is told of no others; a record that no checkpoint covers yet has one signed, at most one a
second. Leaves to others: who sees what (`runtime.access`), receipts (`appliance.audit.receipt`), witnessing
(`appliance.audit.witness`).
"""

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import answer_among, receipt_of
from appliance.audit.record import Entry
from appliance.audit.witness import Witness
from appliance.clock import Clock
from appliance.config import Config, StateConfig
from appliance.errors import NotCovered, NotGranted, RequestError, UnknownRecord
from runtime.access import Principal
from runtime.protocol import evidence_pb2 as wire
from runtime.recorder import Recorder
from runtime.transport import Methods, on_loop
from runtime.witnessing import witness_for_others

EVIDENCE = wire.DESCRIPTOR.services_by_name["EvidenceService"]
WITNESS = wire.DESCRIPTOR.services_by_name["WitnessService"]
SIGN_SECONDS = 1.0
COVERED_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.02
_NS = 1_000_000_000


class EvidenceService:
    """Answers on the inference port; `witness` None: it cosigns for nobody.

    The log is read by a connection of this service's own, opened at the first question.
    """

    def __init__(
        self,
        *,
        state: StateConfig,
        recorder: Recorder,
        clock: Clock,
        witness: Witness | None,
    ) -> None:
        self._state = state
        self._recorder = recorder
        self._clock = clock
        self._witness = witness
        self._log: AuditReader | None = None
        self._reading = threading.Lock()
        self._signed_ns = clock.monotonic_ns() - int(SIGN_SECONDS * _NS)

    def methods(self) -> Methods:
        """Every call by full path."""
        loop = asyncio.get_running_loop()
        return {
            f"/{service.full_name}/{name}": on_loop(
                getattr(self, name), getattr(wire, method.input_type.name), loop
            )
            for service in (EVIDENCE, WITNESS)
            for name, method in service.methods_by_name.items()
            if hasattr(self, name)
        }

    def close(self) -> None:
        """Close the log."""
        with self._reading:
            if self._log is not None:
                self._log.close()

    async def Receipt(self, request: wire.ReceiptRequest, context: Any) -> wire.ReceiptReply:
        """The receipt of one record."""
        entry = await asyncio.to_thread(self._found, request, context.principal)
        await self.sign_over(entry.sequence)
        return wire.ReceiptReply(receipt=await asyncio.to_thread(self._receipt, entry.sequence))

    async def sign_over(self, sequence: int) -> int:
        """Wait for a checkpoint that covers record `sequence`, and have it signed; how many records it covers.

        Raises UnknownRecord when there is no such record yet, NotCovered when nothing was signed in time.
        """
        deadline_ns = self._clock.monotonic_ns() + int(COVERED_SECONDS_MAX * _NS)
        while True:
            try:
                return await asyncio.to_thread(self._covered, sequence)
            except NotCovered:
                if self._clock.monotonic_ns() >= deadline_ns:
                    raise
            self._have_signed()
            await asyncio.sleep(LOOK_SECONDS)

    async def Checkpoint(
        self, request: wire.CheckpointRequest, context: Any
    ) -> wire.CheckpointReply:
        """The newest checkpoint; with cosignatures when it is the one that witnesses cosigned."""
        return wire.CheckpointReply(note=await asyncio.to_thread(self._newest))

    async def AddCheckpoint(
        self, request: wire.AddCheckpointRequest, context: Any
    ) -> wire.AddCheckpointReply:
        """Cosign another box's checkpoint."""
        if self._witness is None:
            raise NotGranted(
                "this box is no witness", remedy="name the logs to witness in [witness] logs"
            )
        answer = await asyncio.to_thread(
            self._witness.add, request.old_size, list(request.proof), request.checkpoint
        )
        return wire.AddCheckpointReply(cosignature=answer.cosignature, size=answer.size)

    def _found(self, request: wire.ReceiptRequest, principal: Principal) -> Entry:
        asked = request.WhichOneof("record")
        if asked is None:
            raise RequestError("the request names no record", remedy="give request_id or sequence")
        unknown = UnknownRecord(
            f"you have no record {getattr(request, asked)} here",
            remedy="give the id of a request of your own, as the answer told it",
        )
        with self._reading:
            log = self._opened()
            try:
                entries = (
                    [log.at(request.sequence)]
                    if asked == "sequence"
                    else log.show(request.request_id)
                )
            except UnknownRecord:
                raise unknown from None
        own = [entry for entry in entries if principal.sees(entry.record)]
        if not own:
            raise unknown
        return answer_among(own)

    def _receipt(self, sequence: int) -> bytes:
        with self._reading:
            return receipt_of(
                self._opened(), sequence, cosigned=read_cosigned(self._state.cosigned)
            )

    def _covered(self, sequence: int) -> int:
        """The size of the first checkpoint that covers record `sequence`. Raises UnknownRecord, NotCovered."""
        with self._reading:
            log = self._opened()
            if sequence >= log.size():
                raise UnknownRecord(
                    f"the audit log has no record {sequence} yet",
                    remedy="see with `holdfast audit status` which records it holds",
                )
            note = log.checkpoint_from(sequence + 1)
        if note is None:
            raise NotCovered(
                f"no checkpoint covers record {sequence} yet, and none was signed in time",
                remedy="see in the journal whether the audit log can be written (`audit.unwritable`)",
            )
        return read_checkpoint(note).size

    def _newest(self) -> str:
        with self._reading:
            notes = self._opened().checkpoints()
        if not notes:
            raise NotCovered("there is no checkpoint yet", remedy="try again in a minute")
        cosigned = read_cosigned(self._state.cosigned)
        return cosigned if cosigned.startswith(notes[-1]) else notes[-1]

    def _have_signed(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._signed_ns >= SIGN_SECONDS * _NS:
            self._signed_ns = now_ns
            self._recorder.sign_soon()

    def _opened(self) -> AuditReader:
        if self._log is None:
            self._log = AuditReader(self._state.audit_log)
        return self._log


def open_evidence(
    config: Config, clock: Clock, recorder: Recorder, life: AsyncExitStack
) -> EvidenceService:
    """The service, a witness if [witness] names logs; `life` closes it. Raises KeyFileError, StateError."""
    service = EvidenceService(
        state=config.state,
        recorder=recorder,
        clock=clock,
        witness=witness_for_others(config, clock),
    )
    life.push_async_callback(asyncio.to_thread, service.close)
    return service


def read_cosigned(path: Path) -> str:
    """This box's newest cosigned checkpoint, "" when there is none."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
