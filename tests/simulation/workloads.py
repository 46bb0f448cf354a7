"""What the traced child does: the box's own rooms at work on a state directory.

Knows: a handful of short lives of the log and of the store. Rules: what a workload was promised it says at
once, by a mark in the journal; an ApplianceError is said too and the work goes on, as a box does. Leaves to
others: what must be true of the files afterwards (`checks`).

Run as a module it reads orders from standard input, one JSON object a line, does each in a fork, and answers
with the number of calls that could have failed.
"""

import ctypes
import gc
import json
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from appliance.audit.kinds import Gap
from appliance.audit.log import AuditLog
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.errors import ApplianceError
from appliance.files import write_file
from appliance.keys import BoxKeys, Order
from appliance.signing import SigningKey
from appliance.store import Store
from runtime.boxkey import open_with_key
from tests.simulation.samples import CONTENTS, manifest, version_record

GROUP = 3
CHECKPOINT_RECORDS = 10
# So large that a hundred of them make SQLite fold its write-ahead log while the workload runs.
LARGE_CHARACTERS = 30_000
Mark = Callable[[str], None]


def config_of(state: Path) -> StateConfig:
    """The settings of the box whose state directory this is."""
    return StateConfig(directory=str(state))


def boot(state: Path) -> AuditLog:
    """Open the log with its key, as the runtime does at every start."""

    def opening(key: SigningKey) -> AuditLog:
        return AuditLog.open(
            config_of(state).audit_log,
            key=key,
            clock=SystemClock(),
            checkpoint_records=CHECKPOINT_RECORDS,
            boot_id="boot",
        )

    return open_with_key(config_of(state), opening)


def first_start(state: Path, mark: Mark) -> None:
    """A new box: its key, its log, its first records."""
    _append(state, mark, range(3))


def log(state: Path, mark: Mark) -> None:
    """Groups of records, over checkpoints and restarts."""
    _append(state, mark, range(8))
    _append(state, mark, range(8, 12))


def log_folded(state: Path, mark: Mark) -> None:
    """Records so large that the write-ahead log is folded into the file several times."""
    _append(state, mark, range(60), LARGE_CHARACTERS)


def log_read(state: Path, mark: Mark) -> None:
    """A reader stays in a transaction meanwhile, so that the write-ahead log cannot be folded."""
    from appliance.audit.schema import SCHEMA
    from appliance.database import Database

    with ExitStack() as life:

        def read(_: AuditLog) -> None:
            reader = life.enter_context(closing(Database.read(config_of(state).audit_log, SCHEMA)))
            reader.connection.execute("BEGIN")
            reader.connection.execute("SELECT count(*) FROM record").fetchone()

        _append(state, mark, range(6), after=read)


def log_sealed(state: Path, mark: Mark) -> None:
    """The growing file is sealed twice, and the first of the sealed ones is removed."""
    _append(state, mark, range(4), after=lambda opened: opened.seal())
    _append(state, mark, range(4, 8), after=lambda opened: opened.seal())
    _append(state, mark, range(8, 10), after=lambda opened: opened.remove_expired(-1))


def log_key_changed(state: Path, mark: Mark) -> None:
    """The box key is changed twice, each time at a start."""
    for number in range(3):
        _append(state, mark, range(2 * number, 2 * number + 2))
        with _said(mark):
            BoxKeys(config_of(state)).prepare(Order(reason="a drill", by="test"))
    _append(state, mark, range(6, 8))


def store(state: Path, mark: Mark) -> None:
    """Three versions filed, one of them replaced."""
    versions = Store(config_of(state).store)
    for number, bundle in enumerate("abc", 1):
        with _said(mark), versions.stage() as staged:
            _fill(staged, b"engine")
            filed = versions.file(staged, manifest(), version_record(bundle * 64))
            mark(f"filed {filed.number} {bundle * 64}")
        if number == 2:
            with _said(mark), versions.stage() as staged:
                stored = versions.describe("tiny", 1)
                again = version_record(stored.record.bundle_sha256, release="0.2.0")
                _fill(staged, b"engine")
                versions.replace(staged, stored, again)
                mark("replaced 1 0.2.0")


def files(state: Path, mark: Mark) -> None:
    """One small file written over and over, in a directory that was not there."""
    for number in range(6):
        with _said(mark):
            write_file(state / "deep" / "down" / "file", b"%d" % number * 700)
            mark(f"wrote {number}")


WORKLOADS: dict[str, Callable[[Path, Mark], None]] = {
    each.__name__: each
    for each in (first_start, log, log_folded, log_read, log_sealed, log_key_changed, store, files)
}


def _append(
    state: Path,
    mark: Mark,
    groups: range,
    characters: int = 100,
    after: Callable[[AuditLog], object] = lambda _: None,
) -> None:
    """Start, write one group after the other, with `after` halfway and at the end, and stop."""
    with _said(mark), boot(state) as opened:
        for group in groups:
            with _said(mark):
                records = [Gap(count=group, reason=text(group, characters))] * GROUP
                written = opened.append(records)
                mark(f"held {written.start} {group}")
            with _said(mark):
                if group == groups[len(groups) // 2]:
                    after(opened)


def text(group: int, characters: int) -> str:
    """Letters that differ from group to group and do not repeat, so that no torn page goes unseen."""
    return random.Random(group).randbytes(characters // 2).hex()


def _fill(staged: Path, engine: bytes) -> None:
    for name, data in CONTENTS.items():
        write_file(staged / name, data if name != "model.onnx" else engine * 300)


@contextmanager
def _said(mark: Mark) -> Iterator[None]:
    try:
        yield
    except ApplianceError as error:
        mark(f"refused {error.code}")


def main() -> None:
    """See the module."""
    shim = ctypes.CDLL(None)
    shim.trace_calls.restype = ctypes.c_long
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        if not os.fork():
            os.write(writing, b"%d" % _work(shim, order))
            os._exit(0)
        os.close(writing)
        os.wait()
        print(os.read(reading, 32).decode(), flush=True)
        os.close(reading)


def _work(shim: ctypes.CDLL, order: dict[str, str]) -> int:
    def mark(said: str) -> None:
        shim.trace_mark(said.encode())

    state = Path(order["directory"])
    shim.trace_start(os.fsencode(state), os.fsencode(order["journal"]))
    if "fault" in order:
        at, error, count = order["fault"]
        shim.trace_fail(ctypes.c_long(at), error, ctypes.c_long(count))
    try:
        WORKLOADS[order["workload"]](state, mark)
    except BaseException:  # noqa: BLE001 - whatever it is, it is told
        mark(f"unexpected {traceback.format_exc()}")
    return int(shim.trace_calls())


if __name__ == "__main__":
    main()
