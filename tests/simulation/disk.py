"""A disk that may lose whatever was not synced, rebuilt from a journal of calls.

Knows: for each file and directory what is durable and what is pending. Rules: the model is as hard as POSIX
allows: a synced file's bytes are durable, its name is not until its directory is synced; of what is
pending any part may be there, in sectors and out of order; a sync that failed has dropped what it was
to write (as Linux does). A rename is whole or has not happened. Leaves to others: which moments to look at
(`crashes`).

Sources: fsync(2), rename(2); https://sqlite.org/atomiccommit.html on sectors; T. S. Pillai and others, "All
File Systems Are Not Created Equal", OSDI 2014, on what may be reordered.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePath
from typing import TypeAlias

from tests.simulation.tracing import Call, Kind

SECTOR_BYTES = 512
# SQLite keeps its index of the write-ahead log in shared memory; what a power cut leaves of it is not read.
NEVER_DURABLE = "-shm"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to put at an offset; `data` None: the file gets the length `offset`."""

    offset: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class File:
    """A file: what is on the disk, and the writes since the last sync."""

    durable: bytearray
    pending: list[Write] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Directory:
    """A directory: the names that are on the disk, and those that a running process sees."""

    durable: dict[str, "Node"] = field(default_factory=dict)
    seen: dict[str, "Node"] = field(default_factory=dict)


Node: TypeAlias = File | Directory
# A change of names happens whole: in each directory a name comes to mean a node, or nothing.
Names: TypeAlias = list[tuple[Directory, str, Node | None]]


class Loss(StrEnum):
    """What a power cut takes of all that is pending."""

    ALL = "all of it"
    NONE = "none of it"
    NAMES = "the names, not the bytes"
    BYTES = "the bytes, not the names"
    TAIL = "all after some moment, the last write torn"
    SOME = "any sectors, and names after some moment"


class Disk:
    """What a directory may hold after a power cut, as calls go by."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[Names] = []
        self._tree = Directory()
        self._nodes: dict[int, Node] = {root.stat().st_ino: self._tree}
        self._take(root, self._tree)
        self._acts: dict[Kind, Callable[[Call], None]] = {
            Kind.CREATE: self._create,
            Kind.MKDIR: self._create,
            Kind.WRITE: self._write,
            Kind.TRUNCATE: self._write,
            Kind.SYNC: self._sync,
            Kind.RENAME: self._rename,
            Kind.EXCHANGE: self._rename,
            Kind.UNLINK: self._remove,
            Kind.RMDIR: self._remove,
        }

    def apply(self, call: Call) -> None:
        """Let `call` happen."""
        act = self._acts.get(call.kind)
        if act is not None and (not call.error or call.kind is Kind.SYNC):
            act(call)

    def leave(self, target: Path, loss: Loss, choice: random.Random) -> None:
        """Write into the new directory `target` what a power cut now could leave."""
        kept = list(self._kept_names(loss, choice))
        trees: dict[int, dict[str, Node]] = {}
        for directory, name, node in (change for names in kept for change in names):
            tree = trees.setdefault(id(directory), dict(directory.durable))
            tree.pop(name, None)
            if node is not None:
                tree[name] = node
        self._lay(target, self._tree, trees, loss, choice)

    def _take(self, path: Path, directory: Directory) -> None:
        for item in path.iterdir():
            node: Node = Directory() if item.is_dir() else File(bytearray(item.read_bytes()))
            self._nodes[item.stat().st_ino] = node
            directory.durable[item.name] = directory.seen[item.name] = node
            if isinstance(node, Directory):
                self._take(item, node)

    def _place(self, path: str) -> tuple[Directory, str]:
        parts = PurePath(path).relative_to(self._root).parts
        directory = self._tree
        for part in parts[:-1]:
            found = directory.seen[part]
            assert isinstance(found, Directory)
            directory = found
        return directory, parts[-1]

    def _change(self, *changes: tuple[Directory, str, Node | None]) -> None:
        for directory, name, node in changes:
            directory.seen.pop(name, None)
            if node is not None:
                directory.seen[name] = node
        self._names.append(list(changes))

    def _create(self, call: Call) -> None:
        node: Node = Directory() if call.kind is Kind.MKDIR else File(bytearray())
        self._nodes[call.inode] = node
        self._change((*self._place(call.one), node))

    def _write(self, call: Call) -> None:
        file = self._nodes[call.inode]
        assert isinstance(file, File)
        cut = call.kind is Kind.TRUNCATE
        file.pending.append(Write(call.length if cut else call.offset, None if cut else call.data))

    def _sync(self, call: Call) -> None:
        node = self._nodes[call.inode]
        if isinstance(node, File):
            if not call.error:
                for write in node.pending:
                    _put(node.durable, write)
            node.pending.clear()
        elif not call.error:
            self._sync_names(node)

    def _sync_names(self, directory: Directory) -> None:
        """Make the directory's names durable, and with them what was changed before in the same breath."""
        reached, early, late = {id(directory)}, list[Names](), list[Names]()
        for names in reversed(self._names):
            touched = {id(changed) for changed, _, _ in names}
            (early if touched & reached else late).append(names)
            reached |= touched if touched & reached else set()
        for changed, name, node in (change for names in reversed(early) for change in names):
            changed.durable.pop(name, None)
            if node is not None:
                changed.durable[name] = node
        self._names = late[::-1]

    def _rename(self, call: Call) -> None:
        one, two = self._place(call.one), self._place(call.two)
        node = one[0].seen[one[1]]
        back = two[0].seen[two[1]] if call.kind is Kind.EXCHANGE else None
        self._change((*one, back), (*two, node))

    def _remove(self, call: Call) -> None:
        self._change((*self._place(call.one), None))

    def _kept_names(self, loss: Loss, choice: random.Random) -> Iterable[Names]:
        if loss in {Loss.ALL, Loss.NAMES}:
            return []
        if loss in {Loss.NONE, Loss.BYTES}:
            return self._names
        return self._names[: choice.randint(0, len(self._names))]

    def _lay(
        self,
        target: Path,
        directory: Directory,
        trees: dict[int, dict[str, Node]],
        loss: Loss,
        choice: random.Random,
    ) -> None:
        target.mkdir()
        for name, node in trees.get(id(directory), directory.durable).items():
            if isinstance(node, Directory):
                self._lay(target / name, node, trees, loss, choice)
            elif not name.endswith(NEVER_DURABLE):
                content = bytearray(node.durable)
                for write in _kept_writes(node.pending, loss, choice):
                    _put(content, write)
                (target / name).write_bytes(content)


def _put(content: bytearray, write: Write) -> None:
    end = write.offset + len(write.data or b"")
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if write.data is None:
        del content[write.offset :]
    else:
        content[write.offset : end] = write.data


def _kept_writes(pending: list[Write], loss: Loss, choice: random.Random) -> Iterator[Write]:
    """What of `pending` reached the disk."""
    if loss in {Loss.NONE, Loss.NAMES}:
        yield from pending
    elif loss is Loss.TAIL and pending:
        last = choice.randint(0, len(pending) - 1)
        yield from pending[:last]
        yield from _torn(pending[last], choice)
    elif loss is Loss.SOME:
        for write in pending:
            yield from _scattered(write, choice)


def _torn(write: Write, choice: random.Random) -> Iterator[Write]:
    """The write's first sectors; its end may be there in length only, as zeros."""
    if write.data is None:
        return
    cut = choice.randint(0, len(write.data) // SECTOR_BYTES) * SECTOR_BYTES
    yield Write(write.offset, write.data[:cut])


def _scattered(write: Write, choice: random.Random) -> Iterator[Write]:
    """Any of the write's sectors. Most often all or none, because a few lost sectors hide the most."""
    share = choice.choice((0.0, 0.5, 0.9, 1.0))
    if write.data is None:
        if choice.random() < share:
            yield write
        return
    at = 0
    while at < len(write.data):
        size = SECTOR_BYTES - (write.offset + at) % SECTOR_BYTES
        if choice.random() < share:
            yield Write(write.offset + at, write.data[at : at + size])
        at += size
