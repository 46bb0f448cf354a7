"""Files at rest: whole or not at all."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import files
from appliance.errors import StateError


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_file(path, b"old")
    files.write_file(path, b"new ", b"content", mode=0o600)
    assert path.read_bytes() == b"new content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    files.write_file(path, b"old")

    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StateError) as refused:
        files.write_file(path, b"new")
    assert "No space left" in str(refused.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_made_with_its_parents_or_refused(tmp_path):
    assert files.make_directory(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError):
        files.make_directory(tmp_path / "file" / "b")


def test_a_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_args: False)
    with pytest.raises(StateError) as refused:
        files.make_directory(tmp_path)
    assert "permission" in str(refused.value)


def test_a_directory_appears_by_one_rename(tmp_path):
    staged = tmp_path / "staged"
    (staged / "inner").mkdir(parents=True)
    (staged / "inner" / "file").write_bytes(b"x")
    files.publish_directory(staged, tmp_path / "model" / "1")
    assert (tmp_path / "model" / "1" / "inner" / "file").read_bytes() == b"x"
    assert not staged.exists()


def test_a_taken_name_is_not_replaced(tmp_path):
    staged, final = tmp_path / "staged", tmp_path / "1"
    staged.mkdir()
    final.mkdir()
    with pytest.raises(FileExistsError):
        files.publish_directory(staged, final)
    assert staged.exists()


def test_a_failed_sync_publishes_nothing(tmp_path, monkeypatch):
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "file").write_bytes(b"x")

    def broken(_handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StateError):
        files.publish_directory(staged, tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_what_is_published_can_be_read_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        staged = tmp_path / "staged"
        (staged / "inner").mkdir(parents=True)
        (staged / "inner" / "file").write_bytes(b"x")
        files.publish_directory(staged, tmp_path / "model" / "1")
    finally:
        os.umask(before)
    model = tmp_path / "model"
    for path in (model, model / "1", model / "1" / "inner"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert stat.S_IMODE((model / "1" / "inner" / "file").stat().st_mode) == 0o644


def test_a_link_is_told_as_such(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="is a link; give the file itself") as refused:
        files.open_regular(tmp_path / "link")
    assert refused.value.errno == errno.ELOOP


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with files.open_regular(tmp_path / "file") as file:
        assert file.read() == b"x"
    for name in ("link", "pipe", "missing", "."):
        with pytest.raises(OSError, match=r"."):
            files.open_regular(tmp_path / name)


@given(st.lists(st.binary(max_size=50)))
def test_a_digest_is_of_the_parts_joined(parts):
    assert files.sha256_parts(parts) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_file_is_digested_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 3)
    (tmp_path / "file").write_bytes(b"0123456789")
    assert files.sha256_file(tmp_path / "file") == hashlib.sha256(b"0123456789").hexdigest()


@pytest.mark.parametrize("name", ["a", "a/b.c", "a b", ".hidden", "..."])
def test_safe_names(name):
    assert files.is_safe_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/../b", "../a", "a//b", "a/", "./a", "a/.", "a\0b"]
)
def test_unsafe_names(name):
    assert not files.is_safe_name(name)


@given(st.text(alphabet="./ab\0", max_size=12))
def test_a_safe_name_stays_below_where_it_is_joined(name):
    if files.is_safe_name(name):
        assert Path(os.path.normpath(f"/base/{name}")).is_relative_to("/base")
        assert os.path.normpath(f"/base/{name}") != "/base"


def test_a_directory_whose_name_could_not_be_synced_is_synced_before_its_next_use(
    tmp_path, monkeypatch
):
    """A synced file in it would be gone after a power cut."""
    synced = []

    def refuse(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_directory", refuse)
    with pytest.raises(StateError):
        files.make_directory(tmp_path / "new")
    monkeypatch.setattr(files, "sync_directory", synced.append)
    files.make_directory(tmp_path / "new")
    files.make_directory(tmp_path / "new")
    assert synced == [tmp_path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_makes_belongs_to_whom_the_directory_above_belongs(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 60_000, 60_001)
    made = files.make_directory(home / "work" / "deeper")
    for path in (made, made.parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (60_000, 60_001)
    (home / "taken").write_text("a file")
    with pytest.raises(StateError):
        files.make_directory(home / "taken")
