"""The loads: which models are asked of which servers, by how many callers, in the order of a round.

Knows: the parts of a run and what each needs. Rules: a server that answers wrongly gets no load and is told;
heavy models and the echo are asked by the fewest and the most callers only, so that a run stays short.
Leaves to others: starting the servers (`serving`), laying the loads (`rounds`).
"""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from h2load import Target, tool
from models import MODELS, Model
from replies import References, WrongReply, shared_target, target
from rounds import Load, Row
from servers import Server
from tritonclient.utils import shared_memory

DURABLE, NOT_AWAITED = "holdfast", "holdfast, not awaited"
CPP, PLAIN = "C++ gRPC echo", "grpc.aio echo"
PARTS = ("echo", "mlp", "cnn", "resnet50", "bert", "picture", "poisson", "start")
MORE_PARTS = ("lanes", "million")
CALLERS = (1, 8, 32)
SHARED, BYTES = "picture in shared memory", "picture as bytes"
NEEDS = {
    "picture": ("picture", "picture-bytes"),
    "poisson": (),
    "lanes": ("resnet50",),
    "start": (),
    "million": (),
}
POISSON_SECONDS = 5.0
# Of those that are only asked by the fewest and the most callers.
SPARSE = frozenset({"echo", "resnet50", "bert"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is measured: parts, rounds, callers, a factor on every window, and whether peers take part."""

    parts: tuple[str, ...] = PARTS
    rounds: int = 3
    callers: tuple[int, ...] = CALLERS
    scale: float = 1.0
    peers: tuple[str, ...] = ()
    keep: bool = False

    @property
    def ends(self) -> tuple[int, ...]:
        """The fewest and the most callers."""
        return tuple(sorted({min(self.callers), max(self.callers)}))

    @property
    def models(self) -> list[str]:
        """The models that the parts need."""
        found = [name for part in self.parts for name in NEEDS.get(part, (part,))]
        return list(dict.fromkeys(found))


@dataclass(slots=True)
class Bench:
    """One run: the servers that are up, what was left out, and the directory it works in."""

    options: Options
    root: Path
    home: Path
    stack: ExitStack
    servers: dict[str, Server] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def targets(self, model: Model, names: Iterable[str]) -> dict[str, Target]:
        """What is sent to each of the servers that answer the model rightly."""
        references, found = References(self.home / "models"), {}
        for name in names:
            try:
                found[name] = target(self.servers[name], model, references)
            except WrongReply as error:
                self.left_out.append(str(error).splitlines()[0])
        return found


def all_loads(bench: Bench, rates: dict[tuple[str, str], Row]) -> list[Load]:
    """Every load of every part, in the order in which a round lays them."""
    found: list[Load] = []
    for part in bench.options.parts:
        if part in MODELS and part != "picture":
            found += model_loads(bench, MODELS[part])
    if "picture" in bench.options.parts:
        found += picture_loads(bench)
    if "lanes" in bench.options.parts:
        names = [name for name in bench.servers if " lanes " in name]
        found += loads_of(bench, MODELS["resnet50"], names, (max(bench.options.callers),), "lanes")
    if "poisson" in bench.options.parts:
        found += poisson_loads(bench, rates)
    return found


def model_loads(bench: Bench, model: Model) -> list[Load]:
    """The closed loops of one model, on every server that has it."""
    peers = [
        name
        for name, server in bench.servers.items()
        if model.name in server.models and not server.ours
    ]
    others = (NOT_AWAITED, CPP, PLAIN) if model.name == "echo" else (NOT_AWAITED,)
    names = [DURABLE, *(name for name in others if name in bench.servers), *peers]
    callers = bench.options.ends if model.name in SPARSE else bench.options.callers
    found = loads_of(bench, model, names, callers, model.name)
    for load in found:
        # One call of a heavy model is so long that a lone caller cannot tell the record's wait from noise.
        if model.bound == "engine" and load.callers < max(callers):
            load.targets.pop(NOT_AWAITED, None)
    return found


def loads_of(
    bench: Bench, model: Model, names: list[str], callers: tuple[int, ...], name: str
) -> list[Load]:
    """One closed loop for each number of callers."""
    targets = bench.targets(model, names)
    return [
        Load(
            name=f"{name} x{count}", model=model, callers=count, targets=dict(targets),
            seconds=model.seconds * bench.options.scale,
        )
        for count in callers
        if targets
    ]  # fmt: skip


def picture_loads(bench: Bench) -> list[Load]:
    """602 KB of floats over the wire, the same pixels as bytes, and the floats in shared memory."""
    names = [name for name in (DURABLE, CPP) if name in bench.servers]
    callers = (max(bench.options.callers),)
    found = loads_of(bench, MODELS["picture"], names, callers, "picture")
    found += loads_of(bench, MODELS["picture-bytes"], [DURABLE], callers, BYTES)
    try:
        references = References(bench.home / "models")
        sent, region = shared_target(bench.servers[DURABLE], MODELS["picture"], references)
    except WrongReply as error:
        bench.left_out.append(str(error).splitlines()[0])
        return found
    bench.stack.callback(shared_memory.destroy_shared_memory_region, region)
    seconds = MODELS["picture"].seconds * bench.options.scale
    return found + [
        Load(
            name=f"{SHARED} x{count}", model=MODELS["picture"], callers=count,
            targets={DURABLE: sent}, seconds=seconds,
        )
        for count in callers
    ]  # fmt: skip


def poisson_loads(bench: Bench, rates: dict[tuple[str, str], Row]) -> list[Load]:
    """Poisson arrivals at 80 % of what the same run's closed loop reached."""
    if shutil.which("h2load") is None:
        bench.left_out.append(f"Poisson arrivals: {tool()}")
        return []
    found, most = [], max(bench.options.callers)
    for name in ("resnet50", "bert"):
        if name not in bench.options.parts:
            bench.left_out.append(f"Poisson arrivals need the part {name} in the same run")
            continue

        def rate_of(server: str, full: str = f"{name} x{most}") -> float:
            return rates[full, server].median("rate")

        model = MODELS[name]
        load = Load(
            name=f"{name} poisson", model=model, callers=0, rate_of=rate_of,
            targets=bench.targets(model, [DURABLE]), seconds=POISSON_SECONDS * bench.options.scale,
        )  # fmt: skip
        found.append(load)
    return found
