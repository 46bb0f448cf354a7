"""The control service: what is served, and decisions that change it.

Knows: how roles and counters become messages. Rules: a servicer decodes, calls, encodes. Leaves to
others: deciding (`runtime.controlplane`), the rules of roles (`appliance.deployment`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.clock import Clock
from appliance.deployment import (
    Act,
    Activate,
    Deployment,
    EndCanary,
    EndShadow,
    EndTuning,
    PerMille,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Tune,
    Tuning,
    Withdraw,
)
from appliance.errors import ApplianceError, DecisionError
from appliance.store import Store, StoredVersion
from appliance.version import release
from runtime.access import caller_name
from runtime.certificates import Certificates
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.erasing import erase
from runtime.feedback import FeedbackTaker
from runtime.metrics import Metrics
from runtime.payloads import PayloadKeeper
from runtime.protocol import control_pb2 as wire
from runtime.protocol import control_pb2_grpc as stubs
from runtime.protocol import evidence_pb2 as evidence
from runtime.recorder import Recorder
from runtime.services.feedback import take
from runtime.services.gpus import gpus_told
from runtime.swap import ServedTable

INTERVAL_MS_MIN, INTERVAL_MS_MAX = 100, 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where this runtime answers; `metrics` is "" when off."""

    inference: str
    metrics: str


class ControlService(stubs.ControlServicer):
    """Reached over the Unix socket only."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        clock: Clock,
        store: Store,
        table: ServedTable,
        controlplane: ControlPlane,
        dataplane: DataPlane,
        recorder: Recorder,
        metrics: Metrics,
        certificates: Certificates,
        payloads: PayloadKeeper,
        feedback: FeedbackTaker,
        sign_over: Callable[[int], Awaitable[int]],
    ) -> None:
        """`sign_over` has a checkpoint signed that covers a record, and says how many it covers."""
        self._addresses = addresses
        self._clock = clock
        self._store = store
        self._table = table
        self._controlplane = controlplane
        self._dataplane = dataplane
        self._recorder = recorder
        self._metrics = metrics
        self._certificates = certificates
        self._payloads = payloads
        self._feedback = feedback
        self._sign_over = sign_over
        self._started_wall_ns = clock.wall_ns()

    async def List(self, request: wire.ListRequest, context: Any) -> wire.ListReply:
        """Every model in the store, or the one asked for, with its versions."""
        if request.model:
            deployments = [self._table.deployment(request.model)]
        else:
            deployments = self._table.deployments()
        return wire.ListReply(models=[self._model(deployment) for deployment in deployments])

    async def Decide(self, request: wire.DecideRequest, context: Any) -> wire.DecideReply:
        """Record and carry out one decision: of the account that asks, whatever name it gives itself."""
        actor = caller_name()
        # Shielded: an operator whose connection breaks must not leave a decision half carried out.
        decision_id = await asyncio.shield(
            self._controlplane.decide(
                request.model,
                act_from(request),
                actor=actor,
                reason=request.reason,
                claimed="" if request.actor == actor else request.actor,
            )
        )
        model = self._model(self._table.deployment(request.model))
        return wire.DecideReply(decision_id=decision_id, model=model)

    async def Status(self, request: wire.StatusRequest, context: Any) -> wire.StatusReply:
        """One look at the runtime."""
        return await self._status()

    async def Watch(
        self, request: wire.WatchRequest, context: Any
    ) -> AsyncIterator[wire.StatusReply]:
        """A status each interval; ends when the runtime drains."""
        interval_ms = min(max(request.interval_ms, INTERVAL_MS_MIN), INTERVAL_MS_MAX)
        while not self._dataplane.draining:
            yield await self._status()
            await asyncio.sleep(interval_ms / 1000)
        yield await self._status()

    async def Erase(self, request: wire.EraseRequest, context: Any) -> wire.EraseReply:
        """Erase what is kept of a request's inputs."""
        erasing = erase(
            self._payloads,
            self._recorder,
            request.request_id,
            by=caller_name(),
            reason=request.reason,
        )
        # Shielded: what is erased is recorded, also when the operator's connection breaks meanwhile.
        return wire.EraseReply(payloads=await asyncio.shield(erasing))

    async def Feedback(
        self, request: evidence.FeedbackRequest, context: Any
    ) -> evidence.FeedbackReply:
        """Record what was true of any client's request."""
        return await take(
            self._feedback, request, principal=caller_name(), peer=context.peer(), sees=_any
        )

    async def Sign(self, request: wire.SignRequest, context: Any) -> wire.SignReply:
        """Have a checkpoint signed that covers a record."""
        return wire.SignReply(size=await self._sign_over(request.sequence))

    async def _status(self) -> wire.StatusReply:
        # Their owners are asked, which takes as long as a GPU is busy.
        gpus = await asyncio.to_thread(
            lambda: gpus_told(self._metrics.gpu_owners(), self._metrics.gpus())
        )
        queued = self._table.queued()
        return wire.StatusReply(
            release=release(),
            address=self._addresses.inference,
            metrics_address=self._addresses.metrics,
            wall_ns=self._clock.wall_ns(),
            started_wall_ns=self._started_wall_ns,
            draining=self._dataplane.draining,
            audit_records=self._recorder.records,
            audit_queue=self._recorder.queued,
            audit_failure=self._recorder.failure,
            certificates=[
                wire.Certificate(**item._asdict()) for item in self._certificates.shown()
            ],
            certificates_failure=self._certificates.trouble,
            gpus=gpus,
            checkpoints_blocked=[
                wire.BlockedWay(way=way, trouble=str(error), code=error.code, remedy=error.remedy)
                for way, error in self._metrics.checkpoints_blocked().items()
            ],
            models=[self._model_status(item, queued) for item in self._table.deployments()],
        )

    def _model_status(self, deployment: Deployment, queued: Mapping[str, int]) -> wire.ModelStatus:
        counts = self._metrics.model(deployment.model)
        versions = counts.versions.values()
        return wire.ModelStatus(
            name=deployment.model,
            **_roles(deployment),
            answered=sum(version.success.count for version in versions),
            failed=counts.refused + sum(version.fail.count for version in versions),
            rows=sum(version.rows for version in versions),
            batches=round(sum(version.batches for version in versions)),
            queued=queued.get(deployment.model, 0),
            p50_ms=counts.latency_ms(0.5),
            p99_ms=counts.latency_ms(0.99),
        )

    def _model(self, deployment: Deployment) -> wire.Model:
        return wire.Model(
            name=deployment.model,
            **_roles(deployment),
            tuning=_wired(deployment.tuning),
            versions=[
                self._version(deployment, number)
                for number in self._store.versions(deployment.model)
            ],
        )

    def _version(self, deployment: Deployment, number: int) -> wire.Version:
        version = wire.Version(
            number=number,
            role=deployment.role(number),
            loaded=number in self._table.loaded(deployment.model),
        )
        try:
            _describe(version, self._store.describe(deployment.model, number))
        except ApplianceError as error:
            version.damage = str(error)
        loaded = self._table.stale(deployment.model, number)
        if loaded is not None:
            record, engine = loaded.stored.record, loaded.stored.record.engine
            version.engine, version.precision = engine.kind, engine.precision
            for trial in record.trials:
                if (trial.engine, trial.precision) == (engine.kind, engine.precision):
                    version.error_max = trial.error_max or 0.0
            version.warnings.insert(0, loaded.stale)
        return version


def act_from(request: wire.DecideRequest) -> Act:
    """The act a request names; DecisionError when there is no such act, or no such share."""
    version = request.version
    acts: dict[str, Callable[[], Act]] = {
        "activate": lambda: Activate(version=version),
        "start_canary": lambda: StartCanary(version=version, per_mille=_share(request.per_mille)),
        "end_canary": EndCanary,
        "promote": Promote,
        "start_shadow": lambda: StartShadow(version=version),
        "end_shadow": EndShadow,
        "roll_back": RollBack,
        "withdraw": Withdraw,
        "retire": lambda: Retire(version=version),
        "tune": lambda: Tune(tuning=_tuning(request.tuning)),
        "end_tuning": EndTuning,
    }
    if request.act not in acts:
        raise DecisionError(
            f"there is no act '{request.act}'", remedy=f"use one of {', '.join(acts)}"
        )
    return acts[request.act]()


def _share(per_mille: int) -> int:
    try:
        return msgspec.convert(per_mille, PerMille)
    except msgspec.ValidationError as error:
        raise DecisionError(
            f"a canary answers 1 to 999 thousandths of the requests, not {per_mille}",
            remedy="give such a share; for all requests, promote the canary",
        ) from error


def _tuning(setting: wire.Tuning) -> Tuning:
    told = {name: getattr(setting, name) for name in Tuning.__struct_fields__}
    try:
        return msgspec.convert(told | {"bucket_rows": list(setting.bucket_rows)}, Tuning)
    except msgspec.ValidationError as error:
        raise DecisionError(f"no such tuning: {error}", remedy="give its every value") from error


def _wired(tuning: Tuning | None) -> wire.Tuning | None:
    return wire.Tuning(**msgspec.structs.asdict(tuning)) if tuning else None


def _any(_: object) -> bool:
    """Whoever steers this box speaks of any request."""
    return True


def _roles(deployment: Deployment) -> dict[str, int]:
    """The roles as fields of Model and ModelStatus; 0 for none."""
    return {
        "active": deployment.active or 0,
        "canary": deployment.canary or 0,
        "canary_per_mille": deployment.canary_per_mille,
        "shadow": deployment.shadow or 0,
        "previous": deployment.previous or 0,
    }


def _describe(version: wire.Version, stored: StoredVersion) -> None:
    record = stored.record
    version.engine = record.engine.kind
    version.bundle_sha256 = record.bundle_sha256
    version.built = record.built
    version.release_notes = stored.manifest.release_notes
    version.edition = stored.manifest.edition or 0
    version.precision = record.engine.precision
    version.error_max = record.proof.error_max
    version.warnings.extend(record.warnings)
    for reached in record.proof.reached:
        version.thresholds.add(
            metric=reached.threshold.metric,
            output=reached.threshold.output,
            minimum=reached.threshold.minimum,
            maximum=reached.threshold.maximum,
            reached=reached.value,
            segment=reached.threshold.segment or "",
            segment_value=reached.segment or "",
            rows=reached.rows,
        )
    for trial in record.trials:
        version.trials.add(
            engine=trial.engine,
            precision=trial.precision,
            median_ms=trial.timings[0].median_ms if trial.timings else 0.0,
            verdict=trial.verdict,
        )
