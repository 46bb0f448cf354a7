"""Files at rest: written whole or not at all, read within limits, named safely.

Knows: write-sync-replace, digests, safe relative paths. Rules: one function writes files; a directory
appears by one rename, synced before and after. Leaves to others: what the bytes mean.
"""

import ctypes
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from appliance.errors import StateError

CHUNK_BYTES = 1 << 20
# Directories made by this process whose names the disk refused to sync: tried again before the next use.
_unsynced: set[Path] = set()
_AT_CWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def write_file(path: Path, *parts: bytes | bytearray | memoryview, mode: int = 0o644) -> None:
    """Replace `path` by `parts` joined: temporary file beside it, sync, rename, sync the directory.

    Raises StateError when the file system refuses; the old content is then still whole.
    """
    try:
        _make_durable(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def make_directory(path: Path, *, mode: int = 0o755) -> Path:
    """Create `path` and its parents if missing and return it; StateError when it cannot be.

    A `path` made here has `mode`, whatever this process's umask. What root makes belongs to whom the directory above
    belongs: on a box root and the box's user act by turns.
    """
    try:
        known = path.is_dir()
        _make_durable(path)
        if not known:
            with _made(path) as handle:
                os.fchmod(handle, mode)
    except OSError as error:
        raise unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError("permission denied"))
    return path


def _make_durable(path: Path) -> None:
    """Create `path` and its parents if missing, their names durable.

    A synced file in a directory whose name was never synced goes with it in a power cut.
    """
    if path.is_dir() and path not in _unsynced:
        return
    _make_durable(path.parent)
    try:
        path.mkdir()
        if os.geteuid() == 0:
            above = path.parent.stat()
            with _made(path) as handle:
                os.fchown(handle, above.st_uid, above.st_gid)
    except FileExistsError:
        if not path.is_dir():
            raise
    _unsynced.add(path)
    sync_directory(path.parent)
    _unsynced.discard(path)


@contextmanager
def _made(path: Path) -> Iterator[int]:
    """A directory that was just made. Whoever owns the one above could put a link in its place: none is followed."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def publish_directory(staged: Path, final: Path) -> None:
    """Make the finished directory `staged` appear as `final` by one rename, all of it durable.

    Everyone may read what appears, whatever this process's umask: the one who publishes and the one
    who reads are different users. Raises FileExistsError when `final` is taken, StateError when the file system refuses.
    """
    try:
        _settle(staged)
        make_directory(final.parent)
        # rename(2) replaces an empty directory silently, so a taken name is refused first; the
        # store's lock makes the check and the rename one act.
        if final.exists():
            raise FileExistsError(final)
        staged.rename(final)
        sync_directory(final.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise unwritable(final, error) from error


def exchange_directory(staged: Path, final: Path) -> None:
    """Let the finished directory `staged` and the existing `final` change places, at one stroke.

    Durable and readable as in `publish_directory`; a reader of `final` finds the one or the other, never
    none (renameat2(2), RENAME_EXCHANGE). Raises StateError when the file system refuses or cannot.
    """
    try:
        _settle(staged)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(
            _AT_CWD, os.fsencode(staged), _AT_CWD, os.fsencode(final), _RENAME_EXCHANGE
        ):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(final))
        sync_directory(final.parent)
        sync_directory(staged.parent)
    except OSError as error:
        raise unwritable(final, error) from error


def sync_directory(path: Path) -> None:
    """Make the names in directory `path` durable (fsync of the directory, see rename(2))."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: Path) -> BinaryIO:
    """Open `path` for reading if it is a regular file, not a link, device or pipe.

    Raises OSError otherwise, so that a hostile name cannot block or redirect a read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:  # what O_NOFOLLOW says of a link, open(2)
            raise OSError(errno.ELOOP, "it is a link; give the file itself", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(handle, "rb")


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file's bytes, 64 hex digits. Raises OSError."""
    with open_regular(path) as file:
        return sha256_parts(chunks(file))


def sha256_parts(parts: Iterable[bytes]) -> str:
    """SHA-256 of `parts` joined, 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of `file` in pieces of at most CHUNK_BYTES."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def bytes_free(path: Path) -> int:
    """The bytes that this process may still write on the disk of `path` (statvfs(3)); OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def is_safe_name(name: str) -> bool:
    """True when `name` is a relative POSIX path that stays below where it is joined."""
    path = PurePosixPath(name)
    plain = bool(name) and not path.is_absolute() and str(path) == name and "\0" not in name
    return plain and bool(path.parts) and ".." not in path.parts


def unwritable(path: Path, error: OSError) -> StateError:
    """The StateError for a file system that refused `path`."""
    return StateError(
        f"cannot write {path}: {error.strerror or error}",
        remedy="check free space, ownership and permissions of its directory",
    )


def _settle(staged: Path) -> None:
    """Make all of a directory durable, and readable by everyone."""
    for item in (*sorted(staged.rglob("*")), staged):
        item.chmod(0o755 if item.is_dir() else 0o644)
        sync_directory(item) if item.is_dir() else _sync_file(item)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
