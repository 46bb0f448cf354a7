"""What a model's shadow says, recorded beside what was answered.

Knows: when a shadow computes: after the reply, and only while it has nothing else to do. Rules: nobody
waits for it; what comes of it is recorded with the route "shadow" under the request's own id, so that the
two answers can be compared; its failures are recorded too and reach no client. Leaves to others: comparing.
"""

from collections.abc import Mapping
from functools import partial

import msgspec

from appliance import journal
from appliance.clock import Clock
from appliance.errors import ApplianceError, Overloaded
from runtime.batching import Outcome
from runtime.checking import Checked, check_request
from runtime.codec import Head, raw_tensors
from runtime.evidence import Answered, failure_record
from runtime.loaded import Loaded
from runtime.recorder import Entry, Recorder, unheard
from runtime.router import Route
from runtime.swap import ServedTable


class Shadowing:
    """Lets shadows compute along; called on any thread."""

    def __init__(self, table: ServedTable, recorder: Recorder, clock: Clock) -> None:
        self._table, self._recorder, self._clock = table, recorder, clock

    def follow(self, answered: Answered, heads: Mapping[str, Head]) -> None:
        """Let the shadow of the model answer the same request, whose inputs are of `heads`; never raises."""
        shadow = self._table.hold_shadow(answered.call.model)
        if shadow is None:
            return
        if shadow.sequences is not None:
            # It would need every request from a sequence's start, and computes only when it has time.
            shadow.release()
            return
        try:
            checked = check_request(answered.call, heads, shadow.servable.interface)
            shadow.batcher.submit(
                answered.inputs,
                checked.rows,
                partial(self._computed, answered, shadow, checked, self._clock.monotonic_ns()),
                key=shadow.servable.batch_key(answered.inputs),
            )
        except Exception as error:  # noqa: BLE001 - a shadow's fault must reach nobody
            self._failed(answered, shadow, error)

    def _computed(
        self, answered: Answered, shadow: Loaded, checked: Checked, began_ns: int, outcome: Outcome
    ) -> None:
        if isinstance(outcome, ApplianceError):
            self._failed(answered, shadow, outcome)
            return
        try:
            labels = shadow.stored.manifest.recipe.labels
            followed = msgspec.structs.replace(
                answered,
                route=Route(shadow.stored.number, "shadow"),
                stored=shadow.stored,
                recipe_sha256=shadow.recipe_sha256,
                sent=raw_tensors(checked.wanted, outcome.answer.outputs, labels),
                served=outcome,
                total_ns=self._clock.monotonic_ns() - began_ns,
            )
        except Exception as error:  # noqa: BLE001 - as in follow
            self._failed(answered, shadow, error)
        else:
            self._record(shadow, followed.record, answered.call.request_id)

    def _failed(self, answered: Answered, shadow: Loaded, error: Exception) -> None:
        code = error.code if isinstance(error, ApplianceError) else "internal"
        if code == "internal":
            called = answered.call
            journal.failure(
                "shadow.crashed", error, model=called.model, request_id=called.request_id
            )
        entry = partial(
            failure_record,
            answered.call,
            principal=answered.principal,
            version=shadow.stored.number,
            code=code,
            message=f"as the shadow: {error}",
        )
        self._record(shadow, entry, answered.call.request_id)

    def _record(self, shadow: Loaded, entry: Entry, request_id: str) -> None:
        shadow.release()
        try:
            self._recorder.append(entry, unheard, request_id=request_id)
        except Overloaded:
            return  # a busy log has no room for what nobody waits for
