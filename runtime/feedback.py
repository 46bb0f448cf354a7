"""True answers that come later, about requests that were answered here.

Knows: what may be told, and about whose requests. Rules: it is recorded beside the answer that it is about, under
the same request id; who may not see that answer is told of none. Leaves to others: the calls that
carry it (`runtime.services`), what the truth is compared with.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.audit.kinds import Feedback, Inference
from appliance.audit.payload import Tensor
from appliance.audit.reader import AuditReader
from appliance.errors import ApplianceError, RequestError, RequestLimit, UnknownRecord
from appliance.tensors import DataType
from runtime.client.tensors import array_from_raw
from runtime.recorder import Recorder

TRUTH_BYTES_MAX = 64 << 10
TENSORS_MAX = 16
NAME_CHARACTERS_MAX = 128
NOTE_CHARACTERS_MAX = 1000


class Told(NamedTuple):
    """Where feedback was recorded, and the version that had answered."""

    sequence: int
    model: str
    version: int


class FeedbackTaker:
    """Takes feedback; opens the log when the first comes."""

    def __init__(self, audit_log: Path, recorder: Recorder) -> None:
        self._path, self._recorder = audit_log, recorder
        self._log: AuditReader | None = None
        self._reading = threading.Lock()

    async def take(
        self,
        request_id: str,
        truth: Sequence[Tensor],
        note: str,
        *,
        principal: str,
        peer: str,
        sees: Callable[[Inference], bool],
    ) -> Told:
        """Record what `principal` at `peer` tells of a request, whose answer is one that `principal` `sees`.

        Raises UnknownRecord when there is no such answer, RequestError, RequestLimit, Overloaded, AuditError.
        """
        check_truth(truth, note)
        answer = await asyncio.to_thread(self._answer, request_id, sees)
        feedback = Feedback(
            request_id=request_id,
            model=answer.model,
            version=answer.version,
            principal=principal,
            peer=peer,
            truth=tuple(truth),
            note=note,
        )
        sequence = await self._recorder.appended(lambda: feedback)
        return Told(sequence, answer.model, answer.version)

    def close(self) -> None:
        """Close the log."""
        with self._reading:
            if self._log is not None:
                self._log.close()

    def _answer(self, request_id: str, sees: Callable[[Inference], bool]) -> Inference:
        """The newest answer that went to a client under this id."""
        unknown = UnknownRecord(
            f"you have no answered request '{request_id}' here",
            remedy="give the id of a request as its answer told it",
        )
        if not request_id:
            raise unknown
        with self._reading:
            if self._log is None:
                self._log = AuditReader(self._path)
            try:
                entries = self._log.show(request_id)
            except UnknownRecord:
                raise unknown from None
        for entry in reversed(entries):
            record = entry.record
            # Ids are the clients' choice: another's newer request of the same id hides nobody's own.
            if isinstance(record, Inference) and record.route != "shadow" and sees(record):
                return record
        raise unknown


def check_truth(truth: Sequence[Tensor], note: str) -> None:
    """Raise RequestError or RequestLimit unless this may be recorded."""
    if not truth and not note:
        raise RequestError("the feedback says nothing", remedy="give a true answer or a note")
    size = sum(len(tensor.data) for tensor in truth)
    if size > TRUTH_BYTES_MAX or len(truth) > TENSORS_MAX or len(note) > NOTE_CHARACTERS_MAX:
        raise RequestLimit(
            f"the feedback has {len(truth)} tensors of {size} bytes and a note of {len(note)} characters",
            remedy=f"give at most {TENSORS_MAX} of {TRUTH_BYTES_MAX} bytes together and "
            f"{NOTE_CHARACTERS_MAX} characters",
        )
    names = [tensor.name for tensor in truth]
    if len(set(names)) < len(names) or not all(0 < len(n) <= NAME_CHARACTERS_MAX for n in names):
        raise RequestError(
            "a true answer has no name, a long one, or one that another has too",
            remedy=f"give each a name of its own of at most {NAME_CHARACTERS_MAX} characters",
        )
    for tensor in truth:
        _check_data(tensor)


def tensor_from(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Tensor:
    """One true answer as it came. Raises RequestError on what the protocol does not have."""
    if datatype not in DataType.__members__.values() or any(length < 0 for length in shape):
        raise RequestError(
            f"'{name[:NAME_CHARACTERS_MAX]}' is no tensor of the protocol",
            remedy=f"give lengths from 0 and one of {', '.join(DataType)}",
        )
    return Tensor(name=name, datatype=DataType(datatype), shape=tuple(shape), data=data)


def _check_data(tensor: Tensor) -> None:
    try:
        array_from_raw(tensor.name, tensor.datatype, tensor.shape, tensor.data)
    except ApplianceError as error:
        raise RequestError(
            f"the data of '{tensor.name}' is no {tensor.datatype} of shape {[*tensor.shape]}",
            remedy="give it row-major and little-endian, texts behind their lengths",
        ) from error
