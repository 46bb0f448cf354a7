"""What a log of many records costs to write, open, search and verify: `python tests/bench/records.py`.

Knows: nothing of the box; it writes a log of its own, of simulated answers and failures. Rules: each figure names what
it counts; the log that is timed verifies. Leaves to others: the request path (`serving`), proofs (`receipts`).
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from appliance.audit.kinds import AnyRecord, Failure, Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.search import Sought
from appliance.audit.verify import verify
from appliance.clock import SystemClock
from appliance.signing import SigningKey
from tui.printing import progress

RECORDS, GROUP, TIMES, SINGLE = 200_000, 256, 5, 2000
# What SQLite's write-ahead log takes for one record: two frames, a page each with its header.
FRAME = bytes(24), bytes(4096)
FRAMES = 2
DIGEST = "a" * 64
STEP_NS = 10_000_000


class Clock:
    """Goes on by ten milliseconds at each look."""

    def __init__(self) -> None:
        self._ns = 1_700_000_000 * 10**9

    def wall_ns(self) -> int:
        self._ns += STEP_NS
        return self._ns

    def monotonic_ns(self) -> int:
        return self._ns


def record(number: int, count: int, chance: random.Random) -> AnyRecord:
    """One of `count`: four models, twenty principals, a failure in five hundred; one principal and code are rare."""
    request_id = uuid.UUID(int=chance.getrandbits(128)).hex
    who = "token:rare" if number == count // 3 else f"token:press-{number % 20}"
    model, peer = f"model-{number * 4 // count}", "ipv4:10.0.0.1:1"
    if number % 500 == 7:
        code = "engine.failed" if number == count // 1000 * 500 + 7 else "request.limit"
        return Failure(
            request_id=request_id,
            model=model,
            version=1,
            principal=who,
            peer=peer,
            code=code,
            message="m",
        )
    return Inference(
        request_id=request_id,
        model=model,
        version=1,
        bundle_sha256=DIGEST,
        engine_sha256=DIGEST,
        recipe_sha256=DIGEST,
        route="active",
        principal=who,
        peer=peer,
        rows=1,
        input_sha256=DIGEST,
        output_sha256=DIGEST,
        outputs=(),
        vector=bytes(16),
        queue_ns=1,
        compute_ns=1,
        total_ns=1,
    )


def grow(
    path: Path, key: SigningKey, count: int, tell: Callable[[int], object]
) -> dict[str, float]:
    """Write `count` records in groups, SINGLE more one by one; microseconds of CPU each, bytes each."""
    chance, spent_ns = random.Random(1), {"grouped": 0, "single": 0}

    def groups() -> Iterator[tuple[str, list[AnyRecord]]]:
        for first in range(0, count, GROUP):
            numbers = range(first, min(first + GROUP, count))
            yield "grouped", [record(number, count, chance) for number in numbers]
        for number in range(SINGLE):
            yield "single", [record(count - 1 - number % count, count, chance)]

    with AuditLog.open(path, key=key, clock=Clock()) as log:
        for name, group in groups():
            began = time.thread_time_ns()
            log.append(group)
            spent_ns[name] += time.thread_time_ns() - began
            tell(log.size)
    return {
        "append_grouped_us": spent_ns["grouped"] / count / 1e3,
        "append_single_us": spent_ns["single"] / SINGLE / 1e3,
        "record_bytes": path.stat().st_size / (count + SINGLE),
    }


def flush_us(path: Path) -> float:
    """Microseconds of CPU that the same writes and a flush to the disk cost without SQLite or records."""
    spent_ns = 0
    with path.open("wb", buffering=0) as file:
        for _ in range(SINGLE):
            began = time.thread_time_ns()
            for part in FRAME * FRAMES:
                file.write(part)
            os.fsync(file.fileno())
            spent_ns += time.thread_time_ns() - began
    path.unlink()
    return spent_ns / SINGLE / 1e3


def searches(reader: AuditReader, count: int) -> dict[str, float]:
    """Milliseconds of the median of TIMES for each question."""
    middle = reader.at(count // 2)
    request_id = str(middle.record.columns()[3])
    window = Sought(since_ns=middle.wall_ns, until_ns=middle.wall_ns + 10**9)
    questions: dict[str, Callable[[], object]] = {
        "request": lambda: reader.show(request_id),
        "principal_rare": lambda: reader.tail(20, sought=Sought(principal="token:rare")),
        "principal_common": lambda: reader.tail(20, sought=Sought(principal="token:press-3")),
        "principal_absent": lambda: reader.tail(20, sought=Sought(principal="nobody")),
        "model_oldest": lambda: reader.tail(20, sought=Sought(model="model-0")),
        "failures": lambda: reader.tail(20, sought=Sought(category="failure")),
        "result_rare": lambda: reader.tail(20, sought=Sought(result="engine.failed")),
        "time_window": lambda: reader.tail(20, sought=window),
    }
    return {name: median(elapsed_ms(act) for _ in range(TIMES)) for name, act in questions.items()}


def elapsed_ms(act: Callable[[], object]) -> float:
    """Wall milliseconds that `act` takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


def measure(path: Path, count: int) -> dict[str, object]:
    """All figures of a log of `count` records made at `path`."""
    key = SigningKey.generate()
    with progress("records") as bar:
        task = bar.add_task("Writing", total=count + SINGLE)
        found: dict[str, object] = {"records": count}
        found |= grow(path, key, count, lambda done: bar.update(task, completed=done))
        found["flush_alone_us"] = flush_us(path.with_name("bare"))
        opening = elapsed_ms(lambda: AuditLog.open(path, key=key, clock=SystemClock()).close())
        with AuditReader(path) as reader:
            found["open_writer_ms"] = opening
            found["open_reader_ms"] = elapsed_ms(lambda: AuditReader(path).close())
            found["search_ms"] = searches(reader, count)
        task = bar.add_task("Verifying", total=None)
        wall, cpu = time.perf_counter(), time.thread_time()
        whole = verify(
            path,
            key.public,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    found["verify_records_per_second"] = whole.records / wall
    found["verify_records_per_cpu_second"] = whole.records / cpu
    return found


def main() -> None:
    """Print the figures as JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--records", type=int, default=RECORDS, help="up to ten million: 13 GB")
    asked.add_argument("--directory", type=Path, help="the disk to write on, the temporary one's")
    asked.add_argument("--output", type=Path, help="write the JSON there as well")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        found = measure(Path(directory) / "log.db", options.records)
    told = json.dumps(found, indent=2)
    print(told)
    if options.output is not None:
        options.output.write_text(told + "\n", "utf-8")


if __name__ == "__main__":
    main()
