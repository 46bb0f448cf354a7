"""The child's program: takes one order on standard input, performs it, tells what came of it.

Knows: the order of a child's life. Rules: the fences are up before the act's module is imported; what
libraries print goes to standard error, for the pipe is ours; memory that ran out is told as the limit it
is. Leaves to others: the act, and believing what is told (`parent`).
"""

import importlib
import os
import sys
import traceback
from typing import Any, BinaryIO

import msgspec

from appliance.errors import ApplianceError
from compiler.child.exhaustion import exhausted, out_of_memory
from compiler.child.fences import raise_fences
from compiler.child.messages import Done, Fenced, Order, Stage, Step, Told, failed


class Telling:
    """A Progress that writes to the pipe."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe

    def stage(self, name: str, steps: int = 1) -> None:
        """See Progress."""
        self.tell(Stage(name=name, steps=steps))

    def step(self, steps: int = 1) -> None:
        """See Progress."""
        self.tell(Step(steps=steps))

    def tell(self, message: Told) -> None:
        """Write one line."""
        self._pipe.write(msgspec.json.encode(message) + b"\n")
        self._pipe.flush()


def main() -> None:
    """Perform the order on standard input."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with os.fdopen(order.descriptor, "wb") as pipe:
        telling = Telling(pipe)
        telling.tell(Fenced(missing=raise_fences(order)))
        telling.tell(perform(order, telling))


def perform(order: Order, telling: Telling) -> Told:
    """Do the act and return what is told of it; anything but an ApplianceError ends the child."""
    try:
        kind: Any = getattr(importlib.import_module(order.module), order.name)
        act = msgspec.json.decode(order.act, type=kind)
        return Done(result=msgspec.Raw(msgspec.json.encode(act.perform(telling))))
    except ApplianceError as error:
        return failed(exhausted(str(error)) or error)
    except MemoryError:
        return failed(out_of_memory())
    except Exception as error:
        limit = exhausted(f"{type(error).__name__}: {error}")
        if limit is None:
            raise
        traceback.print_exc()
        return failed(limit)


if __name__ == "__main__":
    main()
