"""Three times as many requests as the box can answer, for a minute: what comes of them, and how soon it is over.

Capacity is measured first, by callers that wait for their answers; then requests come on a Poisson schedule,
whatever becomes of those before. Told: the rate of right answers against capacity, how the rest was refused, and
with which hint; the server's memory; and how long after the last one a lone request takes no longer than before.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import grpc
import numpy as np
from h2load import INFER
from models import MODELS
from replies import References, target
from rich.console import Console
from servers import Server, holdfast
from states import copied, prepared

TIMES, SECONDS, CALLERS, DEADLINE_SECONDS = 3.0, 60.0, 32, 2.0
CAPACITY_SECONDS = 10.0
CALM_FACTOR, CALM_SECONDS_MAX = 2.0, 60.0
GOODPUT_GOAL = 0.9
HINT = "grpc-retry-pushback-ms"
HINTED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Caller:
    """One client of the server under load; `ended` holds (when, status, whether hinted, seconds taken)."""

    def __init__(self, address: str, message: bytes) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        )
        self._call, self._message = self._channel.unary_unary(INFER), message
        self.ended: list[tuple[float, grpc.StatusCode, bool, float]] = []

    async def ask(self, allowed: float | None = None) -> float:
        """One request, with so many seconds to be answered in; those that it took."""
        began, status, hinted = time.perf_counter(), grpc.StatusCode.OK, False
        try:
            await self._call(self._message, timeout=allowed)
        except grpc.aio.AioRpcError as error:
            status = error.code()
            hinted = HINT in dict(error.trailing_metadata() or ())
        now = time.perf_counter()
        self.ended.append((now, status, hinted, now - began))
        return now - began

    async def closed(self, callers: int, seconds: float) -> float:
        """Answers a second while so many callers each wait for theirs."""
        until, before = time.perf_counter() + seconds, len(self.ended)

        async def one() -> None:
            while time.perf_counter() < until:
                await self.ask()

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(callers)))
        return (len(self.ended) - before) / (time.perf_counter() - began)

    async def poisson(self, rate: float, seconds: float, allowed: float | None) -> None:
        """Send on a Poisson schedule, and wait for the last end."""
        gaps = np.random.default_rng(1).exponential(1 / rate, int(rate * seconds))
        due, asked = time.perf_counter() + np.cumsum(gaps), []
        for at in due:
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            asked.append(asyncio.ensure_future(self.ask(allowed)))
        await asyncio.gather(*asked)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


async def measured(server: Server, message: bytes, options: argparse.Namespace) -> dict:
    """Capacity, overload, recovery."""
    caller = Caller(server.address, message)
    alone = median([await caller.ask() for _ in range(20)])
    await caller.closed(CALLERS, 2.0)
    capacity = await caller.closed(CALLERS, CAPACITY_SECONDS)
    memory = [server.memory_mb()]
    caller.ended.clear()
    began = time.perf_counter()
    load = asyncio.ensure_future(
        caller.poisson(TIMES * capacity, options.seconds, options.deadline or None)
    )
    while not load.done():
        await asyncio.wait([load], timeout=options.seconds / 20)
        memory.append(server.memory_mb())
    over = time.perf_counter()
    ended = list(caller.ended)
    calm = await recovered(caller, alone)
    again = await caller.closed(CALLERS, CAPACITY_SECONDS / 2)
    await caller.close()
    # The first seconds fill the queue; after the last request was sent, it is emptied.
    inside = [one for one in ended if began + 2.0 < one[0] < began + options.seconds]
    right = [one for one in inside if one[1] is grpc.StatusCode.OK]
    refused = [one for one in ended if one[1] in HINTED]
    return {
        "alone_ms": alone * 1000, "capacity": capacity, "offered": len(ended) / options.seconds,
        "goodput": len(right) / (options.seconds - 2.0),
        "statuses": {code.name: count for code, count in Counter(one[1] for one in ended).items()},
        "hinted": sum(one[2] for one in refused) / max(len(refused), 1),
        "answer_p50_ms": quantile(right, 0.5), "answer_p99_ms": quantile(right, 0.99),
        "refusal_p50_ms": quantile(refused, 0.5), "refusal_p99_ms": quantile(refused, 0.99),
        "memory_mb": memory, "drained_s": over - began - options.seconds, "calm_s": calm,
        "capacity_after": again,
    }  # fmt: skip


async def recovered(caller: Caller, alone: float) -> float:
    """Seconds until a lone request takes about what it took before."""
    began = time.perf_counter()
    while await caller.ask() > CALM_FACTOR * alone:
        if time.perf_counter() - began > CALM_SECONDS_MAX:
            break
    return time.perf_counter() - began


def quantile(ended: list, share: float) -> float:
    """Of the time taken, in milliseconds; 0 without any."""
    return float(np.quantile([one[3] for one in ended], share)) * 1000 if ended else 0.0


def run(root: Path, options: argparse.Namespace) -> dict:
    """Measure on a server of its own."""
    home = prepared("swaps", [options.model], keep=options.keep)
    state = copied(home / "state", root / "state-overload")
    with holdfast("overload", state, root, {}) as server:
        server.models = frozenset([options.model])
        sent = target(server, MODELS[options.model], References(home / "models"))
        found = asyncio.run(measured(server, sent.message, options))
    return {
        "model": options.model,
        "deadline_s": options.deadline,
        "seconds": options.seconds,
        **found,
    }


def show(found: dict) -> None:
    """The figures beside their goals."""
    share, memory = found["goodput"] / found["capacity"], found["memory_mb"]
    Console().print(
        f"{found['model']}: {found['offered']:.0f} requests a second offered for {found['seconds']:.0f} s, "
        f"capacity {found['capacity']:.1f}: goodput {found['goodput']:.1f}, {share:.2f} of capacity "
        f"(goal {GOODPUT_GOAL}); answers in {found['answer_p50_ms']:.0f} ms, p99 {found['answer_p99_ms']:.0f} ms; "
        f"refusals in {found['refusal_p50_ms']:.1f} ms, p99 {found['refusal_p99_ms']:.0f} ms, "
        f"{found['hinted']:.0%} with a hint; {found['statuses']}; memory {memory[0]:.0f} MB before, "
        f"{max(memory):.0f} MB at most; the queue empty {found['drained_s']:.1f} s after the last request, "
        f"a lone request as before {found['calm_s']:.1f} s later; capacity then "
        f"{found['capacity_after'] / found['capacity']:.2f} of before"
    )  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a run."""
    parser.add_argument("--model", choices=sorted(MODELS), default="resnet50")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE_SECONDS, help="of each request; 0: none"
    )
    parser.add_argument("--keep", action="store_true", help="built models as they stand")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("build/overload.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-overload-") as root:
        found = run(Path(root), options)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
