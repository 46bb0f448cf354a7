"""SQLite opened right: one writer, durable, moved forward by migrations, never a foreign file."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite

from appliance import database as room
from appliance.database import SQLITE_ERRORS, Database, Schema
from appliance.errors import StateError


def create(tables) -> None:
    tables.table("note").create({"id": int, "text": str}, pk="id", strict=True)


def add_author(tables) -> None:
    tables.table("note").add_column("author", str)


FIRST = Schema(name="notebook", application_id=7, migrations=(create,))
SECOND = Schema(name="notebook", application_id=7, migrations=(create, add_author))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a # strange ? name" / "notes.db"


def pragma(database: Database, name: str) -> object:
    return database.connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_writer_is_durable_and_careful(path: Path) -> None:
    database = Database.write(path, FIRST)

    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "busy_timeout") == 5000
    assert pragma(database, "journal_size_limit") == 64 << 20
    assert pragma(database, "user_version") == 1
    assert pragma(database, "application_id") == 7
    database.close()


def test_a_second_writer_is_told_who_the_first_is(path: Path) -> None:
    first = Database.write(path, FIRST)
    with pytest.raises(StateError, match=f"already has a writer .process {os.getpid()}.") as caught:
        Database.write(path, FIRST)
    first.close()

    assert "one runtime a state directory" in caught.value.remedy
    Database.write(path, FIRST).close()


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    database = Database.write(path, FIRST)
    with database.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, 'kept')")
    with contextlib.suppress(KeyboardInterrupt), database.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (2, 'undone')")
        raise KeyboardInterrupt
    with contextlib.suppress(*SQLITE_ERRORS), database.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (3, 'undone')")
        connection.execute("INSERT INTO note VALUES (1, 'twice')")

    assert database.connection.execute("SELECT id FROM note").fetchall() == [(1,)]
    database.close()


def test_a_full_file_undoes_the_transaction_and_takes_more_when_allowed(path: Path) -> None:
    database = Database.write(path, FIRST, bytes_max=32768)
    assert pragma(database, "max_page_count") == 8
    with pytest.raises(SQLITE_ERRORS, match="full"), database.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, ?)", ("x" * 100_000,))
    database.connection.execute("PRAGMA max_page_count=1000")
    with database.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, ?)", ("x" * 100_000,))
    database.close()


def test_readers_see_what_is_committed_and_cannot_write(path: Path) -> None:
    writer = Database.write(path, FIRST)
    reader = Database.read(path, FIRST)
    with writer.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, 'seen')")

    assert reader.connection.execute("SELECT text FROM note").fetchone() == ("seen",)
    with pytest.raises(SQLITE_ERRORS, match="readonly"):
        reader.connection.execute("INSERT INTO note VALUES (2, 'no')")
    reader.close()
    writer.close()


def test_a_file_at_rest_is_one_file(path: Path, tmp_path: Path) -> None:
    writer = Database.write(path, FIRST)
    with writer.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, 'kept')")
    writer.close()
    writer.close()

    assert sorted(item.name for item in path.parent.iterdir()) == ["notes.db", "notes.db.lock"]
    alone = tmp_path / "alone.db"
    shutil.copy(path, alone)
    reader = Database.read(alone, FIRST)
    assert reader.connection.execute("SELECT text FROM note").fetchone() == ("kept",)
    reader.close()
    assert not alone.with_name("alone.db.lock").exists()


def test_a_reader_that_stays_does_not_keep_the_writer_from_closing(path: Path) -> None:
    writer = Database.write(path, FIRST)
    reader = Database.read(path, FIRST)
    with writer.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, 'kept')")
    writer.close()

    assert reader.connection.execute("SELECT text FROM note").fetchone() == ("kept",)
    reader.close()
    Database.write(path, FIRST).close()


def test_an_older_file_is_brought_up_to_date_with_its_rows(path: Path) -> None:
    old = Database.write(path, FIRST)
    with old.transaction() as connection:
        connection.execute("INSERT INTO note VALUES (1, 'old')")
    old.close()
    with pytest.raises(StateError, match="has format 1, this release has 2") as caught:
        Database.read(path, SECOND)
    new = Database.write(path, SECOND)

    assert caught.value.remedy == "start the runtime once to bring it up to date"
    assert new.connection.execute("SELECT * FROM note").fetchall() == [(1, "old", None)]
    assert pragma(new, "user_version") == 2
    new.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    Database.write(path, FIRST).close()

    def half(tables) -> None:
        tables.table("extra").create({"id": int}, pk="id")
        tables.execute("INSERT INTO nowhere VALUES (1)")

    broken = Schema(name="notebook", application_id=7, migrations=(create, half))
    with pytest.raises(StateError, match="nowhere"):
        Database.write(path, broken)
    database = Database.write(path, FIRST)

    assert database.connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("note",)]
    database.close()


@pytest.mark.parametrize("opened", [Database.write, Database.read])
def test_a_newer_file_is_left_alone(path: Path, opened) -> None:
    Database.write(path, SECOND).close()

    with pytest.raises(StateError, match="has format 2") as caught:
        opened(path, FIRST)
    assert caught.value.remedy == "use the newer release"


@pytest.mark.parametrize("opened", [Database.write, Database.read])
def test_a_foreign_database_is_left_alone(tmp_path: Path, opened) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite.connect(str(path))
    theirs.execute("CREATE TABLE theirs (id)")
    theirs.close()

    with pytest.raises(StateError, match="a database, but no notebook"):
        opened(path, FIRST)


@pytest.mark.parametrize("opened", [Database.write, Database.read])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, opened) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(b"no database at all, but long enough to have a header" * 40)

    with pytest.raises(StateError, match="cannot be used: file is not a database"):
        opened(path, FIRST)


@pytest.mark.parametrize("opened", [Database.write, Database.read])
def test_a_directory_in_the_way_is_refused(tmp_path: Path, opened) -> None:
    (tmp_path / "notes.db").mkdir()

    with pytest.raises(StateError, match=r"notes\.db"):
        opened(tmp_path / "notes.db", FIRST)


def test_a_lock_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db.lock").mkdir()

    with pytest.raises(StateError, match=r"cannot write .*notes\.db\.lock"):
        Database.write(tmp_path / "notes.db", FIRST)


def test_a_place_without_a_write_ahead_log_is_refused(path: Path) -> None:
    connection = sqlite.connect(":memory:", isolation_level=None)
    with pytest.raises(StateError, match="cannot hold a write-ahead log"):
        room._prepare_writer(connection, FIRST, path, None)
    connection.close()


def test_a_missing_file_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(StateError, match="there is no notebook"):
        Database.read(path, FIRST)
    assert not path.exists()


def test_a_library_that_can_corrupt_files_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room.sqlite, "sqlite_version_info", (3, 51, 2))
    monkeypatch.setattr(room.sqlite, "sqlite_version", "3.51.2")

    for opened in (Database.write, Database.read):
        with pytest.raises(StateError, match=r"SQLite 3\.51\.2 can corrupt"):
            opened(path, FIRST)


def test_the_slow_library_is_loaded_only_to_migrate(path: Path) -> None:
    Database.write(path, FIRST).close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom appliance.database import Database, Schema\n"
        "schema = Schema(name='notebook', application_id=7, migrations=(print,))\n"
        "Database.write(Path(sys.argv[1]), schema).close()\n"
        "assert 'sqlite_utils' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)
