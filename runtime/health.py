"""Whether the active versions still answer, asked of themselves.

Knows: the first golden row of each active version, and when one last answered anybody. Rules: a version
that nobody asked for a while answers its own row, through its own queue and engine; that leaves no record
and counts nowhere; one that cannot is failing until it answers again. Leaves to others: telling it
(`runtime.swap`: trouble; `runtime.server`), calls that hang (`runtime.batching`).
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from appliance import journal
from appliance.clock import Clock
from appliance.errors import ApplianceError, Draining, Overloaded
from runtime.batching import Outcome
from runtime.loaded import Loaded
from runtime.metrics import Metrics
from runtime.servable import Inputs, golden_of
from runtime.swap import ServedTable

SELF_CHECK_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class _Watched:
    """An active version: how many requests it had answered when somebody looked, and when it last answered."""

    loaded: Loaded
    answered: int
    well_ns: int
    row: Inputs | None = None
    asking: asyncio.Task[None] | None = None


class SelfCheck:
    """Asks silent versions; belongs to the event loop."""

    def __init__(
        self,
        *,
        table: ServedTable,
        metrics: Metrics,
        clock: Clock,
        seconds: float = SELF_CHECK_SECONDS,
    ) -> None:
        """A version is asked after `seconds` in which it answered nobody."""
        self._table, self._metrics, self._clock = table, metrics, clock
        self._silence_ns = int(seconds * 1e9)
        self._watched: dict[str, _Watched] = {}

    def look(self) -> None:
        """Ask each active version that was silent for long enough; to be called about every second."""
        now, active = self._clock.monotonic_ns(), self._table.active()
        self._watched = {name: self._watched[name] for name in active if name in self._watched}
        for model, loaded in active.items():
            watched, answered = self._watched.get(model), self._answered(loaded)
            if watched is None or watched.loaded is not loaded:
                self._watched[model] = _Watched(loaded=loaded, answered=answered, well_ns=now)
            elif watched.answered != answered:
                watched.answered, watched.well_ns = answered, now
                _well(loaded)
            elif now - watched.well_ns >= self._silence_ns and _is_over(watched.asking):
                watched.well_ns = now
                watched.asking = asyncio.create_task(_ask(watched))

    def _answered(self, loaded: Loaded) -> int:
        model = self._metrics.models.get(loaded.stored.record.model)
        counts = model.versions.get(loaded.stored.number) if model else None
        return counts.success.count if counts else 0


async def _ask(watched: _Watched) -> None:
    """Let a version answer its own row, and note whether it did."""
    loaded = watched.loaded
    if not loaded.hold():
        return
    try:
        if watched.row is None:
            watched.row = await asyncio.to_thread(_first_row, loaded)
        outcome = await _outcome(loaded, watched.row)
    except ApplianceError as error:
        outcome = error
    finally:
        loaded.release()
    if not isinstance(outcome, ApplianceError):
        _well(loaded)
    elif not isinstance(outcome, Overloaded | Draining):  # busy, or on its way out, is not ill
        if not loaded.failing:
            journal.failure("version.failing", outcome, **_named(loaded))
        loaded.failing = f"{_text(loaded)} does not answer its own row: {outcome}"


async def _outcome(loaded: Loaded, row: Inputs) -> Outcome:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome) -> None:
        if not told.done():
            told.set_result(outcome)

    def then(outcome: Outcome) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(partial(settle, outcome))

    loaded.batcher.submit(row, 1, then, key=loaded.servable.batch_key(row))
    return await told


def _first_row(loaded: Loaded) -> Inputs:
    """The first golden row, as a request has it. Raises StoreError."""
    rows = golden_of(loaded.stored.directory).inputs
    batched = loaded.servable.interface.batch_max > 0
    return {name: array[:1] if batched else array[0, ...] for name, array in rows.items()}


def _well(loaded: Loaded) -> None:
    if loaded.failing:
        loaded.failing = ""
        journal.event("version.recovered", **_named(loaded))


def _is_over(task: "asyncio.Task[None] | None") -> bool:
    return task is None or task.done()


def _named(loaded: Loaded) -> dict[str, object]:
    return {"model": loaded.stored.record.model, "version": loaded.stored.number}


def _text(loaded: Loaded) -> str:
    return f"version {loaded.stored.number} of '{loaded.stored.record.model}'"
