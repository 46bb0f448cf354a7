"""Serving: our server, the yardsticks and the peers, all up at once, loaded in turn, round by round.

Knows: which loads each part lays on which servers. Rules: every server answers rightly before it is loaded;
what cannot be measured is told in one sentence (`left_out`) and never guessed. Leaves to others: the rounds
(`rounds`), what the figures are held against (`goals`), how they are shown (`figures`).
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median

import competitors
import echoes
import starts
from bare import Bare
from h2load import tool
from loads import CPP, DURABLE, NOT_AWAITED, PLAIN, Bench, Options, all_loads
from models import MODELS
from replies import exact
from rounds import Load, Row, laid, steps
from servers import Server, echo, holdfast, plain_command
from states import STORE, copied, prepared

LANES = ((1, 2), (2, 1), (2, 2))
SYNCS = 100
BARE = ("mlp", "cnn", "resnet50", "bert")


def run(
    options: Options, *, bar: Callable[[str, int], Callable[[], object]] = lambda *_: lambda: None
) -> dict[str, object]:
    """Measure every part; `bar` makes a progress bar of so many steps."""
    home = prepared("all", options.models, keep=options.keep) if options.models else Path()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as directory, ExitStack() as stack:
        bench = Bench(options=options, root=Path(directory), home=home, stack=stack)
        result: dict[str, object] = {"load": tool(), "rounds": options.rounds}
        if options.models:
            result |= loaded(bench, bar)
        for part, measure in (("start", starts.start), ("million", starts.million)):
            if part in options.parts:
                result[part] = measure(bench.root, options, bench.left_out, bar)
        return result | {"left_out": bench.left_out}


def loaded(bench: Bench, bar: Callable[[str, int], Callable[[], object]]) -> dict[str, object]:
    """Start all servers, lay all loads, count records against replies."""
    start_servers(bench)
    bares = bare_engines(bench)
    rates: dict[tuple[str, str], Row] = {}
    loads = all_loads(bench, rates)
    advance = bar("serving", steps(loads, bares, bench.options.rounds))
    rows, ceilings = laid(
        loads, bench.servers, bares, bench.options.rounds,
        root=bench.root, advance=advance, rows=rates,
    )  # fmt: skip
    for bare in bares.values():
        bare.close()
    return {
        "rows": [asdict(row) for row in rows],
        "bare": {name: {"best": bares[name].best, **found} for name, found in ceilings.items()},
        "servers": {
            name: {
                "settings": server.settings,
                "ours": server.ours,
                "headline": server.headline,
                "started_s": server.started_s,
                "memory_mb": server.memory_mb(),
            }
            for name, server in bench.servers.items()
        },
        "records": records(bench, loads),
        "sync_ms": sync_ms(bench.root),
    }


def start_servers(bench: Bench) -> None:
    """Ours twice, the echo servers where they are asked for, and the peers; all start at once."""
    starting: dict[str, AbstractContextManager[Server]] = {}
    for number, (name, tables) in enumerate(settings_of_ours(bench.options).items()):
        state = copied(bench.home / "state", bench.root / f"state-{number}")
        starting[name] = holdfast(name, state, bench.root, tables)
    if {"echo", "picture"} & set(bench.options.parts):
        program, why = echoes.build()
        if program is None:
            bench.left_out.append(why)
        else:
            starting[CPP] = echo(CPP, [program], bench.root, "Debian's libgrpc++, callback API")
        starting[PLAIN] = echo(PLAIN, plain_command(), bench.root, "generated stubs, no options")
    for peer in bench.options.peers:
        starting[peer] = competitors.PEERS[peer](bench.home / "models", bench.root)
    with ThreadPoolExecutor(len(starting)) as threads:
        entered = {name: threads.submit(each.__enter__) for name, each in starting.items()}
        for name, each in starting.items():
            if entered[name].exception() is None:
                bench.stack.push(each)
    for name in starting:
        take(bench, name, entered[name])


def settings_of_ours(options: Options) -> dict[str, dict]:
    """What each of our servers has other than the defaults."""
    found = {DURABLE: {}, NOT_AWAITED: {"audit": {"awaited": False}}}
    if "lanes" in options.parts:
        for lanes, threads in LANES:
            name = f"holdfast, {lanes} lanes of {threads} threads"
            found[name] = {"engine": {"lanes": lanes, "threads": threads}}
    allowed = {"shared_memory": {"allowed": True}} if "picture" in options.parts else {}
    return {name: {**allowed, **tables} for name, tables in found.items()}


def take(bench: Bench, name: str, entered: Future[Server]) -> None:
    """Take a server that is up; one that did not come up is told and left out, unless it is ours."""
    try:
        server = entered.result()
    except (SystemExit, competitors.Absent) as error:
        if name == DURABLE:
            raise
        said = str(error).strip().splitlines()
        bench.left_out.append(f"{name} does not start: {said[-1] if said else 'it says nothing'}")
        return
    if server.ours:
        server.models = frozenset(bench.options.models)
    bench.servers[name] = server


def bare_engines(bench: Bench) -> dict[str, Bare]:
    """The bare engines of the models that are held against theirs, their best setting found."""
    found = {}
    for name in bench.options.models:
        if name in BARE:
            model = MODELS[name]
            found[name] = Bare(bench.home / "state" / STORE, name, model.batches)
            found[name].probe(seconds=1.0 if model.bound == "engine" else 0.3)
    return found


def records(bench: Bench, loads: list[Load]) -> dict[str, object]:
    """For each of our servers: an exact number of requests, and the records they left."""
    if shutil.which("h2load") is None:
        bench.left_out.append(f"records against replies: {tool()}")
        return {}
    small = [load for load in loads if load.model.bound == "transport" and load.rate_of is None]
    return {
        name: exact(server, small[0].targets[name], bench.root)
        for name, server in bench.servers.items()
        if server.ours and small and name in small[0].targets
    }


def sync_ms(root: Path) -> float:
    """The median time of making 4 KB durable where the bench's audit logs are, in milliseconds."""
    times = []
    with (root / "synced").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1000
