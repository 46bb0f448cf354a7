"""Whether the box's memory holds one more version."""

import dataclasses

import msgspec
import pytest

from appliance.errors import EngineLoad
from appliance.store import Store
from runtime.memory import SPARE_BYTES, check_room, free_bytes, needed_bytes

MIB = 1 << 20


@pytest.fixture
def box(tmp_path):
    """A root directory: box(available in KiB, group={path: {file: text}})."""

    def make(available=None, own=None, groups=None):
        (tmp_path / "proc/self").mkdir(parents=True)
        if available is not None:
            text = f"MemTotal: 999 kB\nMemAvailable:   {available} kB\nHugepagesize: 2048 kB\n"
            (tmp_path / "proc/meminfo").write_text(text)
        if own is not None:
            (tmp_path / "proc/self/cgroup").write_text(f"4:memory:/old\n0::{own}\n")
        for group, files in (groups or {}).items():
            directory = tmp_path / "sys/fs/cgroup" / group
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (directory / name).write_text(f"{text}\n")
        return tmp_path

    return make


@pytest.fixture
def stored(digits_state):
    """Version 1 of digits, of which loading took so many MiB."""
    found = Store(digits_state / "store").describe("digits", 1)

    def taking(mebibytes):
        memory = None if mebibytes is None else mebibytes * MIB
        proof = msgspec.structs.replace(found.record.proof, memory_bytes=memory)
        return dataclasses.replace(found, record=msgspec.structs.replace(found.record, proof=proof))

    return taking


def test_what_the_system_has_counts(box):
    assert free_bytes(box(available=2048)) == (2 * MIB, "the system")


def test_the_narrowest_group_counts_and_gives_back_its_cached_files(box):
    root = box(
        available=1 << 20,
        own="/holdfast.slice/holdfast-runtime.service",
        groups={
            "holdfast.slice": {"memory.max": 100 * MIB, "memory.current": 90 * MIB},
            "holdfast.slice/holdfast-runtime.service": {
                "memory.max": 80 * MIB,
                "memory.current": 78 * MIB,
                "memory.stat": f"anon {MIB}\ninactive_file {5 * MIB}",
            },
        },
    )
    assert free_bytes(root) == (7 * MIB, "the limit of holdfast-runtime.service")


def test_a_group_without_a_limit_is_none(box):
    root = box(available=3072, own="/a", groups={"a": {"memory.max": "max", "memory.current": 5}})
    assert free_bytes(root) == (3 * MIB, "the system")


def test_where_nothing_tells_nothing_is_refused(box, stored):
    root = box()
    assert free_bytes(root) is None
    check_room(stored(1 << 30), root=root)


def test_a_version_takes_what_it_took_when_built_but_at_least_its_file(stored):
    assert needed_bytes(stored(50)) == 50 * MIB
    version = stored(0)
    engine = (version.directory / version.record.engine.file).stat().st_size
    assert needed_bytes(stored(0)) == needed_bytes(stored(None)) == engine


def test_what_would_not_fit_is_refused_with_the_figures(box, stored):
    root = box(available=(SPARE_BYTES + 50 * MIB) >> 10)
    check_room(stored(50), root=root)
    with pytest.raises(EngineLoad) as refused:
        check_room(stored(51), root=root)
    assert str(refused.value) == (
        "version 1 of 'digits' takes 51 MiB of memory beside the 64 MiB that must stay free: "
        "the system leaves 114 MiB"
    )


def test_this_box_tells():
    free = free_bytes()
    assert free is None or free.bytes > 0
