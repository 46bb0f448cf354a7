"""A real runtime under load, killed without warning, again and again.

Knows: what clients and an operator were told before each kill. Rules: the moment is drawn from a seed; what
was answered must be in the log after the next start, and traffic must stand where the last decision that was
answered, or the one under way, put it. Leaves to others: power cuts (`crashes`): a kill loses nothing that
the kernel has.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.errors import ApplianceError, DecisionError
from appliance.signing import PublicKey
from runtime.client import ControlClient, InferenceClient, Retry

THREADS = 4
# While the runtime starts, and under load.
STARTING_SECONDS, SERVING_SECONDS = 3.0, 1.2
PATIENCE_SECONDS = 120  # for the first answer of a life
STARTS = 0.2  # share of kills that come while it starts


@dataclass(slots=True)
class Told:
    """What one life of the runtime answered before it was killed."""

    answered: set[str] = field(default_factory=set)
    first: threading.Event = field(default_factory=threading.Event)
    decided: int | None = None
    under_way: int | None = None


@dataclass(slots=True)
class Outcome:
    """How many kills, of which so many while starting; what was answered before them; what broke."""

    kills: int = 0
    starting: int = 0
    answered: int = 0
    decided: int = 0
    records: int = 0
    broken: list[str] = field(default_factory=list)


def kill_often(
    start: Callable[..., Any],
    state: Path,
    image: np.ndarray,
    *,
    kills: int,
    seed: int,
    told: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Start runtimes by `start` on `state` and kill each; `image` is a request's input.

    `told` hears the number of each kill. The log is verified after the last one.
    """
    choice, outcome = random.Random(seed), Outcome()
    active: set[int | None] = {None}
    since = 0
    for number in range(kills):
        told(number)
        if choice.random() < STARTS:
            _kill_starting(start, state, choice)
            outcome.starting += 1
        else:
            life = _kill_serving(
                start, state, image, number, choice=choice, active=active, outcome=outcome
            )
            since = _check_life(state, life, since, outcome)
            active = _possible(active, life)
        outcome.kills += 1
    _check_end(start, state, active, outcome)
    return outcome


def _kill_starting(start: Callable[..., Any], state: Path, choice: random.Random) -> None:
    runtime = start(state, wait=False)
    _wait(runtime.process, choice.uniform(0, STARTING_SECONDS))
    runtime.stop(signal.SIGKILL)


def _kill_serving(
    start: Callable[..., Any],
    state: Path,
    image: np.ndarray,
    number: int,
    *,
    choice: random.Random,
    active: set[int | None],
    outcome: Outcome,
) -> Told:
    runtime, life = start(state), Told()
    found = _active(runtime.socket)
    if found not in active:
        outcome.broken.append(f"kill {number}: version {found} is active, not one of {active}")
    active.clear()
    active.add(found)
    with _load(runtime, life, image, number):
        if not life.first.wait(PATIENCE_SECONDS):
            outcome.broken.append(f"kill {number}: nobody was answered")
        time.sleep(choice.uniform(0, SERVING_SECONDS))
        runtime.stop(signal.SIGKILL)
    outcome.answered += len(life.answered)
    outcome.decided += life.decided is not None
    return life


@contextmanager
def _load(runtime: Any, life: Told, image: np.ndarray, number: int) -> Iterator[None]:
    """Clients that ask without a pause and an operator who decides all the time, until they are cut off."""
    over = threading.Event()

    def ask(thread: int) -> None:
        with InferenceClient(runtime.address, retry=Retry(attempts_max=1)) as client:
            count = 0
            while not over.is_set():
                count += 1
                name = f"{number}-{thread}-{count}"
                with suppress(ApplianceError):
                    client.infer("digits", {"image": image}, request_id=name)
                    life.answered.add(name)
                    life.first.set()

    def decide() -> None:
        with ControlClient(runtime.socket) as control:
            version = 1
            while not over.is_set():
                version = 3 - version
                life.under_way = version
                try:
                    control.decide("digits", "activate", version, actor="test", reason="again")
                    life.decided = version
                except DecisionError:
                    pass  # refused, and answered
                except ApplianceError:
                    return  # its answer never came: it stays under way, and nothing follows it
                over.wait(0.05)

    threads = [threading.Thread(target=ask, args=(each,)) for each in range(THREADS)]
    threads.append(threading.Thread(target=decide))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _check_life(state: Path, life: Told, since: int, outcome: Outcome) -> int:
    """Every answer has its record; returns the log's size."""
    with AuditReader(state / "audit" / "log.db") as reader:
        recorded = {
            entry.record.request_id
            for entry in reader.records(since_sequence=since)
            if isinstance(entry.record, Inference)
        }
        size = reader.size()
    lost = life.answered - recorded
    if lost:
        outcome.broken.append(f"{len(lost)} answers without a record: {sorted(lost)[:3]}")
    return size


def _possible(active: set[int | None], life: Told) -> set[int | None]:
    """Which version may be active after a kill: the last decided, or the one under way."""
    decided = {life.decided} if life.decided is not None else set(active)
    return decided | ({life.under_way} if life.under_way is not None else set())


def _check_end(
    start: Callable[..., Any], state: Path, active: set[int | None], outcome: Outcome
) -> None:
    """One more start, which is stopped in order; then the whole log must verify."""
    runtime = start(state)
    if (found := _active(runtime.socket)) not in active:
        outcome.broken.append(f"at the end version {found} is active, not one of {active}")
    if runtime.stop() != 0:
        outcome.broken.append("the last runtime did not stop in order")
    try:
        result = verify(state / "audit" / "log.db", PublicKey.load(state / "keys" / "box.pub"))
        outcome.records = result.records
    except ApplianceError as error:
        outcome.broken.append(f"[{error.code}] {error}")


def _active(socket: Path) -> int | None:
    with ControlClient(socket) as control:
        for model in control.list("digits"):
            return model.active or None
    return None


def _wait(process: Any, seconds: float) -> None:
    """Give a process some time; whether it ended in it is its own affair."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
