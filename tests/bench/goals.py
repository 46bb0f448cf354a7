"""What serving is held against: each goal a ratio of one run, with the figure that was found.

Knows: the goals and how each is read from a run's result. Rules: ratios are paired round by round and their
median is judged; what the run did not measure is "not measured", never guessed. Leaves to others: measuring
(`serving`) and showing (`figures`).

Run as a program with the paths of results it prints their goals as one Markdown table.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from competitors import TRITON
from loads import BYTES, CPP, DURABLE, NOT_AWAITED, PLAIN, SHARED
from rich.console import Console
from rich.table import Table
from starts import MILLION

MOST = 32
SYNCS_OF_ONE = 2
ADDED_MS = 0.5
FLAT_MB = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal: at least or at most `limit`. `found` is None where the run did not measure it."""

    name: str
    limit: float
    found: float | None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """In one word or two."""
        if self.found is None:
            return "not measured"
        held = self.found <= self.limit if self.at_most else self.found >= self.limit
        return "held" if held else "missed"


class Figures:
    """A run's result, asked for ratios."""

    def __init__(self, result: dict) -> None:
        self.result = result
        self._rows = {(row["load"], row["server"]): row for row in result.get("rows", [])}

    def windows(self, load: str, server: str, key: str) -> list[float] | None:
        """A figure of every round, None where it was not measured."""
        row = self._rows.get((load, server))
        return [window[key] for window in row["windows"]] if row else None

    def value(self, load: str, server: str, key: str) -> float | None:
        """Its median."""
        found = self.windows(load, server, key)
        return median(found) if found else None

    def ratio(
        self, load: str, over: str, under: str, key: str = "rate", *, than: str = ""
    ) -> float | None:
        """The median of one server's figure over another's; `than` is the other's load if it differs."""
        return paired(self.windows(load, over, key), self.windows(than or load, under, key))

    def of_bare(self, model: str, callers: int, server: str = DURABLE) -> float | None:
        """Served rows over the bare engine's on both cores."""
        bare = self.result.get("bare", {}).get(model, {}).get("both_cores")
        return paired(self.windows(f"{model} x{callers}", server, "rate"), bare)

    def part(self, name: str, key: str) -> float | None:
        """A figure of a part that is not made of rows."""
        return self.result.get(name, {}).get(key)


def paired(over: list[float] | None, under: list[float] | None) -> float | None:
    """The median of the ratios of each round."""
    if not over or not under:
        return None
    return median(mine / theirs for mine, theirs in zip(over, under, strict=True))


def goals(result: dict) -> list[Goal]:
    """Every goal with its figure."""
    figures = Figures(result)
    return [
        *engine_bound(figures), *small_models(figures), *wire(figures), *durability(figures),
        *rest(figures),
    ]  # fmt: skip


def engine_bound(figures: Figures) -> Iterator[Goal]:
    """Models that compute for milliseconds."""
    for model in ("resnet50", "bert"):
        yield Goal(
            name=f"{model}: served of bare, {MOST} callers", limit=0.95,
            found=figures.of_bare(model, MOST),
        )  # fmt: skip
        ratio = None
        slow, usual = (
            figures.windows(f"{model} poisson", DURABLE, key) for key in ("p99_ms", "p50_ms")
        )
        if slow and usual:
            ratio = paired(slow, usual)
        yield Goal(
            name=f"{model}: p99 over p50, Poisson at 80 %", limit=2.0, found=ratio, at_most=True
        )
        yield Goal(
            name=f"{model}: added at one caller, ms", limit=added_limit(figures),
            found=added(figures, model), at_most=True,
        )  # fmt: skip
    lanes = [load for load, _ in figures._rows if load.startswith("lanes")]
    worst = None
    if lanes:
        bare = figures.result["bare"]["resnet50"]["both_cores"]
        worst = min(
            paired(figures.windows(load, server, "rate"), bare)
            for load, server in figures._rows
            if load in lanes
        )
    yield Goal(name="resnet50: served of bare, worst of lanes x threads", limit=0.90, found=worst)


def added_limit(figures: Figures) -> float:
    """Two fdatasyncs and half a millisecond."""
    return SYNCS_OF_ONE * figures.result.get("sync_ms", 0.0) + ADDED_MS


def added(figures: Figures, model: str) -> float | None:
    """Milliseconds over the bare engine on one row, all threads."""
    latency = figures.windows(f"{model} x1", DURABLE, "p50_ms")
    alone = figures.result.get("bare", {}).get(model, {}).get("one_row")
    if not latency or not alone:
        return None
    return median(mine - 1000 / rate for mine, rate in zip(latency, alone, strict=True))


def small_models(figures: Figures) -> Iterator[Goal]:
    """The CNN and the tiny MLP, beside the peers."""
    yield Goal(
        name="cnn: served of bare, 32 callers", limit=0.55, found=figures.of_bare("cnn", MOST)
    )
    for callers in (8, MOST):
        load = f"cnn x{callers}"
        for peer, limit in ((TRITON, 1.0), ("MLServer", 5.0)):
            found = figures.ratio(load, DURABLE, peer)
            yield Goal(name=f"cnn over {peer}, {callers} callers", limit=limit, found=found)
    for callers, limit in ((1, 1.5), (8, 1.3), (MOST, 1.2)):
        found = figures.ratio(f"mlp x{callers}", NOT_AWAITED, TRITON)
        name = f"mlp over {TRITON}, record not awaited, {callers} callers"
        yield Goal(name=name, limit=limit, found=found)
    for peer, limit in ((TRITON, 1.0), ("MLServer", 5.0), ("PyTriton", 3.0)):
        found = figures.ratio(f"mlp x{MOST}", DURABLE, peer)
        yield Goal(name=f"mlp over {peer}, durable, {MOST} callers", limit=limit, found=found)
    for callers in (1, 8, MOST):
        found = figures.ratio(f"mlp x{callers}", DURABLE, TRITON, "p99_ms")
        name = f"mlp: p99 over {TRITON}'s, durable, {callers} callers"
        yield Goal(name=name, limit=1.0, found=found, at_most=True)


def wire(figures: Figures) -> Iterator[Goal]:
    """The product path without arithmetic, and large inputs."""
    for other, limit in ((CPP, 0.35), (PLAIN, 3.0)):
        for server in (DURABLE, NOT_AWAITED):
            found = figures.ratio(f"echo x{MOST}", server, other)
            told = "durable" if server == DURABLE else "record not awaited"
            yield Goal(name=f"echo over {other}, {told}, {MOST} callers", limit=limit, found=found)
    plain = f"picture x{MOST}"
    for name in (BYTES, SHARED):
        found = figures.ratio(f"{name} x{MOST}", DURABLE, DURABLE, than=plain)
        yield Goal(name=f"{name} over 602 KB of floats, {MOST} callers", limit=2.0, found=found)
    found = figures.ratio(plain, DURABLE, CPP, "server_us")
    yield Goal(
        name=f"602 KB: server CPU a request over {CPP}'s", limit=1.5, found=found, at_most=True
    )


def durability(figures: Figures) -> Iterator[Goal]:
    """What a durable record costs over one that is not awaited, and that each reply has one."""
    for model, limit in (("resnet50", 0.95), ("bert", 0.95), ("mlp", 0.85)):
        found = figures.ratio(f"{model} x{MOST}", DURABLE, NOT_AWAITED)
        yield Goal(
            name=f"{model}: durable over not awaited, {MOST} callers", limit=limit, found=found
        )
    counts = figures.result.get("records", {}).get(DURABLE)
    found = counts["records"] / counts["replies"] if counts else None
    yield Goal(name="records over replies, durable, counted exactly", limit=1.0, found=found)


def rest(figures: Figures) -> Iterator[Goal]:
    """Start and memory."""
    for name, key, limit in (
        ("start to first reply, s", "first_reply_s", 1.0),
        ("memory with a small model, MB", "memory_mb", 100.0),
    ):
        yield Goal(name=name, limit=limit, found=figures.part("start", key), at_most=True)
    sent = figures.part("million", "requests") or 0
    grown = figures.part("million", "grown_mb") if sent >= MILLION else None
    yield Goal(
        name="memory grown over a million requests, MB", limit=FLAT_MB, found=grown, at_most=True
    )


def show(result: dict, console: Console) -> None:
    """Print every goal with its figure and verdict."""
    table = Table("goal", "wanted", "found", "", title="goals, medians of ratios within rounds")
    for goal in goals(result):
        table.add_row(*cells(goal))
    console.print(table)


def cells(goal: Goal) -> tuple[str, str, str, str]:
    """A goal as a row of a table."""
    sign = "<=" if goal.at_most else ">="
    found = "" if goal.found is None else f"{goal.found:.3g}"
    return goal.name, f"{sign} {goal.limit:.3g}", found, goal.verdict


def markdown(results: list[dict]) -> str:
    """The goals of several runs as a Markdown table, each from the first run that measured it."""
    lines = ["| goal | wanted | found | |", "|---|---|---|---|"]
    for same in zip(*(goals(result) for result in results), strict=True):
        goal = next((each for each in same if each.found is not None), same[0])
        lines.append(f"| {' | '.join(cells(goal))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown([json.loads(Path(name).read_text())["serving"] for name in sys.argv[1:]]))
