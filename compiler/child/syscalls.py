"""The calls that a child may not make of the kernel: a seccomp filter.

Knows: the numbers of the forbidden system calls on x86-64 and aarch64, and how a filter is written and
installed. Rules: a forbidden call fails with EPERM, so that a library which merely asks goes on; a machine
whose numbers are not known here is told, never guessed. Leaves to others: limits and paths (`fences`,
`paths`).

Forbidden: sockets of every kind (the runtime's own control socket is a Unix socket), io_uring, which opens
sockets of its own, new processes and programs, other processes' memory, signals to others, kernel keyrings,
and System V memory, which would outlive the child. Threads are allowed. A child with a GPU may make Unix
sockets with connections and listen on them, for the driver does at its start and fails without (the abstract
name cuda-uvmfd); no socket of it ever gets connected, by itself or by others. Sources: seccomp(2), bpf
instructions of linux/filter.h, unistd_64.h and asm-generic/unistd.h, linux/audit.h, linux/sched.h.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data, little-endian.
_NUMBER, _MACHINE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_UNIX, _STREAM, _SEQPACKET, _KIND_OF_SOCKET = 1, 1, 5, 0xF
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000

_EVERYWHERE = {"io_uring_setup": 425, "pidfd_send_signal": 424, "pidfd_getfd": 438}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One kind of processor: its AUDIT_ARCH, forbidden calls, and those whose arguments decide."""

    audit: int
    forbidden: dict[str, int]
    clone: int
    signals: dict[str, int]  # first argument: the process
    socket: int
    connecting: dict[str, int]
    clone3: int = 435  # its arguments are in memory that a filter cannot see
    x32: bool = False


MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        forbidden=_EVERYWHERE
        | {"fork": 57, "vfork": 58, "execve": 59, "execveat": 322}
        | {"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311}
        | {"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "tkill": 200}
        | {"add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308}
        | {"mount": 165, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240},
        clone=56,
        signals={"kill": 62, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
        socket=41,
        connecting={"connect": 42, "accept": 43, "accept4": 288},
        x32=True,
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        forbidden=_EVERYWHERE
        | {"execve": 221, "execveat": 281}
        | {"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271}
        | {"bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "tkill": 130}
        | {"add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97, "setns": 268}
        | {"mount": 40, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180},
        clone=220,
        signals={"kill": 129, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
        socket=198,
        connecting={"connect": 203, "accept": 202, "accept4": 242},
    ),
}


def forbid_calls(machine: str | None = None, *, gpu: bool = False) -> str | None:
    """Install the filter for this thread and all it starts; None, or why that is not possible here.

    With `gpu` it lets through what a GPU's driver cannot do without.

    The process must have no other thread yet, and PR_SET_NO_NEW_PRIVS set. It cannot be undone.
    """
    name = machine or platform.machine()
    found = MACHINES.get(name)
    if found is None:
        return f"no filter of system calls is known for {name}, so the network was not closed off"
    program = b"".join(filter_of(found, os.getpid(), gpu=gpu))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, then a pointer at the pointer's own alignment
    head = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, head, 0, 0):
        why = os.strerror(ctypes.get_errno())
        return (
            f"the kernel takes no filter of system calls ({why}), so the network was not closed off"
        )
    return None


def filter_of(machine: Machine, process: int, *, gpu: bool = False) -> Iterator[bytes]:
    """The program's instructions, 8 bytes each; `process` may signal itself."""
    yield _instruction(_LOAD, _MACHINE)
    yield _instruction(_EQUAL, machine.audit, then=1)
    yield _refuse()
    yield _instruction(_LOAD, _NUMBER)
    if machine.x32:
        yield _instruction(_AT_LEAST, _X32_BIT, otherwise=1)
        yield _refuse()
    forbidden = (*machine.forbidden.values(), *machine.connecting.values())
    for number in forbidden if gpu else (*forbidden, machine.socket):
        yield _instruction(_EQUAL, number, otherwise=1)
        yield _refuse()
    if gpu:
        yield from _listening_only(machine.socket)
    yield _instruction(_EQUAL, machine.clone3, otherwise=1)
    yield _refuse(errno.ENOSYS)  # the C library then uses clone
    for number in machine.signals.values():
        yield _instruction(_EQUAL, number, otherwise=4)
        yield _instruction(_LOAD, _FIRST_ARGUMENT)
        yield _instruction(_EQUAL, process, otherwise=1)
        yield _instruction(_RETURN, _ALLOW)
        yield _refuse()
    yield _instruction(_EQUAL, machine.clone, otherwise=3)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_ANY_BIT, _CLONE_THREAD, then=1)
    yield _refuse()
    yield _instruction(_RETURN, _ALLOW)


def _listening_only(number: int) -> Iterator[bytes]:
    """Of sockets, Unix ones that need a connection; since none can be made, nothing leaves through them."""
    yield _instruction(_EQUAL, number, otherwise=8)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_EQUAL, _UNIX, otherwise=5)
    yield _instruction(_LOAD, _SECOND_ARGUMENT)
    yield _instruction(_AND, _KIND_OF_SOCKET)
    yield _instruction(_EQUAL, _STREAM, then=1)
    yield _instruction(_EQUAL, _SEQPACKET, otherwise=1)
    yield _instruction(_RETURN, _ALLOW)
    yield _refuse()


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """Struct sock_filter; `then` and `otherwise` are how many instructions a comparison skips."""
    return struct.pack("<HBBI", code, then, otherwise, value)


def _refuse(number: int = errno.EPERM) -> bytes:
    return _instruction(_RETURN, _ERRNO | number)
