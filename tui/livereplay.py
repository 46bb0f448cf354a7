"""Recorded requests run again with any version: from a box's payloads and its log to a report.

Knows: which payloads, what was answered then, when an answer is the same. Rules: reads only, and serves nothing, so
the runtime need not be up; an answer too large for the log is made again by the version that gave it, and
believed only when its digest is the recorded one. Leaves to others: answering (`runtime.replaying`), how
outputs agree (`tui.agreement`), printing.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from appliance.audit.kinds import Failure, Inference
from appliance.audit.payload import Tensor, digest
from appliance.audit.reader import AuditReader
from appliance.clock import timestamp
from appliance.config import Config
from appliance.errors import ApplianceError, PayloadGone
from appliance.payloads import ALWAYS_NS, Payload, PayloadReader
from runtime.replaying import Replaying, Steps, record_of
from tui.agreement import OutputAgreement, Outputs

Progress = Callable[[int, int], None]
EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What `version` answers to `requests` that were recorded, beside what was answered then.

    `identical` answers have the same bytes; `unread` differ in answers that nothing holds any more. `failed`
    counts by code the requests that had an answer and get an error now, `mended` those of the other way round,
    `still_failed` both. `lost` payloads have no record that names them;
    `cut_off` are steps of sequences whose steps before were not kept. `differing` are ids of requests whose
    answers differ or that fail, the first few. Times are RFC 3339 UTC, "" without a request.
    """

    model: str
    version: int
    requests: int
    identical: int
    unread: int
    failed: dict[str, int]
    mended: int
    still_failed: int
    lost: int
    cut_off: int
    first_time: str
    last_time: str
    outputs: tuple[OutputAgreement, ...]
    differing: tuple[str, ...]


def replay(
    config: Config,
    model: str,
    version: int,
    *,
    since_ns: int = 0,
    until_ns: int = ALWAYS_NS,
    requests: int,
    progress: Progress = lambda _done, _total: None,
) -> ReplayReport:
    """Run the last `requests` payloads of a model with since <= time < until through a version.

    Raises PayloadGone when there are none, StateError, PayloadBroken, AuditError, and as `Replaying.load`.
    """
    with ExitStack() as life:
        payloads = life.enter_context(PayloadReader(config.state.payloads))
        total = min(payloads.count(model, since_ns=since_ns, until_ns=until_ns), requests)
        log = life.enter_context(AuditReader(config.state.audit_log))
        if not total:
            raise PayloadGone(
                f"nothing is kept of the inputs of model '{model}' in that time",
                remedy="let [payloads] keep some, or ask for another time",
            )
        run = _Run(config, life.enter_context(Replaying.load(config, model, version)), log, life)
        within = payloads.each(model, since_ns=since_ns, until_ns=until_ns, last=requests)
        for payload in within:
            run.take(payload)
            progress(run.requests, total)
    return run.report()


class _Run:
    """What was found so far."""

    def __init__(
        self, config: Config, replaying: Replaying, log: AuditReader, life: ExitStack
    ) -> None:
        self._config, self._replaying, self._log, self._life = config, replaying, log, life
        self._others: dict[int, Replaying | None] = {}
        self._outputs = Outputs()
        self._failed: Counter[str] = Counter()
        self._differing: list[str] = []
        self._times: list[int] = []
        self.requests = self._identical = self._unread = 0
        self._mended = self._still_failed = self._lost = self._cut_off = 0
        self._steps = Steps()

    def take(self, payload: Payload) -> None:
        """Answer one payload and compare."""
        self.requests += 1
        self._times = [*self._times[:1], payload.wall_ns]
        record = record_of(self._log, payload)
        answer = self._answer(payload, record)
        if record is None:
            self._lost += 1
        elif answer is None:
            self._cut_off += 1
        elif isinstance(record, Failure):
            self._mended += not isinstance(answer, ApplianceError)
            self._still_failed += isinstance(answer, ApplianceError)
        elif isinstance(answer, ApplianceError):
            self._failed[answer.code] += 1
            self._differs(payload)
        else:
            self._compare(payload, record, answer)

    def _answer(
        self, payload: Payload, record: Inference | Failure | None
    ) -> tuple[Tensor, ...] | ApplianceError | None:
        """What the version answers; None to a step of a sequence whose step before was not answered here."""
        replayed = self._steps.answer(record, partial(self._replaying.answer, payload))
        return None if replayed is None else replayed.outcome

    def report(self) -> ReplayReport:
        """All of it."""
        stored = self._replaying.stored
        return ReplayReport(
            model=stored.record.model,
            version=stored.number,
            requests=self.requests,
            identical=self._identical,
            unread=self._unread,
            failed=dict(sorted(self._failed.items())),
            mended=self._mended,
            still_failed=self._still_failed,
            lost=self._lost,
            cut_off=self._cut_off,
            first_time=timestamp(self._times[0]) if self._times else "",
            last_time=timestamp(self._times[-1]) if self._times else "",
            outputs=self._outputs.found(),
            differing=tuple(self._differing),
        )

    def _compare(self, payload: Payload, record: Inference, answer: tuple[Tensor, ...]) -> None:
        same = _digest(answer) == record.output_sha256
        self._identical += same
        if not same:
            self._differs(payload)
        then = answer if same else record.outputs or self._again(payload, record)
        if then:
            self._outputs.add(then, answer, rows=record.rows)
        else:
            self._unread += 1

    def _again(self, payload: Payload, record: Inference) -> tuple[Tensor, ...]:
        """The recorded answer, made again by the version that gave it; empty when that is not possible."""
        number = record.version
        if record.step:
            return ()  # that version would need every step before it
        if number not in self._others:
            try:
                loaded = Replaying.load(self._config, payload.model, number)
                self._others[number] = self._life.enter_context(loaded)
            except ApplianceError:
                self._others[number] = (
                    None  # it is gone, or fits this box no more: the report counts it
                )
        other = self._others[number]
        answer = () if other is None else other.answer(payload).outcome
        if isinstance(answer, ApplianceError) or _digest(answer) != record.output_sha256:
            return ()
        return answer

    def _differs(self, payload: Payload) -> None:
        if len(self._differing) < EXAMPLES_MAX:
            self._differing.append(payload.request_id)


def _digest(tensors: Iterable[Tensor]) -> str:
    return digest((t.name, t.datatype, t.shape, t.data) for t in tensors)
