"""Every call that changes a file fails once, or from some moment on.

Knows: which faults a disk has. Rules: the workload goes on as a box does; afterwards, with the disk well
again, every promise that was made must hold, and a power cut after a sync that failed must not break one
either. Leaves to others: making calls fail (shim.c), the promises (`checks`).
"""

import errno
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.checks import Broken, check
from tests.simulation.disk import Disk, Loss
from tests.simulation.tracing import Child, Fault, Run, calls, scratch

# What fails: once, for a while, or for good.
DISK_FULL = errno.ENOSPC
FAULTY = errno.EIO
READ_ONLY = errno.EROFS
COUNTS = {"once": 1, "five times": 5, "for good": 0}


@dataclass(slots=True)
class Outcome:
    """How often each fault was tried, what the workload was told, and what broke."""

    cases: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def try_faults(child: Child, workload: str, *, seed: int, share: float = 1.0) -> Outcome:
    """Run `workload` once for each call of it, each error and each count; a `share` of these."""
    outcome, choice = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory(dir=scratch(), prefix="holdfast-") as name:
        work = Path(name)
        count = _run(child, workload, work, None)[0].calls
        for at in range(1, count + 1):
            for error in (DISK_FULL, FAULTY, READ_ONLY):
                for often, times in COUNTS.items():
                    if choice.random() < share:
                        outcome.cases[f"{errno.errorcode[error]} {often}"] += 1
                        _try(
                            child,
                            workload,
                            work,
                            Fault(at, error, times),
                            choice=choice,
                            outcome=outcome,
                        )
    return outcome


def _try(
    child: Child,
    workload: str,
    work: Path,
    fault: Fault,
    *,
    choice: random.Random,
    outcome: Outcome,
) -> None:
    run, disk = _run(child, workload, work, fault)
    outcome.told.update(line for line in run.said if line.startswith("refused"))
    # The state as the process left it, and what a power cut could leave of that.
    disk.leave(work / "cut", Loss.ALL, choice)
    for state, cut in ((work / "state", ""), (work / "cut", ", then a power cut")):
        try:
            check(workload, state, run.said)
        except Broken as error:
            outcome.broken.append(f"{workload}, {fault}{cut}: {error}")
        shutil.rmtree(state)


def _run(child: Child, workload: str, work: Path, fault: Fault | None) -> tuple[Run, Disk]:
    """One run on an empty directory."""
    state, journal = work / "state", work / "journal"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    disk = Disk(state)
    run = child.run(workload, state, journal, fault=fault)
    for call in calls(journal):
        disk.apply(call)
    return run, disk
