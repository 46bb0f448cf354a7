"""Where each version stands, for whoever watches from outside.

Knows: which versions are being loaded or let go of, and which failed to load. Rules: told on any thread,
without the disk; a version can be in two states at once, as when it is loaded anew beside itself; one that
failed is told so until it loads. Leaves to others: loading and letting go (`runtime.swap`), showing it
(`runtime.metrics`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias

from appliance.deployment import Deployment
from runtime.loaded import Loaded
from runtime.router import ROLES

State: TypeAlias = Literal["loading", "loaded", "draining", "failed"]


class Standing(NamedTuple):
    """One version: its states, its roles, requests that wait, lanes at work, engine calls that hang, sequences."""

    model: str
    version: int
    states: tuple[State, ...]
    roles: tuple[str, ...]
    queued: int
    lanes: int
    hanging: int
    sequences: int = 0


class Passing:
    """Versions on their way in or out, and those that failed; changed on one thread."""

    def __init__(self) -> None:
        self._states: Counter[tuple[str, int, State]] = Counter()

    @contextmanager
    def loading(self, model: str, version: int) -> Iterator[None]:
        """The version is being loaded; whatever is raised says that it failed."""
        try:
            with self._being(model, version, "loading"):
                yield
        except BaseException:
            self._states[model, version, "failed"] = 1
            raise
        self._states.pop((model, version, "failed"), None)

    @contextmanager
    def draining(self, model: str, version: int) -> Iterator[None]:
        """The version is being let go of."""
        with self._being(model, version, "draining"):
            yield

    def states(self) -> list[tuple[str, int, State]]:
        """What is so now; any thread."""
        return [key for key, count in list(self._states.items()) if count]

    @contextmanager
    def _being(self, model: str, version: int, state: State) -> Iterator[None]:
        key = (model, version, state)
        self._states[key] += 1
        try:
            yield
        finally:
            self._states[key] -= 1
            if not self._states[key]:
                del self._states[key]


def standings(
    serving: Iterable[tuple[Deployment, Mapping[int, Loaded]]], passing: Passing
) -> list[Standing]:
    """Every version that is loaded, plays a role, or is passing, by model and number.

    `serving` is each model's deployment with its versions that can answer.
    """
    states: dict[tuple[str, int], list[State]] = {}
    roles: dict[tuple[str, int], tuple[str, ...]] = {}
    found: dict[tuple[str, int], Loaded] = {}
    for deployment, versions in serving:
        model = deployment.model
        found |= {(model, number): loaded for number, loaded in versions.items()}
        states |= {(model, number): ["loaded"] for number in versions}
        for role in ROLES:
            key = (model, getattr(deployment, role) or 0)
            roles[key] = (*roles.get(key, ()), role)
    for model, version, state in passing.states():
        states.setdefault((model, version), []).append(state)
    told = []
    for key in sorted({*states, *roles}):
        model, version = key
        if not version:
            continue  # roles that nobody plays
        loaded = found.get(key)
        batcher = loaded.batcher if loaded else None
        sequences = loaded.sequences if loaded else None
        at_work, hanging = batcher.lanes if batcher else (0, 0)
        told.append(
            Standing(
                model=model,
                version=version,
                states=tuple(states.get(key, ())),
                roles=roles.get(key, ()),
                queued=batcher.queued if batcher else 0,
                lanes=at_work,
                hanging=hanging,
                sequences=sequences.count if sequences else 0,
            )
        )
    return told
