"""What may not end an owner's process, nor leave it half usable: signals, long loads, memory that cannot be pinned."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.config import GpuConfig
from appliance.errors import EngineLoad, GpuError, GpuLost, GpuMemory
from runtime.gpu import current
from runtime.gpu import owner as owner_room
from runtime.gpu.owner import Owner
from runtime.gpu.tracks import Need, Track
from tests.gpu.fakes import FakeDevice, open_fake
from tests.gpu.owned import (
    DEVICES,
    computed,
    engine_file,
    owner,
    owner_here,
    pretend,
    program,
    some,
    until,
)
from tests.gpu.pretence import Fault, Pretence
from tests.gpu.standin import open_execution


def test_a_line_that_ends_costs_a_run_one_error_and_the_process_starts_again(
    tmp_path: Path,
) -> None:
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        assert lane.line is not None
        lane.line.shutdown(socket.SHUT_RDWR)
        with pytest.raises(GpuLost, match="its process ended"):
            lane.run(number)
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)


def test_an_engine_that_does_not_come_back_is_told_until_it_is_closed(tmp_path: Path) -> None:
    with owner() as gpu:
        kept = gpu.load(engine_file(tmp_path / "kept")).lane()
        number = kept.install(program(1))
        engine = gpu.load(engine_file(tmp_path / "gone"))
        lane = engine.lane()
        lane.install(program(1))
        assert gpu.ill == ""
        (tmp_path / "gone").unlink()
        os.kill(gpu.standing().pid, signal.SIGKILL)
        with suppress(GpuLost, EngineLoad):  # lost, if the run was on its way when the process died
            lane.run(1)
        with pytest.raises(EngineLoad):
            lane.run(1)
        assert "did not take an engine back" in gpu.ill
        assert np.array_equal(computed(kept, number, some(1)), some(1) * 2 + 1)
        engine.close()
        assert gpu.ill == ""


def test_an_engine_that_found_no_memory_is_brought_back_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    with owner(rest_seconds=0.05) as gpu:
        resting, lane = (gpu.load(engine_file(tmp_path / name)) for name in ("idle", "served"))
        lane = lane.lane()
        number = lane.install(program(1))
        token.touch()
        pretend(monkeypatch, faults=(Fault(call="allocate", kind="memory", token=str(token)),))
        os.kill(gpu.standing().pid, signal.SIGKILL)
        until(lambda: not token.exists())  # its memory was refused once
        until(lambda: not gpu.ill)
        assert not lane.resting
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        assert not resting.evicted


def test_the_signal_that_ends_the_server_leaves_runs_in_peace(tmp_path: Path) -> None:
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        os.kill(gpu.standing().pid, signal.SIGTERM)
        for _ in range(3):
            assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        assert gpu.standing().restarts == 0


def open_held_up(device: Any, plan: bytes, header: Any) -> Any:
    """As the stand-in's, but a plan that is `resident` waits until somebody writes to the pipe HELD_UP."""
    opened = open_execution(device, plan, header)
    if opened.resident_bytes:
        Path(os.environ["HELD_UP"]).read_bytes()
    return opened


@contextmanager
def held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Owner, Callable[[], int]]]:
    """An owner whose loading is held up, and what waits until it is and gives what to close then."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv("HELD_UP", str(pipe))
    gpu = Owner(executions="tests.gpu.test_owner_steady:open_held_up", devices=DEVICES)
    try:
        yield gpu, lambda: os.open(pipe, os.O_WRONLY)
    finally:
        gpu.close()


def test_runs_are_answered_while_an_engine_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_up(tmp_path, monkeypatch) as (gpu, let_go):
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(gpu.load, engine_file(tmp_path / "f", resident=1 << 10))
            writing = let_go()
            for _ in range(5):  # as a graph from the third on, which is captured meanwhile
                assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
            assert not loading.done()
            os.close(writing)
            beside = loading.result().lane()
        assert np.array_equal(
            computed(beside, beside.install(program(1)), some(1)), some(1) * 2 + 1
        )
        standing = gpu.standing()
        assert (standing.restarts, standing.graphs) == (0, 1)


def test_a_run_may_take_longer_while_an_engine_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_up(tmp_path, monkeypatch) as (gpu, let_go), ThreadPoolExecutor(2) as pool:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        np.ndarray((1, 4), np.float32, lane.slot)[:] = some(1)
        pid = gpu.standing().pid
        assert pid is not None
        loading = pool.submit(gpu.load, engine_file(tmp_path / "f", resident=1 << 10))
        writing = let_go()
        os.kill(pid, signal.SIGSTOP)  # as a driver that lets nobody in while it reads the plan
        assert lane.line is not None
        lane.line.settimeout(0.05)
        running = pool.submit(lane.run, number)
        with pytest.raises(TimeoutError):
            running.result(0.5)
        lane.line.settimeout(60)  # once nothing is loaded it may take its time again
        os.kill(pid, signal.SIGCONT)
        os.close(writing)
        running.result()
        loading.result()
        assert gpu.standing().restarts == 0


def test_an_owner_that_is_closed_waits_for_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_up(tmp_path, monkeypatch) as (gpu, let_go), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(
            owner_room, "ANSWER_SECONDS_MAX", 3600.0
        )  # the test's own limit is shorter
        loading = pool.submit(gpu.load, engine_file(tmp_path / "f", resident=1 << 10))
        writing = let_go()
        gpu.close()
        with pytest.raises(GpuLost):
            loading.result()
        os.close(writing)


def open_device_held_up(name: str, library: str) -> FakeDevice:
    """The fake, once somebody has written to the pipe HELD_UP."""
    Path(os.environ["HELD_UP"]).read_bytes()
    return open_fake(name, library)


def test_gpus_that_are_only_being_opened_hold_up_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("HELD_UP", str(tmp_path / "pipe"))
    current.use(GpuConfig(), devices="tests.gpu.test_owner_steady:open_device_held_up")
    try:
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(current.gpus)
            writing = os.open(tmp_path / "pipe", os.O_WRONLY)
            current.release()
            assert not opening.done()
            os.close(writing)
            opening.result()
    finally:
        current.release()
        current.use(GpuConfig(), devices=current.DEVICES)


def test_a_process_that_fails_while_an_engine_is_loaded_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    pretend(monkeypatch, faults=(Fault(call="drop_event", kind="error", token=str(token)),))
    with held_up(tmp_path, monkeypatch) as (gpu, let_go), ThreadPoolExecutor(1) as pool:
        engine = gpu.load(engine_file(tmp_path / "e"))
        lane, closed = engine.lane(), engine.lane()
        number = lane.install(program(1))
        loading = pool.submit(gpu.load, engine_file(tmp_path / "f", resident=1 << 10))
        writing = let_go()
        closed.close()  # by its line, which ends, since no request is answered now
        with pytest.raises(GpuLost):
            loading.result()
        os.close(writing)
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        assert gpu.standing().restarts == 1


def test_an_engine_goes_although_one_of_its_lanes_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, faults=(Fault(call="drop_event", kind="error"),))
    gpu = owner_here()
    engine = gpu.load(engine_file(tmp_path / "e"))
    lane = engine.lane()
    with pytest.raises(GpuError, match="drop_event"):
        lane.close()
    engine.close()
    gpu.close()


def test_a_lane_goes_although_the_others_memory_cannot_be_had_at_once() -> None:
    fault = Fault(call="allocate", at=4, kind="memory")
    device = FakeDevice(Pretence(faults=(fault,)))
    track = Track(device)
    track.reserve(1, Need(arena=512, pool=256))
    track.reserve(2, Need(arena=1024, pool=256))
    track.leave(2)
    assert track.arena.size == 0
    track.ready()
    assert (track.arena.size, track.pool.size) == (512, 256)
    track.close()
    assert device.leaks() == {}


def test_a_slot_that_cannot_be_pinned_leaves_the_lane_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, faults=(Fault(call="pin", at=2, kind="memory"),))
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        big = msgspec.structs.replace(program(1), slot_bytes=1 << 20)
        with pytest.raises(GpuMemory, match="pin"):
            lane.install(big)
        for _ in range(4):
            assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        grown = lane.install(big)
        assert np.array_equal(computed(lane, grown, some(1, 5)), some(1, 5) * 2 + 1)
        assert gpu.standing().restarts == 0
