"""What a child may not do, raised before it reads the first hostile byte.

Knows: the fences and their order. Rules: each is raised or told as missing, never passed over; limits are
hard, so that what runs inside cannot lift them. Leaves to others: the filter of calls (`syscalls`), the
files (`paths`), wall time and what becomes of a child that died (`parent`).

A child with a GPU has wider ones, for the driver fails at its start otherwise: it reserves address space
for all memory of the machine and of its GPUs, so that is not limited; it names its threads by writing to their
`comm` in /proc, opens its devices for writing and listens on a socket that nobody can connect to (`syscalls`).
Private memory, processor time and files stay limited as before; shared mappings then are bounded by the unit's
memory limit alone.

Sources: prctl(2), setrlimit(2), capset(2), proc(5); what the driver does, by traces of cuInit in public reports
(NVIDIA/OpenShell#710, #1696).
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from compiler.child.messages import Order
from compiler.child.paths import close_paths
from compiler.child.syscalls import forbid_calls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION = 0x20080522
_MAY_READ_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root reads a user's model
# Mappings that count as address space only: libraries, arenas in reserve, shared memory.
_ADDRESS_SPACE_BESIDE = 32 << 30
# What Python and the libraries read of the system: their own files, the processor, time zones.
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev")
_DEVICES = ("/dev/null", "/dev/zero")
_THREADS = Path("/proc/self/task")
_CPU_SECONDS_MORE = 5  # between the signal that names the limit and the one that cannot be caught


def raise_fences(order: Order) -> tuple[str, ...]:
    """Confine this process as `order` says; returns what this machine could not do, a sentence each.

    Ends the process when its parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != order.parent:
        os._exit(1)  # it died before it could be watched
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(order)
    _drop_capabilities(libc)
    readable = (*_own_files(), *map(Path, order.readable))
    writable = [*map(Path, order.writable), *map(Path, _DEVICES)]
    if order.devices:
        # Held open: were its inode forgotten and made anew, the rule would name one that is no more.
        os.open(_THREADS, os.O_PATH)
        writable.append(_THREADS)
    listable, devices = map(Path, order.listable), map(Path, order.devices)
    # Last, for nothing of the above could be done behind it.
    missing = (
        close_paths(readable, writable, listable, devices),
        forbid_calls(gpu=bool(order.devices)),
    )
    return tuple(why for why in missing if why is not None)


def _limit(order: Order) -> None:
    """Memory, processor time, largest file, no core dump: soft and hard alike."""
    address_space = order.memory_bytes + _ADDRESS_SPACE_BESIDE
    for what, bound in (
        # Private writable memory is what a model can ask for (setrlimit(2), RLIMIT_DATA).
        (resource.RLIMIT_DATA, order.memory_bytes),
        *([] if order.devices else [(resource.RLIMIT_AS, address_space)]),
        (resource.RLIMIT_FSIZE, order.memory_bytes),
        (resource.RLIMIT_CPU, order.cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        last = bound + (_CPU_SECONDS_MORE if what == resource.RLIMIT_CPU else 0)
        before = resource.getrlimit(what)[1]
        if before != resource.RLIM_INFINITY:
            last = min(last, before)
        resource.setrlimit(what, (min(bound, last), last))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep none of root's powers but to read: a workshop may be run with sudo on a user's files."""
    if os.geteuid() != 0:
        return
    head = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    kept = ctypes.create_string_buffer(24)
    libc.capget(head, kept)
    effective, permitted = struct.unpack_from("=II", kept.raw)
    words = (effective & _MAY_READ_ALL, permitted & _MAY_READ_ALL, 0, 0, 0, 0)
    libc.capset(head, ctypes.create_string_buffer(struct.pack("=6I", *words)))


def _own_files() -> Iterator[Path]:
    """Where this interpreter, its libraries and this software are."""
    yield from map(Path, _SYSTEM)
    yield from map(Path, {sys.prefix, sys.base_prefix, sys.exec_prefix})
    yield Path(sys.executable).resolve().parent
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    yield from (Path(entry) for entry in (*sys.path, *libraries) if entry)
    rooms = Path(__file__).resolve().parent.parent.parent
    yield from (rooms / name for name in ("appliance", "compiler", "runtime"))
