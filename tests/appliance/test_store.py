"""Versions at rest: they appear whole, keep their number and are checked before use."""

import errno
import multiprocessing
import os
import signal
import stat
import threading

import msgspec
import pytest

from appliance import files
from appliance.errors import StateError, StoreError, UnknownModel, UnknownVersion
from appliance.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def add(store, manifest, contents, record):
    """Files a version: add(bundle="ab...") -> its number."""

    def add(bundle: str = "a" * 64, model: str = "tiny") -> int:
        with store.stage() as staged:
            for name, data in contents.items():
                files.write_file(staged / name, data)
            return store.file(staged, manifest, record(bundle, model)).number

    return add


def staged(store) -> list:
    return [path for path in store.root.glob(".staging/*") if path.is_dir()]


def test_a_filed_version_is_found_again(store, add, manifest, contents):
    assert add() == 1
    stored = store.open("tiny", 1)
    assert stored.manifest == manifest
    assert stored.number == 1
    assert (stored.directory / stored.record.engine.file).read_bytes() == contents["model.onnx"]
    assert store.models() == ["tiny"]
    assert staged(store) == []


def test_numbers_grow_and_models_keep_apart(store, add):
    assert [add("a" * 64), add("b" * 64), add("c" * 64, model="other")] == [1, 2, 1]
    assert store.versions("tiny") == [1, 2]
    assert store.models() == ["other", "tiny"]


def test_the_runtimes_user_can_read_a_version(store, add):
    add()
    assert stat.S_IMODE((store.root / "tiny" / "1").stat().st_mode) == 0o755


def test_unknown_models_and_versions_are_told_apart(store, add):
    with pytest.raises(UnknownModel) as refused:
        store.versions("tiny")
    assert "build a bundle" in refused.value.remedy
    assert store.models() == []
    add()
    with pytest.raises(UnknownModel) as refused:
        store.open("tinny", 1)
    assert "tiny" in refused.value.remedy
    with pytest.raises(UnknownVersion) as refused:
        store.open("tiny", 2)
    assert refused.value.remedy == "use one of 1"
    for name in ("../tiny", "", ".staging"):
        with pytest.raises(UnknownModel):
            store.versions(name)


@pytest.mark.parametrize("damage", ["changed", "missing", "link"])
def test_a_damaged_file_is_found_before_use(store, add, damage, tmp_path):
    add()
    path = store.root / "tiny" / "1" / "model.onnx"
    data = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(data + b"?")
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError) as refused:
        store.open("tiny", 1)
    assert "'model.onnx'" in str(refused.value)
    assert store.describe("tiny", 1).number == 1


@pytest.mark.parametrize("name", ["version.json", "manifest.json"])
def test_a_damaged_record_is_told(store, add, name):
    add()
    path = store.root / "tiny" / "1" / name
    for text in ("{", path.read_text().replace('"', '"x', 1)):
        path.write_text(text)
        with pytest.raises(StoreError) as refused:
            store.describe("tiny", 1)
        assert refused.value.remedy.startswith("build the bundle again")
    (store.root / "tiny" / "1" / name).unlink()
    with pytest.raises(StoreError):
        store.describe("tiny", 1)


def test_the_same_bundle_is_found_while_its_version_is_intact(store, add):
    assert store.find("tiny", "a" * 64) is None
    add("a" * 64)
    add("b" * 64)
    assert store.find("tiny", "b" * 64) == 2
    (store.root / "tiny" / "2" / "model.onnx").unlink()
    assert store.find("tiny", "b" * 64) is None
    (store.root / "tiny" / "1" / "version.json").unlink()
    assert add("b" * 64) == 3
    assert store.find("tiny", "b" * 64) == 3


def test_a_bundle_filed_in_the_meantime_keeps_its_one_number(store, manifest, contents, record):
    """Two builds of one bundle at once: neither finds it, both come to file it."""
    filed = []
    with store.stage() as first, store.stage() as second:
        for staged in (first, second):
            for name, data in contents.items():
                files.write_file(staged / name, data)
        filed = [store.file(staged, manifest, record()) for staged in (first, second)]
    assert filed == [(1, True), (1, False)]
    assert store.versions("tiny") == [1]


def test_an_engine_of_another_stamp_is_not_found(store, add, manifest, contents, record):
    add("a" * 64)
    assert store.find("tiny", "a" * 64, {"onnxruntime": {}}) == 1
    for stamps in ({"onnxruntime": {"library": "a newer one"}}, {"openvino": {}}, {}):
        assert store.find("tiny", "a" * 64, stamps) is None
    with store.stage() as staged:
        for name, data in contents.items():
            files.write_file(staged / name, data)
        newer = {"onnxruntime": {"library": "a newer one"}}
        assert store.file(staged, manifest, record(), newer) == (2, True)


@pytest.mark.parametrize("calls", range(10))
def test_a_full_disk_leaves_no_version_and_no_model(store, add, monkeypatch, calls):
    """The disk fills at each sync of the first filing in turn."""
    left = [calls]

    def fsync(handle, real=os.fsync):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StateError):
        add()
    monkeypatch.undo()
    assert store.models() == []
    assert staged(store) == []
    assert add() == 1


def test_an_error_while_staging_leaves_nothing(store):
    def interrupted():
        with store.stage() as directory:
            (directory / "half").write_bytes(b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert staged(store) == []


def test_an_unwritable_state_directory_is_told(tmp_path):
    (tmp_path / "store").write_bytes(b"a file in the way")
    with pytest.raises(StateError), Store(tmp_path / "store").stage():
        pytest.fail("staged in a file")


def _stage_and_wait(root, ready):
    with Store(root).stage() as directory:
        (directory / "half").write_bytes(b"x")
        ready.set()
        signal.pause()


def test_what_a_killed_build_left_is_swept_by_the_next_and_a_live_one_is_not(store):
    context = multiprocessing.get_context("spawn")
    children = []
    for _ in range(2):
        ready = context.Event()
        child = context.Process(target=_stage_and_wait, args=(store.root, ready))
        child.start()
        assert ready.wait(150)
        children.append(child)
    assert len(staged(store)) == 2
    children[0].kill()
    children[0].join()
    with store.stage() as mine:
        left = staged(store)
        assert mine in left
        assert len(left) == 2
        assert all((path / "half").exists() for path in left if path != mine)
    children[1].kill()
    children[1].join()
    with store.stage() as mine:
        assert staged(store) == [mine]


def rebuilt(store, record, directory, contents):
    """Stages version 1 anew with a warning, as a rebuilt engine would; what to replace it by."""
    for name, data in contents.items():
        files.write_file(directory / name, data)
    return msgspec.structs.replace(record(), warnings=("anew",))


def test_a_version_is_replaced_in_its_place(store, add, contents, record):
    add()
    stored = store.open("tiny", 1)
    with store.stage() as directory:
        new = store.replace(directory, stored, rebuilt(store, record, directory, contents))
        assert (directory / "version.json").read_bytes()  # the old one, about to go
    assert new.record.warnings == ("anew",)
    assert store.open("tiny", 1).record == new.record
    assert store.versions("tiny") == [1]
    assert staged(store) == []


def test_a_version_replaced_meanwhile_is_not_replaced_again(store, add, contents, record):
    add()
    stored = store.open("tiny", 1)
    with store.stage() as first:
        store.replace(first, stored, rebuilt(store, record, first, contents))
    with store.stage() as second, pytest.raises(StoreError, match="replaced meanwhile"):
        store.replace(second, stored, rebuilt(store, record, second, contents))


@pytest.mark.parametrize("calls", range(12))
def test_a_disk_that_fails_while_replacing_leaves_the_old_or_the_new(
    store, add, contents, record, monkeypatch, *, calls
):
    add()
    old = store.open("tiny", 1)
    left = [calls]

    def fsync(handle, real=os.fsync):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    with store.stage() as directory:
        wanted = rebuilt(store, record, directory, contents)
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            store.replace(directory, old, wanted)
        except StateError:
            pass
        finally:
            monkeypatch.undo()
    assert store.open("tiny", 1).record in (old.record, wanted)
    assert staged(store) == []


def test_a_reader_finds_a_version_whole_while_it_is_replaced(store, add, contents, record):
    add()
    stop, begun, seen = threading.Event(), threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append(store.describe("tiny", 1).record.warnings)
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(150)
    for at in range(20):
        stored = store.describe("tiny", 1)
        with store.stage() as directory:
            new = msgspec.structs.replace(
                rebuilt(store, record, directory, contents), warnings=(str(at),)
            )
            store.replace(directory, stored, new)
    stop.set()
    reader.join()
    assert seen  # and no read failed: that would have ended the thread with an error
