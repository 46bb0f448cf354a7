"""Let mutants loose on the house and count what becomes of them.

    python tests/contract/fuzz.py [--cases N] [--seed S] [--kind KIND] [--in-process] [--write]

Mutants are S, S+1 and so on of every kind in turn. Each runs in a worker process that may take
SECONDS_MAX; with --in-process it is packed and built in the worker itself, under its memory limit, in
place of the house's own child process. What must not happen is printed with the mutant's name; --write
puts the counts into docs/conformance.md. Exit code 1 when a mutant crashed the worker or hung.
"""

import argparse
import datetime as dt
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba"))

import msgspec  # noqa: E402
from attack import KINDS, SERVED, Mutant, fate  # noqa: E402
from house import REFUSED, Outcome  # noqa: E402
from page import Fuzzing, read_report, write_report  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from workers import Ended, each_result  # noqa: E402

SECONDS_MAX = 120.0
MEMORY_BYTES_MAX = 6 << 30  # of addresses, in a worker that packs and builds itself
Counts = dict[str, dict[str, int]]


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
    counts, bad = run([(*name, options.in_process) for name in names], options.workers)
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


def run(tasks: list[tuple[str, int, bool]], workers: int) -> tuple[Counts, int]:
    """Counts by kind and fate, and how many fates were bad."""
    counts: dict[str, Counter[str]] = {}
    bad, bar = 0, Console(stderr=True)
    results = each_result(perform, tasks, workers=workers, seconds_max=SECONDS_MAX)
    for (kind, seed, _), result in track(results, "mutants", total=len(tasks), console=bar):
        word = result.what
        if isinstance(result, Ended):
            bar.print(f"{kind} {seed}: {word} {result.how}", markup=False)
        elif word == REFUSED:
            word = f"refused {result.code}"
        elif word != SERVED:
            bar.print(f"{kind} {seed}: {word} {result.code} {result.text[:500]}", markup=False)
        bad += isinstance(result, Ended) or result.what not in (SERVED, REFUSED)
        counts.setdefault(kind, Counter())[word] += 1
    return {kind: dict(sorted(row.items())) for kind, row in counts.items()}, bad


def perform(task: tuple[str, int, bool]) -> Outcome:
    """What a worker does: one mutant."""
    kind, seed, in_process = task
    if in_process:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    return fate(Mutant(kind, seed), in_process=in_process)


if __name__ == "__main__":
    sys.exit(main())
