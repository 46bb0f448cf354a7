"""Power cuts at every moment of a workload, each leaving what a disk may leave.

Knows: which moments matter, and how many states of each are tried. Rules: the same seed gives the same
states; a state that breaks a law is told with what made it, so that it can be made again. Leaves to
others: the disk (`disk`), the laws (`checks`).
"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.checks import Broken, check
from tests.simulation.disk import Disk, Loss
from tests.simulation.tracing import Call, Child, Fault, Kind, calls, scratch

NAMING = {Kind.RENAME, Kind.EXCHANGE, Kind.UNLINK, Kind.RMDIR, Kind.MKDIR}
# How often a loss is tried at one moment when it is a matter of chance.
CHANCES = {Loss.TAIL, Loss.SOME}


@dataclass(frozen=True, slots=True)
class Moment:
    """Just before call `at` of the journal: what was said until then."""

    at: int
    said: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What became of the states of one workload: how many moments and states, and what broke."""

    moments: int = 0
    states: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def explore(
    child: Child,
    workload: str,
    *,
    seed: int,
    chances: int,
    share: float = 1.0,
    fault: Fault | None = None,
) -> Outcome:
    """Run `workload` and try what a power cut at every sync and change of names may leave.

    `chances` states are drawn for each loss that is a matter of chance; of the moments only a `share` is tried.
    """
    outcome, choice = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory(dir=scratch(), prefix="holdfast-") as name:
        state, journal = Path(name) / "state", Path(name) / "journal"
        state.mkdir()
        disk = Disk(state)
        child.run(workload, state, journal, fault=fault)
        for moment in _moments(disk, list(calls(journal))):
            if choice.random() >= share:
                continue
            outcome.moments += 1
            for loss in Loss:
                for _ in range(chances if loss in CHANCES else 1):
                    _try(
                        disk,
                        moment,
                        Path(name) / "cut",
                        loss=loss,
                        choice=choice,
                        workload=workload,
                        outcome=outcome,
                    )
    return outcome


def _moments(disk: Disk, entries: list[Call]) -> Iterator[Moment]:
    """Let the calls happen, and stop before every sync and change of names, and at the end."""
    said = list[str]()
    for at, entry in enumerate(entries):
        if entry.kind is Kind.MARK:
            said.append(entry.data.decode())
            continue
        if entry.kind is Kind.SYNC or entry.kind in NAMING:
            yield Moment(at, tuple(said))
        disk.apply(entry)
    yield Moment(len(entries), tuple(said))


def _try(
    disk: Disk,
    moment: Moment,
    target: Path,
    *,
    loss: Loss,
    choice: random.Random,
    workload: str,
    outcome: Outcome,
) -> None:
    disk.leave(target, loss, choice)
    outcome.states[loss.value] += 1
    try:
        check(workload, target, moment.said)
    except Broken as error:
        outcome.broken.append(f"{workload}, before call {moment.at}, lost {loss.value}: {error}")
    finally:
        shutil.rmtree(target)
