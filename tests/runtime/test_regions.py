"""Shared memory regions: what may become one, bounds at each use, objects that change underneath."""

import gc
import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import SharedMemoryConfig
from appliance.errors import (
    NotGranted,
    RegionTaken,
    RegionUnusable,
    RequestError,
    RequestLimit,
    UnknownRegion,
)
from runtime.regions import Regions, is_local

SIZE = 64


@pytest.fixture
def make(tmp_path):
    """Regions over a directory of the test's own, with an object "/holdfast-client-a" of SIZE bytes."""
    (tmp_path / "holdfast-client-a").write_bytes(bytes(range(SIZE)))

    def made(**settings):
        config = SharedMemoryConfig(**{"allowed": True, **settings})
        return Regions(config, directory=tmp_path)

    return made


@pytest.fixture
def regions(make):
    """Those, with all of the object registered as "r"."""
    made = make()
    made.register("r", "/holdfast-client-a", 0, SIZE)
    return made


def held_open(directory):
    """Files of `directory` that this process holds open."""
    gc.collect()
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # another thread's, closed meanwhile
            links.append(link.readlink())
    return [link for link in links if link.is_relative_to(directory)]


@given(offset=st.integers(-3, SIZE + 3), size=st.integers(-3, SIZE + 3), start=st.integers(0, 9))
def test_reads_give_exactly_the_bytes_of_the_region_or_refuse(
    tmp_path_factory, offset, size, start
):
    directory = tmp_path_factory.mktemp("shm")
    (directory / "holdfast-client-a").write_bytes(bytes(range(SIZE)))
    regions = Regions(SharedMemoryConfig(allowed=True), directory=directory)
    regions.register("r", "holdfast-client-a", start, SIZE - 2 * start)
    whole = bytes(range(SIZE))[start : SIZE - start]
    if 0 <= offset < len(whole) and 0 <= size <= len(whole) - offset:
        assert bytes(regions.find("r", offset, size).read()) == whole[offset : offset + size]
    else:
        with pytest.raises(RequestError, match="Invalid offset"):
            regions.find("r", offset, size).read()


@pytest.mark.parametrize("number", [2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1])
def test_numbers_that_overflow_elsewhere_are_out_of_bounds(make, regions, number):
    with pytest.raises(RequestError, match="Invalid offset for"):
        regions.find("r", number, 1).read()
    with pytest.raises(RequestError, match=r"Invalid offset \+ byte size"):
        regions.find("r", 1, number).read()
    for offset, size in ((number, 1), (1, number), (number, number)):
        with pytest.raises(RequestError, match="invalid args"):
            make(bytes_max=2**31 - 1).register(
                "s", "/holdfast-client-a", offset, min(size, 2**31 - 1)
            )


def test_what_was_read_does_not_change_with_the_object(regions, tmp_path):
    before = regions.find("r", 0, 4).read()
    (tmp_path / "holdfast-client-a").write_bytes(b"\xff" * SIZE)
    assert bytes(before) == b"\0\1\2\3"
    assert bytes(regions.find("r", 0, 4).read()) == b"\xff" * 4


def test_an_object_that_shrinks_is_an_error_and_does_not_grow_again(regions, tmp_path):
    os.truncate(tmp_path / "holdfast-client-a", 10)
    assert len(regions.find("r", 0, 10).read()) == 10
    with pytest.raises(RegionUnusable, match="Invalid shared memory region: 'r'"):
        regions.find("r", 0, 11).read()
    with pytest.raises(RegionUnusable, match="Invalid shared memory region: 'r'"):
        regions.find("r", 8, 4).write(b"1234")
    assert (tmp_path / "holdfast-client-a").stat().st_size == 10


def test_writes_go_where_they_should_and_nowhere_else(make, tmp_path):
    regions = make()
    regions.register("r", "/holdfast-client-a", 16, 16)
    regions.find("r", 4, 8).write(memoryview(b"abcd"))
    whole = (tmp_path / "holdfast-client-a").read_bytes()
    assert whole == bytes(range(20)) + b"abcd" + bytes(range(24, SIZE))
    with pytest.raises(RequestError, match="Invalid offset"):
        regions.find("r", 12, 5).write(b"abcde")
    with pytest.raises(UnknownRegion, match="Unable to find shared memory region: 's'"):
        regions.find("s", 0, 1).write(b"a")


def test_a_piece_outlives_its_region_and_does_not_follow_the_name(make, tmp_path):
    (tmp_path / "holdfast-client-b").write_bytes(bytes(SIZE))
    regions = make()
    regions.register("r", "/holdfast-client-a", 0, SIZE)
    piece = regions.find("r", 0, 4)
    regions.unregister("r")
    regions.register("r", "/holdfast-client-b", 0, SIZE)
    piece.write(b"mine")
    assert bytes(piece.read()) == b"mine"
    assert (tmp_path / "holdfast-client-b").read_bytes() == bytes(SIZE)
    regions.unregister("")
    assert held_open(tmp_path) == [tmp_path / "holdfast-client-a"]
    del piece
    assert not held_open(tmp_path)


def test_regions_come_and_go_while_others_read(make):
    regions, wrong = make(), []

    def read():
        for _ in range(500):
            try:
                got = bytes(regions.find("r", 8, 8).read())
            except UnknownRegion:
                continue
            if got != bytes(range(8, 16)):
                wrong.append(got)

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        regions.register("r", "/holdfast-client-a", 0, SIZE)
        regions.unregister("r")
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "key",
    [
        "/other",
        "",
        "/",
        "/holdfast-client-",
        "//holdfast-client-a",
        "/holdfast-client-a/../../etc/passwd",
        "/../holdfast-client-a",
        "/holdfast-client-a\0",
        "/holdfast-client-" + "a" * 300,
        "/holdfast-runtime-x",
        "/sem.holdfast-client-a",
    ],
)
@pytest.mark.parametrize("prefix", ["/holdfast-client-", "/"])
def test_keys_outside_the_prefix_are_refused_before_anything_is_opened(make, key, prefix):
    made = make(key_prefix=prefix)
    with pytest.raises((RequestError, RegionUnusable)):
        made.register("s", key, 0, 1)
    assert not made.status("")


@pytest.mark.parametrize("prefix", ["", "/", "/holdfast-runtime-", "/sem."])
def test_reserved_keys_are_refused_whatever_the_prefix(make, prefix, tmp_path):
    for file in ("holdfast-runtime-x", "sem.x"):
        (tmp_path / file).write_bytes(bytes(SIZE))
        with pytest.raises(RequestError, match="contains the reserved prefix"):
            make(key_prefix=prefix).register("s", f"/{file}", 0, 1)


def test_links_directories_pipes_and_others_objects_are_told_alike(make, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(SIZE))
    (tmp_path / "holdfast-client-symlink").symlink_to(secret)
    os.link(secret, tmp_path / "holdfast-client-hardlink")
    (tmp_path / "holdfast-client-directory").mkdir()
    os.mkfifo(tmp_path / "holdfast-client-pipe")
    for kind in ("symlink", "hardlink", "directory", "pipe", "missing"):
        with pytest.raises(RegionUnusable) as refused:
            make().register("s", f"/holdfast-client-{kind}", 0, 1)
        assert str(refused.value) == (
            f"Unable to open shared memory region: '/holdfast-client-{kind}'"
        )
    del refused
    assert not held_open(tmp_path)


def test_only_objects_of_allowed_users(make, monkeypatch):
    owner = os.geteuid()
    monkeypatch.setattr("runtime.regions.os.geteuid", lambda: owner + 1)
    with pytest.raises(RegionUnusable, match="Unable to open"):
        make().register("s", "/holdfast-client-a", 0, 1)
    made = make(owners=(owner,))
    made.register("s", "/holdfast-client-a", 0, 1)
    assert made.status("s")[0].byte_size == 1


def test_limits_on_count_bytes_and_names(make):
    made = make(regions_max=2, bytes_max=SIZE)
    made.register("a", "/holdfast-client-a", 0, SIZE - 1)
    with pytest.raises(RequestLimit, match="64 bytes together"):
        made.register("b", "/holdfast-client-a", 0, 2)
    made.register("b", "/holdfast-client-a", 0, 1)
    with pytest.raises(RequestLimit, match="2 shared memory regions"):
        made.register("c", "/holdfast-client-a", 0, 1)
    made.unregister("a")
    made.register("c", "/holdfast-client-a", 0, 1)
    for name in ("", "n" * 257):
        with pytest.raises(RequestError, match="needs a name"):
            made.register(name, "/holdfast-client-a", 0, 1)
    with pytest.raises(RegionTaken):
        made.register("b", "/holdfast-client-a", 0, 1)


def test_where_it_is_not_allowed_nothing_is_found_either(make):
    with pytest.raises(NotGranted, match="Client shared memory is disabled"):
        make(allowed=False).find("r", 0, 1)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("ipv4:127.0.0.1:40212", True),
        ("ipv4:127.9.9.9:1", True),
        ("ipv6:[::1]:40212", True),
        ("ipv6:%5B::1%5D:40212", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:40212", True),
        ("unix:", True),
        ("unix-abstract:x", True),
        ("ipv4:10.0.0.7:40212", False),
        ("ipv6:%5Bfe80::1%25eth0%5D:40212", False),
        ("ipv6:%5B::ffff:10.0.0.7%5D:1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_which_peers_are_on_this_box(peer, local):
    assert is_local(peer) is local
