"""Whether the memory of this box holds one more version.

Knows: Linux's meminfo and the limits of control groups (version 2, as systemd's MemoryMax sets them). Rules:
asked before a version is loaded, since a process that runs out of memory is killed with all its requests;
where the system does not tell, nothing is refused. Leaves to others: loading, and what a version took when
it was built (`appliance.proof`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.errors import EngineLoad
from appliance.store import StoredVersion

ROOT = Path("/")
SPARE_BYTES = 64 << 20  # for the requests that are answered meanwhile, and for the rest of the box


class Free(NamedTuple):
    """Bytes that can still be had, and what says so."""

    bytes: int
    where: str


def check_room(stored: StoredVersion, *, root: Path = ROOT) -> None:
    """Raise EngineLoad when loading the version would take more memory than is free.

    What it takes is what loading and warming it took when it was built, at least its engine's file; further
    lanes share its weights and count nothing.
    """
    wanted, free = needed_bytes(stored), free_bytes(root)
    if free is None or wanted + SPARE_BYTES <= free.bytes:
        return
    raise EngineLoad(
        f"version {stored.number} of '{stored.record.model}' takes {_mebibytes(wanted)} of memory beside "
        f"the {_mebibytes(SPARE_BYTES)} that must stay free: {free.where} leaves {_mebibytes(free.bytes)}",
        remedy="end a canary or a shadow, withdraw a model, or give the box or the unit more memory",
    )


def needed_bytes(stored: StoredVersion) -> int:
    """What loading the version takes, in bytes."""
    engine = stored.record.engine.file
    file = next((item.bytes for item in stored.record.files if item.name == engine), 0)
    return max(stored.record.proof.memory_bytes or 0, file)


def free_bytes(root: Path = ROOT) -> Free | None:
    """The least that the system and every control group of this process leave; None when nothing tells.

    Of the system it is MemAvailable (proc(5)); of a group, memory.max less memory.current, with the
    inactive file pages that the kernel gives back (the kernel's cgroup-v2 documentation).
    """
    return min((*_of_system(root), *_of_groups(root)), default=None)


def _of_system(root: Path) -> Iterator[Free]:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        yield Free(found * 1024, "the system")


def _of_groups(root: Path) -> Iterator[Free]:
    """Every group from this process's own up: each may have a limit."""
    lines = _lines(root / "proc/self/cgroup")
    group = next((line[3:] for line in lines if line.startswith("0::")), None)
    if group is None:
        return
    top = root / "sys/fs/cgroup"
    own = top / group.strip().lstrip("/")
    for directory in (own, *own.parents):
        if top not in (directory, *directory.parents):
            return
        limit, used = (_number(directory / name) for name in ("memory.max", "memory.current"))
        if limit is not None and used is not None:
            cached = _fields(directory / "memory.stat").get("inactive_file", 0)
            yield Free(
                max(limit - used + cached, 0), f"the limit of {directory.name or 'its group'}"
            )


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a whole number."""
    parts = (line.split() for line in _lines(path))
    return {part[0]: int(part[1]) for part in parts if len(part) > 1 and part[1].isdecimal()}


def _number(path: Path) -> int | None:
    """The one number in a file; None for "max", or where there is no such file."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
