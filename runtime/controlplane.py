"""Carries out one decision.

Knows: the order of a decision: allowed, recorded, carried out, outcome recorded. Rules: one decision at a
time; traffic moves only after the log says so, and what it says last as done is what boot returns to; no
version answers or computes along that is not proven. Leaves to others: the rules (`appliance.deployment`),
loading and switching (`runtime.swap`).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Literal

from appliance import journal
from appliance.audit.kinds import AnyRecord, Decision, Outcome
from appliance.deployment import (
    Act,
    Deployment,
    EndCanary,
    EndShadow,
    EndTuning,
    Retire,
    StartShadow,
    Withdraw,
    act_name,
    apply,
    subject,
)
from appliance.errors import ApplianceError, DecisionError, Draining
from appliance.store import Store, StoredVersion
from runtime.recorder import Recorder
from runtime.swap import ByVersion, ServedTable
from runtime.waiting import ended_before

ACTOR_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 2000
MESSAGE_CHARACTERS_MAX = 1000


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
        self._stopping = asyncio.Event()

    async def decide(
        self, model: str, act: Act, *, actor: str, reason: str, claimed: str = ""
    ) -> str:
        """Record and carry out `act` and return the decision's id.

        `actor` is who decides as the box knows it, `claimed` the name that they gave themselves, if another.
        The decision's version is the one that the act is about, whether it names it or its role.
        Raises DecisionError, UnknownModel or UnknownVersion before anything is recorded; what kept
        the version from loading after the failed outcome is recorded; Draining when the runtime stops
        before it is loaded; AuditUnwritable.
        """
        _check_words(actor, reason, claimed)
        async with self._one_at_a_time:
            if self._stopping.is_set():
                raise _stopping()
            return await self._carry_out(model, act, actor, reason, claimed)

    async def _carry_out(self, model: str, act: Act, actor: str, reason: str, claimed: str) -> str:
        before = self._table.deployment(model)
        after = apply(before, act)
        version = subject(before, act) or 0
        self._check_fit(model, version, act)
        decision = Decision(
            decision_id=self._new_id(),
            model=model,
            act=act_name(act),
            version=version,
            actor=actor,
            reason=reason,
            claimed=claimed,
            before=before,
            after=after,
        )
        await self._record(decision)
        try:
            about = None if _lets_go(act) else version
            fresh = await self._unless_stopping(self._table.prepare(after, about=about))
        except ApplianceError as error:
            await self._record(_undone(decision, error))
            journal.failure("decision.failed", error, model=model, act=decision.act)
            raise
        try:
            # Recorded first, switched second: a crash between the two boots into what the log says.
            await self._record(_outcome(decision, "done", after, ""))
        except ApplianceError:
            self._table.discard(fresh)
            raise
        self._table.switch(after, fresh)
        journal.event("decision.done", model=model, act=decision.act, version=version, actor=actor)
        return decision.decision_id

    async def settle(self) -> None:
        """Take no more decisions and wait until the running one has its outcome.

        It is interrupted if its version is still loading, which takes as long as it likes: what is loaded
        then is left to the end of the process.
        """
        self._stopping.set()
        async with self._one_at_a_time:
            pass

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
                fresh = await self._table.prepare(deployment, about=deployment.active)
                self._table.switch(deployment, fresh)
            except ApplianceError as error:
                self._table.assume(deployment)
                journal.failure("model.unready", error, model=deployment.model)

    async def renew(self, model: str, version: int) -> None:
        """Let a version that has a role take up the engine that was made anew for it; never raises.

        No decision: number, bundle and proof are the same, and every record names the engine.
        """
        async with self._one_at_a_time:
            if self._stopping.is_set() or (model, version) not in self._table.waiting_for_engine():
                return
            try:
                await self._table.renew(model, version)
            except ApplianceError as error:
                journal.failure("version.unrenewed", error, model=model, version=version)
            else:
                journal.event("version.renewed", model=model, version=version)

    def _check_fit(self, model: str, version: int, act: Act) -> None:
        """Raise UnknownVersion or DecisionError unless the version can be what `act` makes of it."""
        if _lets_go(act) or isinstance(act, EndTuning):
            return
        stored = self._store.describe(model, version)
        if not isinstance(act, Retire):
            _check_proven(stored)
        if isinstance(act, StartShadow) and stored.manifest.states:
            raise DecisionError(
                f"version {version} of '{model}' keeps states: as a shadow, which computes only when "
                "there is time, it would miss requests of its sequences",
                remedy="compare the versions on recorded data, or start a canary",
            )

    async def _unless_stopping(self, preparing: Coroutine[None, None, ByVersion]) -> ByVersion:
        """What `preparing` returns or raises; Draining once the runtime stops."""
        prepared = asyncio.create_task(preparing)
        if not await ended_before(prepared, self._stopping):
            raise _stopping()
        return prepared.result()

    async def _record(self, record: AnyRecord) -> None:
        await self._recorder.appended(lambda: record)


def _stopping() -> Draining:
    return Draining("the runtime is stopping", remedy="decide again when it is back")


def _lets_go(act: Act) -> bool:
    """Whether the act only ends something: possible also for a version that can no longer be read."""
    return isinstance(act, EndCanary | EndShadow | Withdraw)


def _check_words(actor: str, reason: str, claimed: str) -> None:
    if not actor.strip() or not reason.strip():
        raise DecisionError(
            "a decision needs an actor and a reason", remedy="say who decides, and why"
        )
    if max(len(actor), len(claimed)) > ACTOR_CHARACTERS_MAX or len(reason) > REASON_CHARACTERS_MAX:
        raise DecisionError(
            f"an actor has at most {ACTOR_CHARACTERS_MAX} characters, "
            f"a reason {REASON_CHARACTERS_MAX}",
            remedy="say it in fewer words",
        )


def _check_proven(stored: StoredVersion) -> None:
    """Raise DecisionError unless the version reached every threshold it was packed with (law 3)."""
    for wanted in stored.manifest.acceptance:
        found = [item for item in stored.record.proof.reached if item.threshold == wanted]
        missed = [item for item in found if not wanted.holds(item.value)]
        if found and not missed:
            continue
        of = f"{wanted.metric} of '{wanted.output}'"
        if not found:
            told = f"{of} was never measured"
        elif missed[0].segment is None:
            told = f"{of} reached {missed[0].value:.4f}, not what was agreed"
        else:
            told = (
                f"{of} reached {missed[0].value:.4f} for {wanted.segment} = {missed[0].segment}, "
                "not what was agreed"
            )
        raise DecisionError(
            f"version {stored.number} of '{stored.manifest.model}' is not proven: {told}",
            remedy="build a version that reaches its acceptance thresholds",
        )


def _undone(decision: Decision, error: ApplianceError) -> Outcome:
    result: Literal["failed", "interrupted"] = "failed"
    if isinstance(error, Draining):
        result = "interrupted"
    return _outcome(decision, result, decision.before, str(error))


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
        message=message[:MESSAGE_CHARACTERS_MAX],
        deployment=deployment,
    )
