"""What the fake of a GPU pretends, told to a child process by its environment.

Knows: names, sizes and faults on demand. Rules: a fault with a token happens once, however many processes are told of it.
Leaves to others: acting on it (`tests.gpu.fakes`).
"""

import os
from pathlib import Path

import msgspec

VARIABLE = "HOLDFAST_FAKE_GPU"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `at`-th call of a method, from 1, goes wrong; with a `token`, only while that file can be removed.

    `kind` is "lost", "error", "memory", "unusable", "exit" (the process ends) or "hang" (until it is killed).
    """

    call: str
    at: int = 1
    kind: str = "lost"
    token: str = ""


class Pretence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the fake says that it is. `ledger` is a file that gets counts of calls, and leaks, at each close."""

    name: str = "Fake GPU"
    capability: tuple[int, int] = (9, 0)
    memory_bytes: int = 1 << 30
    faults: tuple[Fault, ...] = ()
    ledger: str = ""


def pretended() -> Pretence:
    """What the environment says, or every default."""
    told = os.environ.get(VARIABLE)
    return msgspec.json.decode(told, type=Pretence) if told else Pretence()


def due(fault: Fault) -> bool:
    if not fault.token:
        return True
    try:
        Path(fault.token).unlink()
    except FileNotFoundError:
        return False
    return True
