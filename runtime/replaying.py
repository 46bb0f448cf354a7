"""Recorded requests, run again (a door: `holdfast replay` answers them with any version).

Knows: how a kept payload becomes a request of a version, and what it answers. Rules: the version's own code
answers, as it would serve; a request that the version would refuse is refused here with the same error; nothing
is recorded and nothing served; a step of a sequence gets the states that the step before it left. Leaves to others:
which payloads (`appliance.payloads`), comparing (`tui`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

from appliance import journal
from appliance.audit.kinds import Failure, Inference
from appliance.audit.payload import Tensor
from appliance.audit.reader import AuditReader
from appliance.config import Config, use_kernel_cache
from appliance.errors import ApplianceError, UnknownRecord
from appliance.payloads import Payload, PayloadReader
from appliance.store import Store, StoredVersion
from appliance.tensors import Array
from runtime.checking import check_request
from runtime.client.tensors import array_from_raw
from runtime.codec import Call, Head, Requested, raw_tensors
from runtime.gpu import current
from runtime.servable import Inputs, Servable, load_proven
from runtime.stale import with_fitting_engine

SEQUENCES_MAX = 10_000  # whose states are in memory
WARM_SECONDS_MAX = 2.0  # of each lane: a swap is not to wait for a slow model's history


_NOTHING: Inputs = {}


class Replayed(NamedTuple):
    """The outputs that were asked for, or the error, and the states for the sequence's next step."""

    outcome: tuple[Tensor, ...] | ApplianceError
    states: Inputs = _NOTHING


class Replaying:
    """One version, loaded to answer payloads; a context manager. One thread at a time."""

    def __init__(self, stored: StoredVersion, servable: Servable) -> None:
        self.stored = stored
        self._servable = servable

    @classmethod
    def load(cls, config: Config, model: str, version: int) -> Self:
        """Load a version of the store as the runtime would.

        Raises UnknownModel, UnknownVersion, StoreError, EngineLoad, EngineError, RecipeError or GoldenMissed.
        """
        use_kernel_cache(config.state.kernel_cache)
        current.use(config.gpu)
        stored, _ = with_fitting_engine(Store(config.state.store).open(model, version))
        threads = config.engine_of(model).threads
        return cls(stored, load_proven(stored, threads=threads))

    def answer(self, payload: Payload, states: Inputs = _NOTHING) -> Replayed:
        """What the version answers, with the `states` that the step before left; without any a sequence begins."""
        return answered(self._servable, payload, self.stored.manifest.recipe.labels, states)

    def close(self) -> None:
        """Free the engine."""
        self._servable.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Steps:
    """The states that steps of sequences left, until the next step of the same caller's sequence."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], tuple[int, Inputs]] = {}

    def answer(
        self, record: Inference | Failure | None, answer: Callable[[Inputs], Replayed]
    ) -> Replayed | None:
        """What `answer` gives to the request of `record` with its states; None when the step before is not here."""
        if not isinstance(record, Inference) or not record.step:
            return answer(_NOTHING)
        name = (record.principal, record.sequence)
        step, states = self._left.pop(name, (0, _NOTHING))
        if record.step > 1 and step != record.step - 1:
            return None
        replayed = answer(states if record.step > 1 else _NOTHING)
        if not isinstance(replayed.outcome, ApplianceError):
            self._left[name] = (record.step, replayed.states)
            if len(self._left) > SEQUENCES_MAX:
                del self._left[next(iter(self._left))]
        return replayed


def record_of(log: AuditReader, payload: Payload) -> Inference | Failure | None:
    """The record that names `payload`, None when the log has none. Raises AuditError."""
    try:
        entries = log.show(payload.request_id)
    except UnknownRecord:
        return None
    for entry in entries:
        record = entry.record
        if isinstance(record, Inference | Failure) and record.payload_sha256 == payload.sha256:
            return record
    return None


def answered(
    servable: Servable, payload: Payload, labels: Sequence[str], states: Inputs = _NOTHING
) -> Replayed:
    """What `servable` answers to `payload`; the error that its request would get."""
    inputs = arrays_of(payload.inputs)
    heads = {tensor.name: Head(tensor.datatype, tensor.shape) for tensor in payload.inputs}
    try:
        checked = check_request(_call(payload), heads, servable.interface)
        outcome = servable.run([{**inputs, **states}])[0]
        if isinstance(outcome, ApplianceError):
            return Replayed(outcome)
        return Replayed(raw_tensors(checked.wanted, outcome.outputs, labels), outcome.states)
    except ApplianceError as error:
        return Replayed(error)


def arrays_of(tensors: Sequence[Tensor]) -> Mapping[str, Array]:
    """The tensors' arrays by name, read-only views; BYTES as objects of `bytes`."""
    return {t.name: array_from_raw(t.name, t.datatype, t.shape, t.data) for t in tensors}


def warm_with_payloads(
    servables: Sequence[Servable], stored: StoredVersion, config: Config
) -> None:
    """Run a version that is about to serve with its model's last payloads, on each of its lanes.

    What it answers goes nowhere: the shapes that clients really send are warm when it serves, and the journal
    says how many of their requests it would have refused. Payloads that cannot be read keep no version from
    serving.
    """
    model, count = stored.record.model, config.payloads.warm_requests
    try:
        with PayloadReader(config.state.payloads) as reader:
            payloads = reader.newest(model, count) if count else []
        records = _records(payloads, stored, config)
    except ApplianceError as error:
        journal.failure("version.replayed", error, model=model, version=stored.number)
        return
    if not payloads:
        return
    labels, failed = stored.manifest.recipe.labels, 0
    for number, servable in enumerate(servables):
        until, steps = time.monotonic() + WARM_SECONDS_MAX, Steps()
        for payload, record in zip(payloads, records, strict=True):
            answer = partial(answered, servable, payload, labels)
            # Of a sequence whose beginning was not kept, the step at hand begins one: its shapes are warm then.
            replayed = steps.answer(record, answer) or answer()
            failed += number == 0 and isinstance(replayed.outcome, ApplianceError)
            if time.monotonic() >= until:
                break
    journal.event(
        "version.replayed",
        model=model,
        version=stored.number,
        payloads=len(payloads),
        failed=failed,
    )


def _records(
    payloads: Sequence[Payload], stored: StoredVersion, config: Config
) -> Sequence[Inference | Failure | None]:
    """The records of `payloads` where the version has states, which the steps of a sequence pass on."""
    if not payloads or not stored.manifest.states:
        return [None] * len(payloads)
    with AuditReader(config.state.audit_log) as log:
        return [record_of(log, payload) for payload in payloads]


def _call(payload: Payload) -> Call:
    return Call(
        model=payload.model,
        version="",
        request_id=payload.request_id,
        sent_id=payload.request_id,
        peer="",
        outputs=tuple(Requested(output.name, output.classes) for output in payload.outputs),
        timeout_us=0,
        bytes=0,
    )
