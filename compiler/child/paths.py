"""The files that a child may reach: Landlock.

Knows: how the kernel is told which files and directories a process may read and write. Rules: whatever is
not named is closed, so that a child finds no key and leaves nothing outside its places; a kernel without
Landlock is told. Leaves to others: which paths those are (`fences`, `compiler.acts`).

Sources: landlock(7), linux/landlock.h; the three system calls have one number on every machine.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICE = 1 << 14, 1 << 15
_USE_DEVICE = _WRITE_FILE | _READ_FILE | _READ_DIRECTORY | _DEVICE
_READ = _EXECUTE | _READ_FILE | _READ_DIRECTORY
# Everything but sockets, pipes and devices, which nobody needs to make.
_MAKE_PLAIN = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_PLAIN
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE
# How many kinds of access the kernel knows, by the version of its interface.
_KINDS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2  # scopes, from version 6


def close_paths(
    readable: Iterable[Path],
    writable: Iterable[Path],
    listable: Iterable[Path] = (),
    devices: Iterable[Path] = (),
) -> str | None:
    """Close every path but these to this thread and all it starts; None, or why that cannot be.

    Of `listable` directories, and those in them, the names are seen; `devices`, and those in such
    directories, may be read, written and asked (ioctl). Paths that do not exist are left out.
    PR_SET_NO_NEW_PRIVS must be set. It cannot be undone.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, 0, _VERSION)
    if version < 1:
        return _missing("the kernel has no Landlock")
    known = (1 << _KINDS[min(version, max(_KINDS))]) - 1
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if version >= 6 else 0
    # struct landlock_ruleset_attr: files, network ports, scopes; older kernels know only the first.
    rules = struct.pack("=QQQ", known, 0, scopes)[: 24 if scopes else 8]
    ruleset = libc.syscall(_CREATE, rules, len(rules), 0)
    if ruleset < 0:
        return _missing(os.strerror(ctypes.get_errno()))
    try:
        given = (
            (readable, _READ),
            (writable, _WRITE),
            (listable, _READ_DIRECTORY),
            (devices, _USE_DEVICE),
        )
        for paths, access in given:
            for path in paths:
                _allow(libc, ruleset, path, access & known)
        if libc.syscall(_RESTRICT, ruleset, 0):
            return _missing(os.strerror(ctypes.get_errno()))
    finally:
        os.close(ruleset)
    return None


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= _OF_FILES
        # struct landlock_path_beneath_attr, packed
        rule = struct.pack("=Qi", access, handle)
        libc.syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)


def _missing(why: str) -> str:
    return f"{why}, so the files of this machine were not closed off"
