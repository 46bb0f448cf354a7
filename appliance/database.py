"""SQLite opened right: the one door to the database library.

Knows: which SQLite is safe, how a writer and a reader are opened, how a schema moves forward. Rules: one
writer a file, held by a lock file beside it; what is committed is on stable storage; readers cannot write;
nobody here opens the database file by other means, because closing it would drop SQLite's own locks.
Leaves to others: the tables (`audit.schema`) and what an error means to an operator of that room.

The write-ahead log of SQLite before 3.51.3 can corrupt a file when two connections write or fold it at
once (https://sqlite.org/releaselog/3_51_3.html), so an older library is refused.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from appliance.errors import StateError
from appliance.files import make_directory, sync_directory, unwritable

if TYPE_CHECKING:
    # pysqlite3 has no stubs; it is CPython's own module built against a newer SQLite.
    import sqlite3 as sqlite

    from sqlite_utils import Database as Tables
else:
    from pysqlite3 import dbapi2 as sqlite

Connection = sqlite.Connection
# What SQLite raises. A damaged file can put bytes into its message that are no UTF-8.
SQLITE_ERRORS = (sqlite.Error, UnicodeDecodeError)

OLDEST_SQLITE = (3, 51, 3)
BUSY_SECONDS = 5.0
WAL_BYTES_KEPT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a database file holds: its name for messages, its SQLite application id, its migrations.

    Migration n brings a file from user_version n to n + 1; released migrations never change. Readers take
    files from format `oldest` on as they are; without it only those of this release.
    """

    name: str
    application_id: int
    migrations: "tuple[Callable[[Tables], None], ...]"
    oldest: int | None = None


class Database:
    """One open connection in autocommit mode; a writer's also holds the lock. One thread at a time.

    `format` is the schema's version that the file has.
    """

    def __init__(self, path: Path, connection: Connection, lock: int | None = None) -> None:
        self.path = path
        self.connection = connection
        self.format = _pragma(connection, "user_version")
        self._lock = lock

    @classmethod
    def write(cls, path: Path, schema: Schema, *, bytes_max: int | None = None) -> Self:
        """Open `path` as its only writer, made or brought up to date as `schema` says.

        `bytes_max` bounds the main file. Raises StateError when another process writes it, the file is
        another kind of database, is newer than this release, or the file system refuses.
        """
        _check_library()
        make_directory(path.parent, mode=0o750)  # whose records they are is nobody else's business
        with contextlib.ExitStack() as undo:
            lock = _lock(path, schema)
            undo.callback(os.close, lock)
            connection = _connect(path, "rwc")
            undo.callback(connection.close)
            with _usable(path, schema):
                _prepare_writer(connection, schema, path, bytes_max)
                sync_directory(path.parent)
            undo.pop_all()
        return cls(path, connection, lock)

    @classmethod
    def read(cls, path: Path, schema: Schema, *, at_rest: bool = False) -> Self:
        """Open `path` for reading only. Raises StateError when it is missing or not of this schema.

        `at_rest`: nobody writes the file any more, so no lock is taken and nothing is looked for beside it.
        """
        _check_library()
        with _usable(path, schema):
            missing = not path.exists()
        if missing:
            raise StateError(
                f"there is no {schema.name} at {path}",
                remedy="check the state directory; the runtime makes the file at its first start",
            )
        with contextlib.ExitStack() as undo:
            connection = _connect(path, "ro&immutable=1" if at_rest else "ro")
            undo.callback(connection.close)
            with _usable(path, schema):
                _prepare_reader(connection, schema, path)
            undo.pop_all()
        return cls(path, connection)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run the block as one write transaction: durable when it ends, undone when it raises."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite undoes the transaction itself on a full disk; a second ROLLBACK would be an error.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def move(self, path: Path, schema: Schema) -> bool:
        """Move the file to `path`, where nobody writes it any more; `reopen` goes on in its place.

        False, and nothing done, while a reader is in the midst of a page. The lock is held throughout; readers
        that have the file open keep it. Raises StateError when the file system refuses: `reopen` then finds
        either the old file or none.
        """
        # Whoever writes waits meanwhile, so a reader is not waited for.
        self.connection.execute("PRAGMA busy_timeout=0")
        busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
        if busy:
            return False
        self._fold()
        self.connection.close()
        with _usable(self.path, schema):
            self.path.rename(path)
            sync_directory(path.parent)
            # A write-ahead log belongs to its file by name alone: the new file must not find the old one's.
            for suffix in ("-wal", "-shm"):
                self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
            sync_directory(self.path.parent)
        return True

    def reopen(self, schema: Schema, *, bytes_max: int | None = None) -> None:
        """After `move`: go on in the file that is at this path, made if there is none. Raises StateError."""
        self.connection.close()
        with _usable(self.path, schema):
            self.connection = _connect(self.path, "rwc")
            _prepare_writer(self.connection, schema, self.path, bytes_max)
            sync_directory(self.path.parent)
        self.format = _pragma(self.connection, "user_version")

    def _fold(self) -> None:
        """Fold the write-ahead log in, so that one file is all; not possible while readers have it open."""
        with contextlib.suppress(*SQLITE_ERRORS):
            self.connection.execute("PRAGMA busy_timeout=0")
            self.connection.execute("PRAGMA journal_mode=DELETE")

    def close(self) -> None:
        """Close the connection and give the lock back; again is harmless.

        A file at rest is one file that even read-only media can hold, so the last one out folds the
        write-ahead log in. Readers that are still there prevent that, which loses nothing.
        """
        if self._lock is not None:
            self._fold()
        self.connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _check_library() -> None:
    if sqlite.sqlite_version_info < OLDEST_SQLITE:
        raise StateError(
            f"SQLite {sqlite.sqlite_version} can corrupt a database that is written while it is read",
            remedy="install the pysqlite3 of the lock file, which carries 3.51.3 or newer",
        )


def _lock(path: Path, schema: Schema) -> int:
    """Take the writer's lock beside `path`; the kernel gives it back when the process dies."""
    beside = path.with_name(f"{path.name}.lock")
    try:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(beside, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise StateError(
            f"the {schema.name} {path} already has a writer (process {holder or 'unknown'})",
            remedy="one runtime a state directory: stop the other one or give this one another",
        ) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(handle)
        raise unwritable(beside, error) from error
    return handle


def _connect(path: Path, mode: str) -> Connection:
    try:
        return sqlite.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except SQLITE_ERRORS as error:
        raise StateError(
            f"cannot open {path}: {error}", remedy="check its owner, permissions and directory"
        ) from error


def _prepare_writer(
    connection: Connection, schema: Schema, path: Path, bytes_max: int | None
) -> None:
    _check_kind(connection, schema, path)
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StateError(
            f"the file system of {path} cannot hold a write-ahead log",
            remedy="put the state directory on a local disk",
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
    _migrate(connection, schema, path)
    if bytes_max is not None:
        pages = max(1, bytes_max // _pragma(connection, "page_size"))
        connection.execute(f"PRAGMA max_page_count={pages}")


def _prepare_reader(connection: Connection, schema: Schema, path: Path) -> None:
    # A file from elsewhere may carry hostile SQL in its schema: none of it is trusted.
    connection.execute("PRAGMA trusted_schema=OFF")
    _check_kind(connection, schema, path)
    version = _pragma(connection, "user_version")
    newest = len(schema.migrations)
    if not (schema.oldest or newest) <= version <= newest:
        raise _other_release(path, schema, version)


def _check_kind(connection: Connection, schema: Schema, path: Path) -> None:
    """Refuse a database that some other program made."""
    made_by = _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if made_by != schema.application_id and tables:
        raise StateError(
            f"{path} is a database, but no {schema.name}", remedy="check the path; move it away"
        )


def _migrate(connection: Connection, schema: Schema, path: Path) -> None:
    """Bring the file up to date, each step with its new user_version in one transaction."""
    version = _pragma(connection, "user_version")
    if version > len(schema.migrations):
        raise _other_release(path, schema, version)
    if version == len(schema.migrations):
        return
    # Loaded here because it takes longer to import than the rest of this room to run.
    from sqlite_utils import Database as Tables  # noqa: PLC0415

    tables = Tables(connection, recursive_triggers=False, execute_plugins=False)
    for number, migration in enumerate(schema.migrations[version:], version + 1):
        with tables.atomic():
            migration(tables)
            connection.execute(f"PRAGMA application_id={schema.application_id}")
            connection.execute(f"PRAGMA user_version={number}")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _other_release(path: Path, schema: Schema, version: int) -> StateError:
    if not version:
        return StateError(
            f"the {schema.name} {path} is empty",
            remedy="keep the file and find out who emptied it; restore a copy if there is one",
        )
    newer = version > len(schema.migrations)
    return StateError(
        f"the {schema.name} {path} has format {version}, this release has {len(schema.migrations)}",
        remedy="use the newer release"
        if newer
        else "start the runtime once to bring it up to date",
    )


@contextlib.contextmanager
def _usable(path: Path, schema: Schema) -> Iterator[None]:
    """Tell whatever keeps `path` from being opened as a StateError."""
    try:
        yield
    except (*SQLITE_ERRORS, OSError) as error:
        raise StateError(
            f"the {schema.name} {path} cannot be used: {error}",
            remedy="check the disk and the file; restore a copy if it is damaged",
        ) from error
