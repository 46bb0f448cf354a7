"""What tests of GPU owners share: an owner over the fake, programs for the stand-in."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.config import GpuConfig
from runtime.gpu.here import OwnerHere
from runtime.gpu.opened import Lane
from runtime.gpu.owner import Owner
from runtime.gpu.program import CopyIn, CopyOut, Execute, Place, Program
from tests.gpu.pretence import VARIABLE, Pretence
from tests.gpu.standin import write_standin
from tests.gpu.standin_kernels import fake_plan

EXECUTIONS, DEVICES = "tests.gpu.standin:open_execution", "tests.gpu.fakes:open_fake"
WIDTH = 4
BROKEN = 666.0


def pretend(monkeypatch: pytest.MonkeyPatch, **told: Any) -> None:
    """Let fakes that are opened from now on be so."""
    monkeypatch.setenv(VARIABLE, msgspec.json.encode(Pretence(**told)).decode())


@contextmanager
def owner(**settings: Any) -> Iterator[Owner]:
    """An owner of a fake GPU."""
    opened = Owner(executions=EXECUTIONS, devices=DEVICES, settings=GpuConfig(**settings))
    try:
        yield opened
    finally:
        opened.close()


def owner_here(**settings: Any) -> OwnerHere:
    """The same in this process."""
    return OwnerHere(executions=EXECUTIONS, devices=DEVICES, settings=GpuConfig(**settings))


def until(holds: Callable[[], bool]) -> None:
    """Wait until `holds` is true; what never is, the limit of the test ends."""
    while not holds():
        time.sleep(0.005)


def engine_file(path: Path, **plan: Any) -> Path:
    """An engine file of the stand-in, broken by BROKEN."""
    write_standin(path, fake_plan(width=WIDTH, broken_at=BROKEN, **plan))
    return path


def program(rows: int, **told: Any) -> Program:
    """A batch in, through the engine, out: the input at the slot's beginning, the output behind it."""
    size = rows * WIDTH * 4
    out = -(-size // 256) * 256
    steps = (
        CopyIn(slot=0, to=Place(space="arena", offset=0), size=size),
        Execute(
            shapes={"x": (rows, WIDTH)},
            inputs={"x": Place(space="arena", offset=0)},
            outputs={"y": Place(space="arena", offset=out)},
        ),
        CopyOut(source=Place(space="arena", offset=out), slot=out, size=size),
    )
    return Program(steps=steps, slot_bytes=out + size, arena_bytes=out + size, **told)


def computed(lane: Lane, number: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run a `program` of these rows on `x`."""
    out = -(-x.nbytes // 256) * 256
    np.ndarray(x.shape, np.float32, lane.slot)[:] = x
    lane.run(number)
    return np.ndarray(x.shape, np.float32, lane.slot, out).copy()


def some(rows: int, first: float = 1.0) -> np.ndarray[Any, Any]:
    """An input."""
    return np.arange(first, first + rows * WIDTH, dtype=np.float32).reshape(rows, WIDTH)


def ledger(path: Path) -> list[dict[str, Any]]:
    """What fakes wrote at their ends."""
    return [json.loads(line) for line in path.read_text().splitlines()]
