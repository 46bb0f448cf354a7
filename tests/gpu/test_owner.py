"""The owner of a GPU: a real process, over a fake device and a stand-in engine."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import EngineError, EngineLoad, GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu.owner import Owner
from runtime.gpu.program import Launch, Program
from runtime.gpu.standing import State
from tests.gpu.owned import (
    BROKEN,
    DEVICES,
    EXECUTIONS,
    computed,
    engine_file,
    ledger,
    owner,
    pretend,
    program,
    some,
    until,
)
from tests.gpu.pretence import Fault


def test_a_batch_goes_through_and_everything_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, ledger=str(tmp_path / "ledger"))
    with owner() as gpu:
        engine = gpu.load(engine_file(tmp_path / "e", layers=((2, 1), (3, 0))))
        assert engine.header.stamp == {"standin": "1"}
        assert engine.shapes({"x": (3, 4)}) == {"y": (3, 4)}
        lane = engine.lane()
        numbers = {rows: lane.install(program(rows)) for rows in (1, 3)}
        for turn in range(4):  # as written twice, then as graphs
            for rows, number in numbers.items():
                x = some(rows, turn)
                assert np.array_equal(computed(lane, number, x), (x * 2 + 1) * 3)
        standing = gpu.standing()
        assert (standing.state, standing.graphs, standing.ungraphed) == ("ready", 2, ())
        assert standing.engines == (str(tmp_path / "e"),)
        lane.forget(numbers[1])
        assert np.array_equal(computed(lane, numbers[3], x), (x * 2 + 1) * 3)
        engine.close()
        engine.close()
        after = gpu.standing()
        assert after.free_bytes == after.total_bytes
        with pytest.raises(EngineError, match="closed"):
            lane.run(numbers[3])
    (told,) = ledger(tmp_path / "ledger")
    assert told["leaks"] == {}
    assert told["calls"]["replay"] == 5


def test_a_program_that_is_not_repeatable_or_graphs_that_are_off_stay_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine_file(tmp_path / "e")
    for settings, told in (({}, {"repeatable": False}), ({"graphs": False}, {})):
        with owner(**settings) as gpu:
            lane = gpu.load(path).lane()
            number = lane.install(program(1, **told))
            for _ in range(4):
                computed(lane, number, some(1))
            assert gpu.standing().graphs == 0


def test_what_cannot_be_captured_runs_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, faults=(Fault(call="captured", kind="error"),))
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        for _ in range(4):
            assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        assert gpu.standing().ungraphed == ("captured: failed on demand",)


def test_an_illegal_access_costs_each_run_on_its_way_one_error_and_all_comes_back(
    tmp_path: Path,
) -> None:
    with owner(lanes=2) as gpu:
        engine = gpu.load(engine_file(tmp_path / "e"))
        lanes = [engine.lane() for _ in range(2)]
        numbers = [lane.install(program(2)) for lane in lanes]
        first = gpu.standing().pid
        for _ in range(3):
            computed(lanes[1], numbers[1], some(2))
        bad = some(2)
        bad[0, 0] = BROKEN
        with pytest.raises(GpuLost, match="GPU 0 was lost: an illegal memory access"):
            computed(lanes[0], numbers[0], bad)
        # The very next run waits for the new process, which has engine, lanes and programs again.
        for lane, number in zip(lanes, numbers, strict=True):
            for _ in range(3):
                assert np.array_equal(computed(lane, number, some(2)), some(2) * 2 + 1)
        standing = gpu.standing()
        assert standing.pid != first
        assert (standing.state, standing.restarts, standing.trouble) == ("ready", 1, "")


def test_under_load_every_run_is_answered_once_whatever_breaks(tmp_path: Path) -> None:
    with owner(lanes=3, restarts_max=1000) as gpu:
        engine = gpu.load(engine_file(tmp_path / "e"))
        lanes = [engine.lane() for _ in range(3)]
        numbers = [lane.install(program(1)) for lane in lanes]

        def drive(which: int) -> tuple[int, int]:
            lane, number = lanes[which], numbers[which]
            fine = lost = 0
            for turn in range(40):
                x = some(1, which * 100 + turn)
                if which == 0 and turn in (5, 25):
                    x[0, 0] = BROKEN
                try:
                    assert np.array_equal(computed(lane, number, x), x * 2 + 1)
                    fine += 1
                except GpuLost:
                    lost += 1
            return fine, lost

        with ThreadPoolExecutor(3) as pool:
            told = list(pool.map(drive, range(3)))
    assert all(fine + lost == 40 for fine, lost in told)
    assert told[0][1] >= 2
    assert all(lost <= 2 for _, lost in told)


def test_a_process_that_is_killed_or_hangs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    hang = Fault(call="replay", at=1, kind="hang", token=str(token))
    pretend(monkeypatch, faults=(hang,))
    with owner(run_seconds_max=40) as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        for _ in range(2):
            computed(lane, number, some(1))
        assert lane.line is not None
        assert lane.line.gettimeout() == 40
        lane.line.settimeout(0.3)  # of the run that hangs: all others may take their time
        with pytest.raises(GpuLost, match="over 40 seconds"):
            computed(lane, number, some(1))
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        os.kill(gpu.standing().pid, signal.SIGKILL)
        until(lambda: gpu.standing().restarts >= 2)
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)


def test_one_that_breaks_too_often_rests_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting: list[tuple[str, bool, GpuLost]] = []
    becomes = Owner._become
    with owner(restarts_max=0, rest_seconds=0.05) as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))

        def become(self: Owner, state: State) -> None:
            becomes(self, state)
            if state is State.FAILED:  # its rest begins when this is over
                with pytest.raises(GpuLost, match="was lost") as refused:
                    lane.run(number)
                resting.append((gpu.standing().state, lane.resting, refused.value))

        monkeypatch.setattr(Owner, "_become", become)
        with pytest.raises(GpuLost):
            computed(lane, number, np.full((1, 4), BROKEN, np.float32))
        until(lambda: gpu.standing().state == "ready")
        ((state, rests, refused),) = resting
        assert (state, rests) == ("failed", True)
        assert "starts anew by itself" in refused.remedy
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)


def test_an_engine_that_does_not_fit_is_refused_and_idle_ones_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, memory_bytes=10 << 20)
    with owner(memory_share=1.0) as gpu:
        paths = [engine_file(tmp_path / f"e{n}", resident=3 << 20) for n in range(4)]
        first = gpu.load(paths[0])
        lane = first.lane()
        number = lane.install(program(1))
        second, third = gpu.load(paths[1]), gpu.load(paths[2])
        fourth = gpu.load(paths[3])
        assert second.evicted
        assert gpu.standing().engines == (str(paths[0]), str(paths[2]), str(paths[3]))
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        again = second.lane()  # the third, idle longest, makes room
        assert (second.evicted, third.evicted, fourth.evicted) == (False, True, False)
        lanes = [fourth.lane()]
        with pytest.raises(GpuMemory, match="3145728 are asked for"):
            third.lane()
        again.close()
        with pytest.raises(GpuMemory, match="a batch of this size"):
            lane.install(Program(steps=(), slot_bytes=0, arena_bytes=10 << 20))
        assert second.evicted  # also where that was not enough
        again = second.lane()
        for one in (*lanes, again):
            one.close()


def test_admission_names_both_numbers_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, memory_bytes=1 << 20)
    with owner(memory_share=0.05) as gpu:
        path = engine_file(tmp_path / "e")
        with path.open("r+b"):
            pass
        big = tmp_path / "big"
        engine_file(big, layers=((1.0, 0.0),) * 20000)
        with pytest.raises(GpuMemory, match=r"loading .*/big needs \d+ bytes .* may be taken"):
            gpu.load(big)
        lane = gpu.load(path).lane()
        with pytest.raises(GpuMemory, match="a batch of this size needs"):
            lane.install(Program(steps=(), slot_bytes=0, arena_bytes=1 << 20))
        number = lane.install(program(1))
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)


def test_wrong_files_shapes_and_programs_are_refused_and_nothing_else_suffers(
    tmp_path: Path,
) -> None:
    with owner() as gpu:
        engine = gpu.load(engine_file(tmp_path / "e"))
        lane = engine.lane()
        number = lane.install(program(1))
        with pytest.raises(EngineLoad):
            gpu.load(tmp_path / "none")
        with pytest.raises(GpuError, match="not built for"):
            engine.shapes({"x": (1, 5)})
        with pytest.raises(GpuError, match="not built for"):
            lane.install(program(100))
        unknown = Launch(kernel="none", grid=(1, 1, 1), block=(1, 1, 1), arguments=())
        with pytest.raises(EngineError, match="no kernel 'none'"):
            lane.install(Program(steps=(unknown,), slot_bytes=0, arena_bytes=0))
        with pytest.raises(EngineError, match="no program 99"):
            lane.run(99)
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)


def test_a_gpu_that_cannot_be_opened_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="cannot be had"):
        Owner(executions=EXECUTIONS, devices="tests.gpu.fakes:nothing")
    pretend(monkeypatch, faults=(Fault(call="stream", kind="exit"),))
    with pytest.raises(GpuUnusable, match=r"ended at its start \(with status 66"):
        Owner(executions=EXECUTIONS, devices=DEVICES)


def test_shared_memory_is_read_and_written_within_its_bounds(tmp_path: Path) -> None:
    name = f"holdfast-test-{os.getpid()}-{threading.get_ident()}"
    path = Path("/dev/shm") / name
    path.write_bytes(bytes(range(100)))
    handle = name.encode().ljust(64, b"\0")
    try:
        with owner() as gpu:
            shared = gpu.share(handle, 64)
            assert shared.read(2, 3) == b"\2\3\4"
            shared.write(60, b"abcd")
            assert path.read_bytes()[60:66] == b"abcd@A"
            for offset, size in ((62, 3), (-1, 2), (0, 0)):
                with pytest.raises(GpuError, match="of shared memory of 64"):
                    shared.read(offset, size)
            with pytest.raises(GpuError, match="an allocation that has 100"):
                gpu.share(handle, 101)
            with pytest.raises(GpuError, match="a handle of 3 bytes"):
                gpu.share(b"abc", 1)
            os.kill(gpu.standing().pid, signal.SIGKILL)
            until(lambda: gpu.standing().restarts >= 1)
            assert shared.read(0, 2) == b"\0\1"  # opened again by itself
            shared.close()
            with pytest.raises(GpuError, match="not open"):
                shared.read(0, 1)
    finally:
        path.unlink()


def test_closing_a_lane_wakes_whoever_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        lane.install(program(1))
        assert lane.line is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lane.line.close()
        lane.line = ours  # a line on which nobody answers
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lane.run, 1)
            assert theirs.recv(4)
            lane.close()
            with pytest.raises(EngineError, match="closed"):
                waiting.result(20)
        theirs.close()


def test_the_process_ends_with_its_owner(tmp_path: Path) -> None:
    with owner() as gpu:
        pid = gpu.standing().pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(GpuLost, match="closed"):
        gpu.load(tmp_path / "e")
    gpu.close()


def test_a_lane_that_is_closed_while_all_is_brought_back_stays_closed(tmp_path: Path) -> None:
    with owner(restarts_max=1000) as gpu:
        engine = gpu.load(engine_file(tmp_path / "e"))
        bad = np.full((1, 4), BROKEN, np.float32)
        for _ in range(5):
            lanes = [engine.lane() for _ in range(3)]
            number = lanes[0].install(program(1))
            with pytest.raises(GpuLost):
                computed(lanes[0], number, bad)
            for lane in lanes:
                lane.close()
            assert all(lane.line is None for lane in lanes)
        assert engine.shapes({"x": (1, 4)}) == {"y": (1, 4)}
        assert gpu.standing().lanes == 0
        gpu.load(engine_file(tmp_path / "f")).lane()


def test_the_process_imports_no_heavy_library() -> None:
    code = (
        "import sys, runtime.gpu.child, runtime.gpu.execution, runtime.gpu.opening\n"
        "print([name for name in ('numba', 'grpc', 'numpy', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
