"""What comes back to a fresh process, and what those who use it see meanwhile."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.errors import GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu.belongings import Belongings
from runtime.gpu.link import Done, Install, Load, Loaded, OpenLane, Reply, Request, Share, Unload
from runtime.gpu.opened import Engine, Lane, Shared
from runtime.gpu.owner import Owner
from runtime.gpu.slots import Slot
from tests.gpu.owned import computed, engine_file, owner, pretend, program, some, until
from tests.gpu.pretence import Fault

FULL = GpuMemory("full", remedy="free some")


class Process:
    """Says to everything that it is done; the requests of a kind in `refused` are refused, each once."""

    def __init__(self) -> None:
        self.told: list[Request] = []
        self.refused: dict[type[Request], list[Exception]] = {}
        self.lines: list[Any] = []  # of the lane, as it was at each request
        self.belongings = Belongings("0", self, 1.0)
        self.engine = Engine(self, 1, Path("model/engine"))  # type: ignore[arg-type]
        self.lane = Lane(self, self.engine, 2, Slot.made())  # type: ignore[arg-type]
        self.lane.programs = {1: program(1), 2: program(2)}
        self.lane.trouble = FULL
        self.engine.lanes[2] = self.belongings.lanes[2] = self.lane
        self.belongings.engines[1] = self.engine

    def __call__(self, request: Request, _descriptors: tuple[int, ...]) -> Reply:
        self.told.append(request)
        self.lines.append(self.lane.line)
        if refusals := self.refused.get(type(request)):
            raise refusals.pop()
        return Loaded(header=b"") if isinstance(request, Load) else Done()


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process()
    yield made
    made.belongings.forget(made.lane)
    made.lane.memory.close()


def test_a_lane_is_used_when_all_its_programs_are_back_and_not_before(process: Process) -> None:
    process.belongings.try_again()
    assert [type(each) for each in process.told] == [Load, OpenLane, Install, Install]
    assert process.lines == [None] * 4, "a run would have found no program"
    assert process.lane.line is not None
    assert process.belongings.trouble == ""
    process.belongings.try_again()
    assert len(process.told) == 4


def test_one_that_finds_no_memory_again_was_never_there(process: Process) -> None:
    process.refused[Install] = [FULL]
    process.belongings.try_again()
    assert isinstance(process.told[-1], Unload)
    assert process.lines == [None] * 4
    assert process.lane.trouble is FULL
    process.belongings.try_again()
    assert process.lane.line is not None


@pytest.mark.parametrize("error", [GpuLost("gone", remedy=""), GpuUnusable("no", remedy="")])
def test_a_device_that_is_no_use_ends_the_attempt(process: Process, error: GpuError) -> None:
    process.refused[Load] = [error]
    with pytest.raises(type(error)):
        process.belongings.restore()
    assert [type(each) for each in process.told] == [Load]


def test_shared_memory_that_the_driver_does_not_open_any_more_is_its_client_s_trouble(
    process: Process,
) -> None:
    shared = Shared(process, 3, bytes(64), 8)  # type: ignore[arg-type]
    process.belongings.shared[3] = shared
    process.refused[Share] = [GpuUnusable("no", remedy="")]
    process.belongings.restore()
    assert not process.belongings.shared
    assert process.lane.line is not None


def test_a_fault_while_it_is_tried_again_costs_a_restart_and_not_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, ran = tmp_path / "token", threading.Event()
    with owner(rest_seconds=0.05) as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        token.touch()
        pretend(monkeypatch, faults=(Fault(call="allocate", kind="memory", token=str(token)),))

        def fails() -> None:
            ran.set()
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(gpu._belongings, "try_again", fails)
        gpu._process.kill()
        assert ran.wait(60)
        assert np.array_equal(_ran_at_last(lane, number), some(1) * 2 + 1)
        assert gpu.standing().restarts == 2


def _ran_at_last(lane: Lane, number: int) -> Any:
    """What it computes once its GPU is back."""
    until(lambda: not lane.resting)
    return computed(lane, number, some(1))


def test_what_is_closed_as_everything_comes_back_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owner() as gpu:
        engine = gpu.load(engine_file(tmp_path / "e", resident=1 << 20))
        ready, closing = Owner._ready, threading.Thread(target=engine.close)

        def late(self: Owner) -> None:
            closing.start()
            closing.join(0.2)  # it waits its turn, or has had it
            ready(self)

        monkeypatch.setattr(Owner, "_ready", late)
        gpu._process.kill()
        until(lambda: gpu.standing().restarts == 1 and gpu.standing().state == "ready")
        closing.join()
        standing = gpu.standing()
        assert standing.free_bytes == standing.total_bytes


def test_a_lane_that_did_not_come_back_says_so_to_whoever_has_a_new_program_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        lane.install(program(1))
        pretend(monkeypatch, faults=(Fault(call="allocate", kind="memory", token=str(token)),))
        gpu._process.kill()
        until(lambda: gpu.standing().restarts == 1)
        with pytest.raises(GpuMemory, match="allocate"):
            lane.install(program(2))


def test_a_driver_that_refuses_one_request_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, faults=(Fault(call="open_shared", kind="unusable"),))
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        with pytest.raises(GpuUnusable, match="driver says no"):
            gpu.share(b"client".ljust(64, b"\0"), 64)
        assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
        assert gpu.standing().restarts == 0


def test_a_device_that_refuses_to_run_is_taken_up_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.touch()
    pretend(monkeypatch, faults=(Fault(call="record", kind="unusable", token=str(token)),))
    with owner() as gpu:
        lane = gpu.load(engine_file(tmp_path / "e")).lane()
        number = lane.install(program(1))
        with pytest.raises(GpuLost, match="driver says no"):
            lane.run(number)
        assert np.array_equal(_ran_at_last(lane, number), some(1) * 2 + 1)
        assert gpu.standing().restarts == 1
