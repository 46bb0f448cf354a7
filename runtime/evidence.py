"""What is written down of one answered or refused request.

Knows: how an answer becomes an audit record: digests, small outputs, drift vectors. Rules: `record` runs
on the recorder's thread, so its hashing holds up nobody. Leaves to others: when it is written
(`runtime.recorder`).
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np

from appliance.audit.kinds import Failure, Inference
from appliance.audit.payload import Tensor, digest, inline
from appliance.store import StoredVersion
from appliance.tensors import Interface
from runtime.batching import Served
from runtime.codec import REQUEST_ID_CHARACTERS_MAX, Call, raw_view
from runtime.router import Route
from runtime.servable import Inputs

MODEL_CHARACTERS_MAX = 128
PRINCIPAL_CHARACTERS_MAX = 256
MESSAGE_CHARACTERS_MAX = 1000


class Keeper(Protocol):
    """What keeps inputs (see `runtime.payloads`); called on the recorder's thread."""

    def answered(self, answered: "Answered") -> tuple[str, str]:
        """The plain and the salted digest that the record of an answer has."""

    def failed(self, call: Call, stored: StoredVersion, inputs: Inputs) -> str:
        """The salted digest that the record of a failure has."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything about one answer; times are nanoseconds. No dataclass, which takes ten times as long to make."""

    call: Call
    principal: str
    route: Route
    stored: StoredVersion
    recipe_sha256: str
    inputs: Inputs
    sent: tuple[Tensor, ...]
    served: Served
    total_ns: int
    keeper: Keeper | None = None

    def record(self) -> Inference:
        """The audit record of this answer; what is kept of its inputs goes to the keeper."""
        vectors = self.served.answer.vectors
        input_sha256, payload_sha256 = self._digests()
        return Inference(
            request_id=self.call.request_id,
            model=self.call.model,
            version=self.route.version,
            bundle_sha256=self.stored.record.bundle_sha256,
            engine_sha256=self.stored.record.engine.sha256,
            recipe_sha256=self.recipe_sha256,
            route=self.route.reason,
            principal=self.principal[:PRINCIPAL_CHARACTERS_MAX],
            peer=self.call.peer,
            rows=len(vectors),
            input_sha256=input_sha256,
            output_sha256=digest((t.name, t.datatype, t.shape, t.data) for t in self.sent),
            outputs=inline(self.sent),
            vector=np.ascontiguousarray(vectors, "<f4").tobytes(),
            queue_ns=self.served.queue_ns,
            compute_ns=self.served.compute_ns,
            total_ns=self.total_ns,
            sequence=self._sequence(),
            step=self.served.step,
            payload_sha256=payload_sha256,
        )

    def _sequence(self) -> str:
        """The id of the sequence that the answer was a step of, "" when of none."""
        sequence = self.call.sequence
        return f"{sequence.id}" if sequence is not None and self.served.step else ""

    def _digests(self) -> tuple[str, str]:
        """The inputs' plain digest, and the salted one of the payload that is kept ("": none is)."""
        if self.keeper is None:
            return inputs_digest(self.inputs, self.stored.manifest.served), ""
        return self.keeper.answered(self)


def failure_record(
    call: Call,
    *,
    principal: str,
    version: int,
    code: str,
    message: str,
    payload: Callable[[], str] | None = None,
) -> Failure:
    """The audit record of a request of `principal` that got an error; `version` 0 when none was chosen.

    `payload` has the inputs kept and gives their salted digest.
    Texts that a client can stretch are cut, so that refusals cannot fill the disk faster than answers.
    """
    return Failure(
        request_id=call.request_id[:REQUEST_ID_CHARACTERS_MAX],
        model=call.model[:MODEL_CHARACTERS_MAX],
        version=version,
        principal=principal[:PRINCIPAL_CHARACTERS_MAX],
        peer=call.peer,
        code=code,
        message=message[:MESSAGE_CHARACTERS_MAX],
        payload_sha256="" if payload is None else payload(),
    )


def inputs_digest(inputs: Inputs, interface: Interface) -> str:
    """The digest of a request's inputs as clients see them (see `appliance.audit.payload.digest`)."""
    specs = [spec for spec in interface.inputs if spec.name in inputs]
    return digest(
        (
            spec.name,
            spec.datatype,
            inputs[spec.name].shape,
            raw_view(inputs[spec.name], spec.datatype),
        )
        for spec in specs
    )
