"""A second writer, a reader that stays, and a clock that is set.

Knows: what else may happen to a log while it is written. Rules: the second writer is refused and harms nothing;
a reader holds up nobody; a wall clock that steps changes no order and is recorded. Leaves to others: the disk.
"""

import random
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from appliance.audit.kinds import ClockStep, Gap
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.schema import SCHEMA
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.database import Database
from appliance.signing import SigningKey
from tests.simulation.tracing import ROOT, scratch

SECOND = 1_000_000_000
LARGEST_STEP_SECONDS = 10 * 366 * 86_400
WRITER = """
import sys
from pathlib import Path
from appliance.audit.log import AuditLog
from appliance.clock import SystemClock
from appliance.errors import StateError
from appliance.signing import SigningKey
for _ in range(int(sys.argv[3])):
    try:
        AuditLog.open(Path(sys.argv[1]), key=SigningKey.load(Path(sys.argv[2])), clock=SystemClock())
    except StateError:
        print("refused")
"""


@dataclass(slots=True)
class Outcome:
    """How often each was tried, and what broke."""

    second_writers: int = 0
    read_groups: int = 0
    steps: int = 0
    broken: list[str] = field(default_factory=list)


class SetClock:
    """A clock whose wall time is set by hand; monotonic time goes on."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_800_000_000 * SECOND, 0

    def wall_ns(self) -> int:
        """The time somebody set."""
        return self.wall

    def monotonic_ns(self) -> int:
        """Goes on whatever the wall says."""
        return self.monotonic


def try_neighbours(*, seed: int, times: int) -> Outcome:
    """`times` second writers, groups beside a reader that stays, and steps of the clock."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(dir=scratch(), prefix="holdfast-") as name:
        _second_writers(Path(name), times, outcome)
        _long_reader(Path(name), times, outcome)
        _clock_steps(Path(name), times, random.Random(seed), outcome)
    return outcome


def _second_writers(work: Path, times: int, outcome: Outcome) -> None:
    path, key = work / "two" / "log.db", SigningKey.generate()
    key.save(work / "two.pem")
    with AuditLog.open(path, key=key, clock=SystemClock()) as log:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, work / "two.pem", str(times)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as second:
            for number in range(times):
                log.append([Gap(count=number, reason="beside a second writer")])
            refused = second.communicate()[0].count("refused")
    outcome.second_writers += refused
    if refused != times:
        outcome.broken.append(f"a second writer was let in {times - refused} times")
    if verify(path, key.public).records != times:
        outcome.broken.append("a second writer changed the log")


def _long_reader(work: Path, times: int, outcome: Outcome) -> None:
    """One read transaction stays open all the while; it sees what was there when it began."""
    path, key = work / "read" / "log.db", SigningKey.generate()
    count = "SELECT count(*) FROM record"
    with AuditLog.open(path, key=key, clock=SystemClock()) as log:
        log.append([Gap(count=0, reason="before")])
        with closing(Database.read(path, SCHEMA)) as reader:
            reader.connection.execute("BEGIN")
            before = reader.connection.execute(count).fetchone()
            for number in range(times):
                log.append([Gap(count=number, reason="x" * 2000)])
            outcome.read_groups += times
            if reader.connection.execute(count).fetchone() != before:
                outcome.broken.append("a read transaction saw what was written after it began")
    if verify(path, key.public).records != times + 1:
        outcome.broken.append("records written beside a reader are missing")


def _clock_steps(work: Path, times: int, choice: random.Random, outcome: Outcome) -> None:
    path, key, clock = work / "clock" / "log.db", SigningKey.generate(), SetClock()
    with AuditLog.open(path, key=key, clock=clock, boot_id="boot") as log:
        log.append([Gap(count=0, reason="before")])
        for number in range(times):
            step = choice.randint(60, LARGEST_STEP_SECONDS) * choice.choice((-1, 1)) * SECOND
            # Never before the epoch: a step that would go there goes the other way.
            clock.wall += step if clock.wall + step > 0 else -step
            clock.monotonic += SECOND
            log.append([Gap(count=number, reason="after a step")])
    outcome.steps += times
    found = verify(path, key.public)
    with AuditReader(path) as reader:
        records = [entry.record for entry in reader.records()]
    if found.records != len(records):
        outcome.broken.append("verify counts other records than the reader")
    counts = [record.count for record in records if isinstance(record, Gap)]
    if counts != [0, *range(times)]:
        outcome.broken.append("a step of the clock changed the order of records")
    recorded = sum(isinstance(record, ClockStep) for record in records)
    if recorded != times:
        outcome.broken.append(f"{times} steps of the clock, {recorded} recorded")
