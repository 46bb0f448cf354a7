"""What recipes cost beside the best hand-written OpenCV, Pillow and numpy code for the same result.

For each chain, rounds of: our chain, then each hand-written variant, one thread, in turns. Medians over the
rounds, in CPU time, which other programs disturb less; the ratio is ours over the fastest variant's, so 1
or less is the aim. Each variant's result is first compared with ours, within one level of UINT8 where a
library rounds to bytes in between.
"""

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from chains import Case, cases
from rich.console import Console
from rich.table import Table

CALL_SECONDS = 0.004  # how long a window of calls lasts at least


def run(
    rounds: int = 15, *, advance: Callable[[], object] = lambda: None
) -> dict[str, dict[str, object]]:
    """Measure every case: CPU microseconds of ours and of each variant, and the ratio to the best."""
    threads, results = cv2.getNumThreads(), {}
    cv2.setNumThreads(1)
    try:
        for case in cases():
            results[case.name] = measured(case, rounds)
            advance()
    finally:
        cv2.setNumThreads(threads)
    return results


def show(report: dict[str, dict[str, object]]) -> None:
    """Print the ratios as a table."""
    columns = ("chain", "ours, us", "hand-written, us", "by", "ratio")
    table = Table(*columns, title="recipes against hand-written code, one thread, CPU time")
    for name, row in report.items():
        times, best = row["microseconds"], str(row["best"])
        table.add_row(
            name,
            f"{times['ours']:.1f}",
            f"{times[best]:.1f}",
            best,
            f"{row['ratio']:.2f}",  # type: ignore[index]
        )
    Console().print(table)


def measured(case: Case, rounds: int) -> dict[str, object]:
    """Check that all variants compute the same, then time them in turns."""
    calls = {"ours": case.ours, **case.variants}
    wanted = case.ours().copy()
    for name, call in calls.items():
        error = float(np.abs(call().astype(np.float64) - wanted).max())
        if error > case.within:
            raise SystemExit(f"{case.name}: '{name}' differs from ours by {error:g}")
    counts = {name: max(1, int(CALL_SECONDS / seconds(call, 3))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, counts[name]) * 1e6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(case.variants, key=medians.__getitem__)
    return {
        "microseconds": {name: round(value, 1) for name, value in medians.items()},
        "best": best,
        "ratio": round(medians["ours"] / medians[best], 3),
    }


def seconds(call: Callable[[], np.ndarray], count: int) -> float:
    """CPU seconds of one of `count` calls."""
    began = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - began) / count


if __name__ == "__main__":
    show(run())
