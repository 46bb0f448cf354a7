"""Let mutants loose on the house and count what becomes of them.

    python tests/contract/fuzz.py [--cases N] [--seed S] [--kind KIND] [--in-process] [--write]

Mutants are S, S+1 and so on of every kind in turn, each in a worker process. With --in-process they are
packed and built in the worker itself, which is faster; one that comes to the limit of time or memory
there is tried again through the house's own child process, and what that makes of it counts. What must
not happen is printed with the mutant's name; --write puts the counts into docs/conformance.md. Exit code
1 when a mutant crashed or outlived its limits.
"""

import argparse
import datetime as dt
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba"))

import msgspec  # noqa: E402
from attack import KINDS, MEMORY_BYTES_MAX, SECONDS_MAX, SERVED, Mutant, fate  # noqa: E402
from house import REFUSED, Outcome  # noqa: E402
from page import Fuzzing, read_report, write_report  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from workers import Ended, each_result  # noqa: E402

ADDRESSES_MAX = MEMORY_BYTES_MAX + (2 << 30)  # bytes of a worker: the libraries' own come on top
PATIENCE = 4  # times a child's limit that a worker may take: pack and build, each begun and ended
Counts = dict[str, dict[str, int]]
Name = tuple[str, int]  # kind and seed
BAR = Console(stderr=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=600, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="the first mutant of each kind")
    parser.add_argument("--kind", choices=KINDS, help="only this kind")
    parser.add_argument("--workers", type=int, default=2, help="processes at once")
    parser.add_argument("--in-process", action="store_true", help="see above")
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    names = [
        (kinds[at % len(kinds)], options.seed + at // len(kinds)) for at in range(options.cases)
    ]
    began = time.monotonic()
    counts, bad = run(names, options.workers, in_process=options.in_process)
    minutes = (time.monotonic() - began) / 60
    if options.write:
        write(counts, minutes, in_process=options.in_process)
    for kind, row in counts.items():
        print(f"{kind}: {row}")
    return int(bad > 0)


def write(counts: Counts, minutes: float, *, in_process: bool) -> None:
    """Tell this run in the document, in place of the last one of its sort."""
    report = read_report()
    told = Fuzzing(
        command=f"python tests/contract/fuzz.py {' '.join(sys.argv[1:])}",
        in_process=in_process,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        minutes=minutes,
        counts=counts,
    )
    others = [each for each in report.fuzzing if each.in_process != in_process]
    runs = sorted([*others, told], key=lambda each: each.in_process)
    write_report(msgspec.structs.replace(report, fuzzing=tuple(runs)))


def run(names: list[Name], workers: int, *, in_process: bool) -> tuple[Counts, int]:
    """Counts by kind and fate, and how many fates were bad."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind, _ in names}
    bad, again = 0, []
    for (kind, seed, _), result in _fates(names, workers, in_process=in_process):
        if isinstance(result, Ended) and in_process:
            BAR.print(f"{kind} {seed}: {result.how}; again in a child", markup=False)
            again.append((kind, seed))
            continue
        bad += _is_bad(kind, seed, result)
        counts[kind][_word(result)] += 1
    for (kind, seed, _), result in _fates(again, workers, in_process=False):
        bad += _is_bad(kind, seed, result)
        counts[kind][_word(result)] += 1
    return {kind: dict(sorted(row.items())) for kind, row in counts.items()}, bad


def perform(task: tuple[str, int, bool]) -> Outcome:
    """What a worker does: one mutant."""
    kind, seed, in_process = task
    if in_process:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
    return fate(Mutant(kind, seed), in_process=in_process)


def _fates(names: list[Name], workers: int, *, in_process: bool) -> Iterator[tuple[Any, Any]]:
    """What becomes of every mutant, with a bar on standard error."""
    tasks = [(*name, in_process) for name in names]
    seconds = SECONDS_MAX if in_process else PATIENCE * SECONDS_MAX
    results = each_result(perform, tasks, workers=workers, seconds_max=seconds)
    if not tasks:
        return iter(())
    return iter(track(results, "mutants", total=len(tasks), console=BAR))


def _word(result: Outcome | Ended) -> str:
    refused = isinstance(result, Outcome) and result.what == REFUSED
    return f"refused {result.code}" if refused else result.what


def _is_bad(kind: str, seed: int, result: Outcome | Ended) -> bool:
    """True, and the mutant is named, when it was neither served nor refused."""
    if result.what in (SERVED, REFUSED):
        return False
    BAR.print(f"{kind} {seed}: {result}", markup=False)
    return True


if __name__ == "__main__":
    sys.exit(main())
