"""Carries out one decision.

Knows: the order of a decision: allowed, recorded, carried out, outcome recorded. Rules: one decision at a
time; what the log says last as done is what boot returns to. Leaves to others: the rules
(`appliance.deployment`), loading and switching (`runtime.swap`).
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

from appliance import journal
from appliance.audit.record import AnyRecord, Decision, Outcome
from appliance.deployment import Act, Deployment, Retire, RollBack, act_name, apply
from appliance.errors import ApplianceError, DecisionError
from appliance.store import Store, StoredVersion
from runtime.recorder import Recorder
from runtime.swap import ServedTable


class ControlPlane:
    """The only way to change what is served. `new_id` makes an unused decision id."""

    def __init__(
        self, *, store: Store, table: ServedTable, recorder: Recorder, new_id: Callable[[], str]
    ) -> None:
        self._store = store
        self._table = table
        self._recorder = recorder
        self._new_id = new_id
        self._one_at_a_time = asyncio.Lock()

    async def decide(self, model: str, act: Act, *, actor: str, reason: str) -> str:
        """Record and carry out `act` and return the decision's id.

        Raises DecisionError, UnknownModel or UnknownVersion before anything is recorded; what kept
        the version from loading after the failed outcome is recorded; AuditUnwritable.
        """
        if not actor.strip() or not reason.strip():
            raise DecisionError(
                "a decision needs an actor and a reason", remedy="say who decides, and why"
            )
        async with self._one_at_a_time:
            return await self._carry_out(model, act, actor, reason)

    async def _carry_out(self, model: str, act: Act, actor: str, reason: str) -> str:
        before = self._table.deployment(model)
        after = apply(before, act)
        version = (after.active or 0) if isinstance(act, RollBack) else act.version
        stored = self._store.describe(model, version)
        if not isinstance(act, Retire):
            _check_proven(stored)
        decision = Decision(
            decision_id=self._new_id(),
            model=model,
            act=act_name(act),
            version=version,
            actor=actor,
            reason=reason,
            before=before,
            after=after,
        )
        await self._record(decision)
        try:
            await self._table.move(after)
        except ApplianceError as error:
            await self._record(_outcome(decision, "failed", before, str(error)))
            journal.failure("decision.failed", error, model=model, act=decision.act)
            raise
        await self._record(_outcome(decision, "done", after, ""))
        journal.event("decision.done", model=model, act=decision.act, version=version, actor=actor)
        return decision.decision_id

    async def resume(
        self, completed: Mapping[str, Deployment], interrupted: Iterable[Decision]
    ) -> None:
        """At boot: record decisions that a stop interrupted, and load what was last completed.

        A model whose active version does not load stays unready and is journalled; the others serve.
        """
        for decision in interrupted:
            standing = completed.get(decision.model, Deployment(model=decision.model))
            await self._record(_outcome(decision, "interrupted", standing, "the runtime stopped"))
        for deployment in completed.values():
            try:
                await self._table.move(deployment)
            except ApplianceError as error:
                self._table.assume(deployment)
                journal.failure("model.unready", error, model=deployment.model)

    async def _record(self, record: AnyRecord) -> None:
        await self._recorder.append(partial(_itself, record))


def _check_proven(stored: StoredVersion) -> None:
    """Raise DecisionError when the version's own record says that it missed a threshold (law 3)."""
    for reached in stored.record.proof.reached:
        wanted = reached.threshold
        if reached.value < wanted.minimum:
            raise DecisionError(
                f"version {stored.number} of '{stored.record.model}' reached {wanted.metric} "
                f"{reached.value:.4f} on '{wanted.output}', {wanted.minimum} is required",
                remedy="build a version that reaches its acceptance thresholds",
            )


def _itself(record: AnyRecord) -> AnyRecord:
    return record


def _outcome(
    decision: Decision,
    result: Literal["done", "failed", "interrupted"],
    deployment: Deployment,
    message: str,
) -> Outcome:
    return Outcome(
        decision_id=decision.decision_id,
        model=decision.model,
        result=result,
        message=message,
        deployment=deployment,
    )
