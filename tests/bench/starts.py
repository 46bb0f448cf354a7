"""From start to first reply, memory, and a million small requests: our server on one small model.

Knows: the small state directory, how a first reply is waited for. Rules: the start is the second one of that
state, so that the kernel cache is warm as on an installed box; memory is PSS, of all processes. Leaves to
others: the loads (`h2load`).
"""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import grpc
from h2load import INFER, counted
from models import MODELS
from replies import References, channel, target
from servers import Server, free_port, holdfast
from states import copied, prepared

STARTS = 3
FIRST_SECONDS_MAX = 60.0
MILLION = 1_000_000
CHUNKS = 20
Bar = Callable[[str, int], Callable[[], object]]


def start(root: Path, options: object, left_out: list[str], bar: Bar) -> dict[str, object]:
    """Seconds to the first reply and memory after it, three starts."""
    home = prepared("small", ["mlp"], keep=options.keep)
    state = copied(home / "state", root / "state-start")
    advance, seconds, memory = bar("starts", STARTS), [], []
    for number in range(STARTS):
        address, began = f"127.0.0.1:{free_port()}", time.perf_counter()
        with holdfast(f"start-{number}", state, root, {}, address=address, wait=False) as server:
            first_reply(server)
            seconds.append(time.perf_counter() - began)
            memory.append(server.memory_mb())
        advance()
    return {
        "first_reply_s": median(seconds),
        "memory_mb": median(memory),
        "rounds": {"first_reply_s": seconds, "memory_mb": memory},
    }


def first_reply(server: Server) -> None:
    """Wait for the port, then for an answer. Raises SystemExit when none comes."""
    host, port = server.address.split(":")
    message = MODELS["mlp"].request().SerializeToString()
    until = time.monotonic() + FIRST_SECONDS_MAX
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
            break
        time.sleep(0.002)
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(grpc.RpcError), channel(server.address) as wire:
            wire.unary_unary(INFER)(message, timeout=5.0)
            return
        time.sleep(0.002)
    raise SystemExit(f"{server.name} gave no reply")


def million(root: Path, options: object, left_out: list[str], bar: Bar) -> dict[str, object]:
    """Memory after each twentieth of a million requests of 16 numbers, 32 callers."""
    requests = int(MILLION * min(options.scale, 1.0))
    home = prepared("small", ["mlp"], keep=options.keep)
    state = copied(home / "state", root / "state-million")
    advance, memory = bar("a million requests", CHUNKS), []
    with holdfast("million", state, root, {}) as server:
        server.models = frozenset(["mlp"])
        sent = target(server, MODELS["mlp"], References(home / "models"))
        answered = 0
        for _ in range(CHUNKS):
            answered += counted(sent, 32, requests // CHUNKS, root).sent
            memory.append(server.memory_mb())
            advance()
    # The first fifth fills caches and the allocator's pools; from there on it should stand still.
    settled = memory[CHUNKS // 5 :]
    return {
        "requests": answered,
        "memory_mb": memory,
        "grown_mb": max(settled[-4:]) - max(settled[:4]),
        "peak_mb": max(memory),
    }
