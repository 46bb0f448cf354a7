"""A child whose every change to files is written down, and the journal read back.

Knows: how shim.c is built and preloaded, how a child is told what to do, the journal's form. Rules: a call
that the journal cannot describe is an error, never passed over. Leaves to others: what a journal means for
a disk (`disk`), what the child does (`workloads`).
"""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HEADER = struct.Struct("<9Q")


class Kind(IntEnum):
    """What a call does; the numbers are those of shim.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    RENAME = 5
    EXCHANGE = 6
    UNLINK = 7
    MKDIR = 8
    RMDIR = 9
    MARK = 10
    OTHER = 11


@dataclass(frozen=True, slots=True)
class Call:
    """One entry of the journal; `error` is an errno, 0 when the call did what it says."""

    kind: Kind
    error: int
    inode: int
    offset: int
    length: int
    other: int
    data: bytes
    one: str
    two: str


@dataclass(frozen=True, slots=True)
class Fault:
    """From the `at`th call on (1 is the first), `count` calls fail with `error`; 0: all that follow."""

    at: int
    error: int
    count: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a workload said, in order, and how many calls of it could have failed."""

    said: tuple[str, ...]
    calls: int


def compiler() -> str | None:
    """The C compiler of this machine, None when there is none."""
    return shutil.which("cc")


def build_shim(directory: Path) -> Path:
    """Compile shim.c into `directory`."""
    library = directory / "shim.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "shim.c"]
    subprocess.run([*command, "-ldl", "-pthread"], check=True)
    return library


def scratch() -> str | None:
    """Where simulated disks are kept: in memory where there is such a place, because thousands are made."""
    memory = Path("/dev/shm")
    return str(memory) if os.access(memory, os.W_OK) else None


class Child:
    """A process that runs workloads under the shim, each in a fork of its own."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.workloads"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )

    def run(
        self, workload: str, directory: Path, journal: Path, *, fault: Fault | None = None
    ) -> Run:
        """Run `workload` on `directory`, written down in the file `journal`, with `fault` if given."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"workload": workload, "directory": str(directory), "journal": str(journal)}
        if fault is not None:
            order["fault"] = [fault.at, fault.error, fault.count]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer.strip().isdecimal():
            raise RuntimeError(f"the traced child ended: {answer!r}")
        said = tuple(c.data.decode() for c in calls(journal) if c.kind is Kind.MARK)
        return Run(said=said, calls=int(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.communicate()


def calls(journal: Path) -> Iterator[Call]:
    """The entries of a journal, in order; ValueError at one that describes no known change."""
    with journal.open("rb") as file:
        while head := file.read(HEADER.size):
            kind, error, inode, offset, length, other, *lengths = HEADER.unpack(head)
            data, one, two = (file.read(each) for each in lengths)
            if kind == Kind.OTHER:
                raise ValueError(f"the shim saw a call that it cannot describe: {one!r}")
            yield Call(
                Kind(kind),
                error,
                inode,
                offset,
                length,
                other,
                data,
                os.fsdecode(one),
                os.fsdecode(two),
            )
