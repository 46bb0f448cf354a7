"""Which requests are traced, and what is told of one.

Knows: the protocol's trace settings (level, rate and count, for all models or for one) and what was sampled
so far; the share of requests that become OpenTelemetry spans. Rules: off unless asked for, and then one look
at `on`; a request is traced after its reply has left, from times that are taken anyway; a model without
settings of its own shares those of all; no payloads. Leaves to others: what a client may set
(`runtime.services.settings`), taking the times (`runtime.answering`), sending spans (`spans`).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from threading import Lock
from typing import Any, Protocol, TypeAlias

import msgspec

from appliance import journal
from appliance.config import TracesConfig

NO_LIMIT = -1
# The moments of a traced request in the journal, by Triton's names.
MARKS = (
    "REQUEST_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
)
# Where a caller's metadata names the trace that its request belongs to (W3C Trace Context).
CALLER_KEY = "traceparent"
SECOND_NS = 10**9
# The limit of a second is kept in parts of it, so that no burst of spans holds anybody up.
PARTS_OF_SECOND = 10

# As `runtime.transport.Metadata`.
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request that has ended, and when each part of it was over.

    `version` 0 and `route` "" when none was chosen; `code` is the error that it ended with, else "";
    `batch_rows` 0 when no answer came of it, and then the times of the parts are 0 too. `began_ns`,
    `made_ns` (the answer was there and its record was handed over), `recorded_ns` (that was durable) and
    `ended_ns` are on the monotonic clock, `wall_ns` is `ended_ns` since the Unix epoch; the others are
    durations. All in nanoseconds.
    """

    request_id: str
    model: str
    version: int
    route: str
    code: str
    began_ns: int
    ended_ns: int
    wall_ns: int
    rows: int = 0
    batch_rows: int = 0
    queue_ns: int = 0
    before_ns: int = 0
    compute_ns: int = 0
    after_ns: int = 0
    made_ns: int = 0
    recorded_ns: int = 0

    def parts(self) -> Mapping[str, tuple[int, int]]:
        """Begin and end of each part, on the monotonic clock; empty when no answer came of it."""
        if not self.batch_rows:
            return {}
        queued, prepared, computed, over = self._edges()
        return {
            "queue": (self.began_ns, queued),
            "before": (queued, prepared),
            "engine": (prepared, computed),
            "after": (computed, over),
            "record": (self.made_ns, self.recorded_ns),
        }

    def marks(self) -> dict[str, int]:
        """MARKS and when they were, on the monotonic clock."""
        return dict(zip(MARKS, (self.began_ns, *self._edges(), self.ended_ns), strict=True))

    def _edges(self) -> tuple[int, ...]:
        """When it left the queue, was prepared, computed, and through."""
        parts = (self.queue_ns, self.before_ns, self.compute_ns, self.after_ns)
        return tuple(accumulate(parts, initial=self.began_ns))[1:]


class Export(Protocol):
    """Where spans go, as `spans.Spans`."""

    def asked(self, metadata: Metadata) -> bool:
        """Whether the trace that the caller's metadata names is being recorded."""

    def write(self, trace: Trace, metadata: Metadata) -> None:
        """Send one request's spans, some time; never waits."""

    def close(self) -> None:
        """Send what waits, within seconds; blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """What is traced: `timestamps` of one in `rate` requests, `count` more of them (NO_LIMIT: any)."""

    timestamps: bool = False
    rate: int = 1000
    count: int = NO_LIMIT


DEFAULTS = TraceSettings()  # those of Triton


@dataclass(slots=True)
class _Scope:
    """What a scope sets for itself, by field of TraceSettings, and what it has seen and sampled."""

    own: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    sampled: int = 0


class Traces:
    """The settings of all models ("") and of single ones. Every method may be called from any thread."""

    def __init__(self, export: Export | None = None, config: TracesConfig | None = None) -> None:
        """`export` None: no spans. `config` says of which requests there are some."""
        config = config or TracesConfig()
        self._export = export
        self._share = config.share_per_mille / 1000
        second_max = config.requests_per_second_max
        self._part_max = max(second_max // PARTS_OF_SECOND, 1)
        self._part_ns = SECOND_NS * self._part_max // second_max
        self._part_ends_ns = self._part_sent = 0
        self._scopes = {"": _Scope()}
        self._lock = Lock()
        self._timed = False
        self.on = export is not None

    def settings(self, model: str) -> TraceSettings:
        """What holds for `model`, "" for all; `count` is what is left of it."""
        with self._lock:
            return self._left(self._scope(model))

    def change(self, model: str, changes: Mapping[str, int | None]) -> TraceSettings:
        """Set fields of TraceSettings for `model`, "" for all; None clears one, so that others' holds.

        Sampling starts anew. Returns what holds now.
        """
        with self._lock:
            own = dict(self._scopes[model].own if model in self._scopes else {})
            for name, value in changes.items():
                own.pop(name, None)
                if value is not None:
                    own[name] = value
            if own or not model:
                self._scopes[model] = _Scope(own)
            else:
                self._scopes.pop(model, None)
            self._timed = any(self._all(scope).timestamps for scope in self._scopes.values())
            self.on = self._timed or self._export is not None
            return self._left(self._scope(model))

    def ended(self, model: str, metadata: Metadata, now_ns: int, told: Callable[[], Trace]) -> None:
        """Trace a request of `model` that has ended, if it is one of those; asked once a request, when `on`.

        `metadata` is the caller's, `now_ns` on the monotonic clock; `told` tells all else and is asked
        only when it is traced.
        """
        spans = self._export is not None and self._spans(self._export, metadata, now_ns)
        timed = self._timed and self.sample(model)
        if not timed and not spans:
            return
        trace = told()
        if spans and self._export is not None:
            self._export.write(trace, metadata)
        if timed and trace.batch_rows:
            self.write(
                request_id=trace.request_id,
                model=trace.model,
                version=trace.version,
                timestamps=trace.marks(),
            )

    def sample(self, model: str) -> bool:
        """Whether this request of `model` is to be journalled with its times."""
        with self._lock:
            scope = self._scope(model)
            settings = self._all(scope)
            if not settings.timestamps or settings.count == scope.sampled:
                return False
            scope.seen += 1
            if scope.seen % settings.rate:
                return False
            scope.sampled += 1
            return True

    def write(
        self, *, request_id: str, model: str, version: int, timestamps: Mapping[str, int]
    ) -> None:
        """Note one traced request: `timestamps` by name, in nanoseconds of one clock."""
        journal.event(
            "request.traced",
            request_id=request_id,
            model=model,
            version=version,
            timestamps=dict(timestamps),
        )

    def close(self) -> None:
        """Send the spans that wait, within seconds; blocks."""
        if self._export is not None:
            self._export.close()

    def _spans(self, export: Export, metadata: Metadata, now_ns: int) -> bool:
        """Whether a request becomes spans: as its caller says, else by chance; while there is room."""
        if any(key == CALLER_KEY for key, _ in metadata):
            wanted = export.asked(metadata)
        else:
            wanted = random.random() < self._share  # noqa: S311 - no secret hangs on it
        return wanted and self._room(now_ns)

    def _room(self, now_ns: int) -> bool:
        """Count one more that is sent in this part of the second, unless they are too many."""
        with self._lock:
            if now_ns >= self._part_ends_ns:
                self._part_ends_ns, self._part_sent = now_ns + self._part_ns, 0
            self._part_sent += 1
            return self._part_sent <= self._part_max

    def _scope(self, model: str) -> _Scope:
        return self._scopes.get(model) or self._scopes[""]

    def _all(self, scope: _Scope) -> TraceSettings:
        shared = self._scopes[""].own
        return replace(DEFAULTS, **{**shared, **scope.own})

    def _left(self, scope: _Scope) -> TraceSettings:
        settings = self._all(scope)
        if settings.count == NO_LIMIT:
            return settings
        return replace(settings, count=settings.count - scope.sampled)
