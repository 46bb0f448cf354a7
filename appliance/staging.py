"""Directories to prepare something in, which nobody finds half done.

Knows: how a directory is held, and how what a killed process left is found. Rules: whoever prepares holds
its directory by a lock that ends with the process; the next one that comes sweeps what nobody holds.
Leaves to others: what is prepared, and where it goes (`store`, `compiler.pack`).
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import BuildBusy
from appliance.files import make_directory, unwritable

_POLL_SECONDS = 0.05


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """An empty directory in `parent`; whatever is left of it at the end is removed.

    What a killed process left there is removed first. Raises StateError when the disk refuses.
    """
    make_directory(parent)
    try:
        with locked(parent / "lock"):
            _sweep(parent)
            directory = Path(tempfile.mkdtemp(dir=parent))
            held = _hold(directory)
    except OSError as error:
        raise unwritable(parent, error) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(held)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for a moment, after whoever holds it now; StateError when the disk refuses."""
    with _lock_file(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def one_at_a_time(
    path: Path, *, wait_seconds_max: float, waiting: Callable[[], None]
) -> Iterator[None]:
    """Hold the lock file `path` for long; `waiting` is called once when somebody else has it.

    Raises BuildBusy when they still have it after `wait_seconds_max`, StateError when the disk refuses.
    """
    until = time.monotonic() + wait_seconds_max
    with _lock_file(path) as handle:
        told = False
        while not _taken(handle):
            if not told:
                waiting()
                told = True
            if time.monotonic() > until:
                raise BuildBusy(
                    f"another build has held this box for {wait_seconds_max:g} seconds",
                    remedy="wait for it to end, or end it; then build again",
                )
            time.sleep(_POLL_SECONDS)
        yield


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """The open lock file. It is only read, so that whoever made it, another user can lock it too."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hold(directory: Path) -> int:
    """Lock a staging directory for as long as the returned handle is open: this process lives."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _sweep(parent: Path) -> None:
    """Remove the directories whose process is gone: nobody holds them."""
    for directory in (path for path in parent.iterdir() if path.is_dir()):
        try:
            handle = _hold(directory)
        except OSError:
            continue  # in use
        shutil.rmtree(directory, ignore_errors=True)
        os.close(handle)
