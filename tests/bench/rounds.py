"""Rounds: every load on every server in turn, so that a slow minute of the machine hits all alike.

Knows: what is read around a window (processor time of the server and of everything else, the server's own
statistics). Rules: the order of the servers turns from round to round; each ratio is of one round, and the
median is taken of the ratios. Leaves to others: which loads there are (`serving`), how one is laid (`h2load`).
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bare import Bare
from h2load import Silent, Target, Window, closed, poisson
from models import Model
from replies import statistics
from servers import TICKS, Server

ANSWERED_MIN = 0.97
POISSON_SHARE = 0.8
BARE_SECONDS_MAX = 1.5
PATIENCE = (1, 3, 9)
STEADY = (0.75, 1.3)
PARTS = ("transport", "decode", "queue", "engine", "record", "encode")


@dataclass(slots=True, kw_only=True)
class Row:
    """One load on one server: what is sent, by how many callers, and the window of each round."""

    load: str
    model: str
    server: str
    callers: int
    windows: list[dict] = field(default_factory=list)

    def median(self, key: str) -> float:
        """The median over the rounds."""
        return median(window[key] for window in self.windows)


@dataclass(slots=True, kw_only=True)
class Load:
    """A load to be laid on several servers: `targets` by the server's name.

    `rate_of` makes it Poisson: it gives the rate at full load of a server, by name.
    """

    name: str
    model: Model
    callers: int
    seconds: float
    targets: dict[str, Target]
    rate_of: Callable[[str], float] | None = None


def laid(
    loads: Iterable[Load],
    servers: dict[str, Server],
    bares: dict[str, Bare],
    rounds: int,
    *,
    root: Path,
    advance: Callable[[], object],
    rows: dict[tuple[str, str], Row],
) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Lay every load on every server, `rounds` times; rows, and the bare engines' rates by model.

    `rows` is filled as the rounds go, by load and server, for loads that depend on others' rates.
    """
    loads = list(loads)
    for load in loads:
        for name in load.targets:
            rows[load.name, name] = Row(
                load=load.name, model=load.model.name, server=name, callers=load.callers
            )
    ceilings = {name: {"one_thread": [], "one_row": [], "both_cores": []} for name in bares}
    for number in range(rounds):
        for name, bare in bares.items():
            seconds = min(max_seconds(loads, name), BARE_SECONDS_MAX)
            ceilings[name]["one_thread"].append(bare.one_thread(seconds / 2))
            ceilings[name]["one_row"].append(bare.one_row(seconds / 2))
            ceilings[name]["both_cores"].append(bare.both_cores(seconds))
            advance()
        for load in loads:
            names = list(load.targets)
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                found = window(load, servers[name], number, root)
                rows[load.name, name].windows.append(found)
                advance()
    return list(rows.values()), ceilings


def max_seconds(loads: list[Load], model: str) -> float:
    """The longest window of a model's loads."""
    return max((load.seconds for load in loads if load.model.name == model), default=1.0)


def steps(loads: Iterable[Load], bares: dict[str, Bare], rounds: int) -> int:
    """How often `laid` tells that it moved on."""
    return rounds * (len(bares) + sum(len(load.targets) for load in loads))


def window(load: Load, server: Server, number: int, root: Path) -> dict[str, float]:
    """One window with what was read around it.

    Raises SystemExit when replies of ours were no replies; a peer's are told beside its figures.
    """
    counts = totals(server, load.model)
    cpu, busy, began = server.cpu_seconds(), machine_seconds(), time.perf_counter()
    found = sent(load, server, number, root)
    took = time.perf_counter() - began
    cpu, busy = server.cpu_seconds() - cpu, machine_seconds() - busy
    if found.answered < ANSWERED_MIN and not server.peer:
        raise SystemExit(
            f"{server.name} gave {1 - found.answered:.1%} wrong replies under {load.name}, "
            f"{load.callers} callers"
        )
    client = found.client_us * found.sent / 1e6
    result = {**asdict(found), **found.more}
    result.pop("more")
    result["server_us"] = cpu * 1e6 / found.sent
    result["server_share"] = cpu / took
    result["other_share"] = max(busy - cpu - client, 0.0) / took
    result["parts_us"] = parts(found, counts, totals(server, load.model))
    return result


def sent(load: Load, server: Server, number: int, root: Path) -> Window:
    """Lay the load; a closed window too short for the server's latency is tried again, longer.

    It was too short when rate times latency is far from the number of callers (Little's law). Raises
    SystemExit when nothing comes back in the longest one either.
    """
    target, found, why = load.targets[server.name], None, ""
    if load.rate_of is not None:
        rate = POISSON_SHARE * load.rate_of(server.name)
        return poisson(target, rate, load.seconds, number, root)
    for longer in PATIENCE:
        try:
            found = closed(target, load.callers, load.seconds * longer, root)
        except Silent as error:
            why = str(error)
        else:
            in_flight = found.rate * found.mean_ms / 1000
            if STEADY[0] < in_flight / load.callers < STEADY[1]:
                return found
    if found is None:
        raise SystemExit(f"{server.name} under {load.name}: {why}")
    return found


def machine_seconds() -> float:
    """Processor time that the whole machine has spent working so far."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(value) for value in fields[:7])
    return (user + nice + system + irq + softirq) / TICKS


def totals(server: Server, model: Model) -> dict[str, float]:
    """Nanoseconds and counts of our server's statistics for a model, nothing of other servers."""
    if not server.ours:
        return {}
    found = dict.fromkeys(("count", "success", "queue", "input", "infer", "output"), 0.0)
    for each in statistics(server.address, model.name):
        stats = each.inference_stats
        found["count"] += stats.success.count
        found["success"] += stats.success.ns
        found["queue"] += stats.queue.ns
        found["input"] += stats.compute_input.ns
        found["infer"] += stats.compute_infer.ns
        found["output"] += stats.compute_output.ns
    return found


def parts(found: Window, before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Microseconds of a mean request in each part, by our server's own statistics.

    `success` runs from the message's arrival to the reply's hand-over; what no other part takes of it is
    the wait for the record. What the client waits beyond it is the transport's.
    """
    grown = {key: after[key] - before[key] for key in before}
    if not grown or not grown["count"]:
        return {}
    mean = {key: value / grown["count"] / 1000 for key, value in grown.items()}
    known = mean["queue"] + mean["input"] + mean["infer"] + mean["output"]
    return {
        "transport": max(found.mean_ms * 1000 - mean["success"], 0.0),
        "decode": mean["input"],
        "queue": mean["queue"],
        "engine": mean["infer"],
        "record": max(mean["success"] - known, 0.0),
        "encode": mean["output"],
    }


def paired(over: Row, under: Row, key: str = "rate") -> list[float]:
    """The ratio of two rows' windows, round by round."""
    return [
        mine[key] / theirs[key] for mine, theirs in zip(over.windows, under.windows, strict=True)
    ]
