"""Which requests are traced: the protocol's trace settings, for all models or for one.

Knows: level, rate and count of each scope, and what was sampled so far. Rules: off unless asked for, and then
one look at `on`; a model without settings of its own shares those of all; a trace is one line of the
journal, without payloads. Leaves to others: what a client may set (`runtime.services.settings`), taking the
times (`runtime.dataplane`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from appliance import journal

NO_LIMIT = -1


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

    def __init__(self) -> None:
        self._scopes = {"": _Scope()}
        self._lock = Lock()
        self.on = False

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
            self.on = any(self._all(scope).timestamps for scope in self._scopes.values())
            return self._left(self._scope(model))

    def sample(self, model: str) -> bool:
        """Whether this request of `model` is to be traced; asked once a request, when `on`."""
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
