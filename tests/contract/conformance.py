"""Run every case of onnx.backend.test through the house; write docs/conformance.md and its JSON.

    python tests/contract/conformance.py [--workers N] [--match TEXT]

With --match only the cases whose name has TEXT run, their verdicts are printed and nothing is written.
Exit code 1 when an answer was wrong or a process crashed or hung.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / "build" / "numba"))

from cases import KINDS, Case, all_cases  # noqa: E402
from house import ALONE, CRASHED, PASSED, WAYS, Outcome, outcome_of  # noqa: E402
from page import JSON, Report, merged, read_report, write_report  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from verdicts import NEEDS, Grouped, Verdict, counted, counts, grouped, reason_of, verdict  # noqa: E402
from workers import HUNG, Ended, each_result  # noqa: E402

SECONDS_MAX = 180.0  # for one case one way; the first one of a worker waits for imports too
Outcomes = dict[str, dict[str, Outcome]]  # by case, then way
COMMAND = "python tests/contract/conformance.py"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes at once")
    parser.add_argument("--match", default="", help="only cases whose name has this text")
    options = parser.parse_args()
    cases = [case for case in all_cases() if options.match in case.name]
    outcomes = run(cases, options.workers)
    report = reported(cases, outcomes)
    if options.match:
        for case in cases:
            print(case.name, verdict(outcomes[case.name]), outcomes[case.name][ALONE].what)
    else:
        write_report(report)
    found = counts(merged([*report.house.values()]))
    print(found)
    return int(any(found.get(word) for word in NEEDS))


def run(cases: Iterable[Case], workers: int) -> Outcomes:
    """Every case every way, in worker processes, with a bar on standard error."""
    tasks = [(case.name, way) for case in cases for way in WAYS]
    outcomes: Outcomes = {name: {} for name, _ in tasks}
    results = each_result(perform, tasks, workers=workers, seconds_max=SECONDS_MAX)
    bar = Console(stderr=True)
    for (name, way), result in track(results, "running cases", total=len(tasks), console=bar):
        outcomes[name][way] = ended(result) if isinstance(result, Ended) else result
    return outcomes


def perform(task: tuple[str, str]) -> Outcome:
    """What a worker does: one case one way."""
    name, way = task
    return outcome_of(next(case for case in all_cases() if case.name == name), way)


def ended(result: Ended) -> Outcome:
    """The outcome of a case whose process did not live to tell."""
    return Outcome(what=HUNG if result.what == HUNG else CRASHED, code=result.what, text=result.how)


def reported(cases: list[Case], outcomes: Outcomes) -> Report:
    """The report of these cases; a fuzzing run told before is kept."""
    verdicts = {name: verdict(found) for name, found in outcomes.items()}
    return Report(
        command=COMMAND,
        versions=versions(),
        house={kind: groups_of(cases, kind, verdicts) for kind in KINDS},
        ways={
            way: counted(
                grouped(
                    (name, found[way].what, reason_of(found[way]))
                    for name, found in outcomes.items()
                )
            )
            for way in WAYS
        },
        beyond=grouped(
            (name, verdicts[name].what, verdicts[name].reason)
            for name, found in outcomes.items()
            if found[ALONE].what == PASSED and verdicts[name].what != PASSED
        ),
        fuzzing=read_report().fuzzing if JSON.exists() else (),
    )


def groups_of(cases: list[Case], kind: str, verdicts: dict[str, Verdict]) -> Grouped:
    """The verdicts of the cases of one kind."""
    names = [case.name for case in cases if case.kind == kind]
    return grouped((name, verdicts[name].what, verdicts[name].reason) for name in names)


def versions() -> dict[str, str]:
    """What the outcomes depend on."""
    libraries = {name: version(name) for name in ("onnx", "onnxruntime", "openvino", "numpy")}
    return {**libraries, "Python": platform.python_version(), "on": platform.machine()}


if __name__ == "__main__":
    sys.exit(main())
