"""What somebody with the files, but without the key, or with it, may do to a log at rest.

Knows: the acts, and what each must come to. Rules: a log with a changed record, checkpoint or order is never
called whole; where verify cannot know (whoever holds the box key rewrote it, or an older copy was put back) a
checkpoint that left the box must show it. Leaves to others: the wording of what is found.
"""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from appliance.audit.kinds import Gap
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.errors import ApplianceError, AuditBroken, StateError
from appliance.signing import SigningKey
from tests.simulation.tracing import scratch

RECORDS = 600
GROUP = 20
# How what is found begins, when it names its place.
PLACES = ("record ", "checkpoint ", "the checkpoints cannot", "the log has no", "tile", "subtree")
DETECTED, REFUSED, HARMLESS = "named by its place", "not opened", "not evidence: the same records"
Act = Callable[[sqlite.Connection, random.Random], None]


@dataclass(slots=True)
class Outcome:
    """What became of each act: counts by act and by word; what went unseen."""

    cases: dict[str, Counter[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def tamper_often(*, seed: int, times: int, flips: int) -> Outcome:
    """Every act `times` times on copies of one log, and `flips` single bits."""
    outcome, choice = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory(dir=scratch(), prefix="holdfast-") as name:
        work, key = Path(name), SigningKey.generate()
        older = work / "older.db"
        note = write(work / "log.db", key, older)
        whole = verify(work / "log.db", key.public)
        for act, do in ACTS.items():
            for _ in range(times):
                copy = _copy(work)
                _change(copy, do, choice)
                _judge(act, copy, key, whole.root, outcome, must_be_seen=True)
        content = (work / "log.db").read_bytes()
        for _ in range(flips):
            at = choice.randrange(len(content) * 8)
            copy = work / "copy.db"
            copy.write_bytes(flipped(content, at))
            _judge("one bit turned", copy, key, whole.root, outcome, must_be_seen=False)
        _judge_outside(work, older, key, note, outcome)
    return outcome


def write(path: Path, key: SigningKey, older: Path) -> str:
    """A log of RECORDS records; halfway a copy goes to `older`. Returns the last checkpoint."""
    for half in (0, 1):
        with AuditLog.open(
            path, key=key, clock=SystemClock(), checkpoint_records=50, boot_id="boot"
        ) as log:
            for group in range(RECORDS // GROUP // 2):
                number = half * RECORDS + group
                log.append([Gap(count=number * GROUP + at, reason="x" * 50) for at in range(GROUP)])
        if not half:
            shutil.copy(path, older)
    with AuditReader(path) as reader:
        return reader.checkpoints(1)[0]


def flipped(content: bytes, bit: int) -> bytes:
    """`content` with one bit turned."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _delete(connection: sqlite.Connection, choice: random.Random) -> None:
    connection.execute("DELETE FROM record WHERE sequence = ?", (choice.randrange(RECORDS),))


def _cut(connection: sqlite.Connection, choice: random.Random) -> None:
    connection.execute("DELETE FROM record WHERE sequence >= ?", (choice.randrange(RECORDS),))


def _swap(connection: sqlite.Connection, choice: random.Random) -> None:
    one, two = choice.sample(range(RECORDS), 2)
    move = "UPDATE record SET sequence = ? WHERE sequence = ?"
    for new, old in ((-7, one), (one, two), (two, -7)):
        connection.execute(move, (new, old))


def _insert(connection: sqlite.Connection, choice: random.Random) -> None:
    """A copy of a record, after the last or before the first."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(record)")][1:]
    names = ", ".join(columns)
    connection.execute(
        f"INSERT INTO record (sequence, {names}) SELECT ?, {names} FROM record WHERE sequence = ?",
        (choice.choice((-1, RECORDS)), choice.randrange(RECORDS)),
    )


def _rewrite(connection: sqlite.Connection, choice: random.Random) -> None:
    """A record with other bytes and a leaf that fits them."""
    from appliance.audit.tree import leaf_hash

    at = choice.randrange(RECORDS)
    (body,) = connection.execute("SELECT body FROM record WHERE sequence = ?", (at,)).fetchone()
    other = bytes(body).replace(b'"reason":"xx', b'"reason":"xy')
    connection.execute(
        "UPDATE record SET body = ?, leaf = ? WHERE sequence = ?", (other, leaf_hash(other), at)
    )


def _column(connection: sqlite.Connection, choice: random.Random) -> None:
    """A column to search by that no longer says what the bytes say."""
    column, value = choice.choice((("wall_ns", 2), ("category", "failure"), ("result", "other")))
    at = choice.randrange(RECORDS)
    connection.execute(f"UPDATE record SET {column} = ? WHERE sequence = ?", (value, at))


def _checkpoint(connection: sqlite.Connection, choice: random.Random) -> None:
    """A checkpoint that stands at another size."""
    sizes = [size for (size,) in connection.execute("SELECT size FROM checkpoint WHERE size > 0")]
    connection.execute(
        "UPDATE checkpoint SET size = size - 1 WHERE size = ?", (choice.choice(sizes),)
    )


def _all_checkpoints(connection: sqlite.Connection, _: random.Random) -> None:
    connection.execute("DELETE FROM checkpoint")


ACTS: dict[str, Act] = {
    "a record deleted": _delete,
    "the end cut off": _cut,
    "two records swapped": _swap,
    "a record inserted": _insert,
    "a record rewritten, its leaf too": _rewrite,
    "a column rewritten": _column,
    "a checkpoint moved": _checkpoint,
    "all checkpoints deleted": _all_checkpoints,
}


def _copy(work: Path) -> Path:
    return Path(shutil.copy(work / "log.db", work / "copy.db"))


def _change(path: Path, do: Act, choice: random.Random) -> None:
    connection = sqlite.connect(str(path), isolation_level=None)
    for (trigger,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    do(connection, choice)
    connection.close()


def _judge(
    act: str, path: Path, key: SigningKey, root: bytes, outcome: Outcome, *, must_be_seen: bool
) -> None:
    try:
        found = verify(path, key.public)
    except StateError:
        word = REFUSED
    except AuditBroken as error:
        word = DETECTED
        if not str(error).startswith(PLACES):
            outcome.broken.append(f"{act}: no place is named: {error}")
    except ApplianceError as error:
        word = error.code
    else:
        word = HARMLESS
        if must_be_seen or (found.records, found.root) != (RECORDS, root):
            outcome.broken.append(f"{act}: verify calls it whole")
    outcome.cases.setdefault(act, Counter())[word] += 1


def _judge_outside(work: Path, older: Path, key: SigningKey, note: str, outcome: Outcome) -> None:
    """What only a checkpoint that left the box can show."""
    rewritten = work / "rewritten.db"
    write(rewritten, key, work / "unused.db")
    for act, path in (("an older copy put back", older), ("all rewritten with the key", rewritten)):
        counts = outcome.cases.setdefault(act, Counter())
        verify(path, key.public)  # alone, nobody can tell
        counts["alone: whole, and says what it cannot prove"] += 1
        try:
            verify(path, key.public, against=note)
            outcome.broken.append(f"{act}: unseen against a checkpoint from off the box")
        except AuditBroken:
            counts["seen by a checkpoint from off the box"] += 1
