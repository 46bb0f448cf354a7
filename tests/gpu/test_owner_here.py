"""A GPU held by the calling process, as a build does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import EngineError, GpuLost, GpuMemory
from tests.gpu.owned import (
    BROKEN,
    computed,
    engine_file,
    ledger,
    owner_here,
    pretend,
    program,
    some,
)
from tests.gpu.pretence import Fault


def test_it_computes_as_the_process_does_and_gives_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, ledger=str(tmp_path / "ledger"), memory_bytes=10 << 20)
    gpu = owner_here(memory_share=1.0)
    engine = gpu.load(engine_file(tmp_path / "e", layers=((2, 1), (3, 0)), resident=4 << 20))
    lane = engine.lane(1 << 16)
    assert lane.slot.nbytes == 1 << 16
    number = lane.install(program(2))
    for turn in range(4):
        x = some(2, turn)
        assert np.array_equal(computed(lane, number, x), (x * 2 + 1) * 3)
    standing = gpu.standing()
    assert (standing.state, standing.lanes, standing.graphs) == ("ready", 1, 1)
    idle = gpu.load(engine_file(tmp_path / "f", resident=4 << 20))
    third = gpu.load(engine_file(tmp_path / "g", resident=4 << 20))
    assert idle.evicted
    third.close()
    idle.lane().close()
    big = engine_file(tmp_path / "h", resident=40 << 20)
    with pytest.raises(GpuMemory):
        gpu.load(big)
    lane.close()
    engine.close()
    gpu.close()
    (told,) = ledger(tmp_path / "ledger")
    assert told["leaks"] == {}


def test_a_lost_gpu_stays_lost_and_other_threads_are_refused(tmp_path: Path) -> None:
    gpu = owner_here()
    lane = gpu.load(engine_file(tmp_path / "e")).lane()
    number = lane.install(program(1))
    with ThreadPoolExecutor(1) as pool, pytest.raises(EngineError, match="one thread only"):
        pool.submit(lane.run, number).result()
    with pytest.raises(GpuLost, match="illegal memory access"):
        computed(lane, number, np.full((1, 4), BROKEN, np.float32))
    with pytest.raises(GpuLost, match="GPU 0 was lost: an illegal"):
        lane.run(number)
    assert gpu.standing().state == "failed"
    lane.engine.close()
    gpu.close()


def test_a_second_version_costs_its_weights_and_no_activations(tmp_path: Path) -> None:
    gpu = owner_here()
    total = gpu.standing().total_bytes
    lanes, numbers, taken = [], [], []
    for name in ("e", "f"):
        lane = gpu.load(engine_file(tmp_path / name, layers=((2, 1),) * 3, resident=1000)).lane()
        lanes.append(lane)
        numbers.append((lane.install(program(8)), lane.install(program(2))))
        taken.append(total - gpu.standing().free_bytes)
    assert taken[1] - taken[0] == 1000
    for turn in range(4):
        for lane, pair in zip(lanes, numbers, strict=True):
            for number, rows in zip(pair, (8, 2), strict=True):
                x = some(rows, turn)
                wanted = ((x * 2 + 1) * 2 + 1) * 2 + 1
                assert np.array_equal(computed(lane, number, x), wanted)
    # A larger batch of one moves the memory of both: their graphs are made anew.
    larger = lanes[0].install(program(32))
    for lane, number, rows in ((lanes[0], larger, 32), (lanes[1], numbers[1][0], 8)):
        for turn in range(4):
            x = some(rows, turn)
            assert np.array_equal(computed(lane, number, x), ((x * 2 + 1) * 2 + 1) * 2 + 1)
    lanes[0].close()
    assert total - gpu.standing().free_bytes == taken[1]
    gpu.close()


def test_memory_that_a_failure_took_away_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The arena's second size cannot be had, and at first not its old one again either.
    faults = tuple(Fault(call="allocate", at=at, kind="memory") for at in (2, 3))
    pretend(monkeypatch, faults=faults)
    gpu = owner_here()
    lane = gpu.load(engine_file(tmp_path / "e")).lane()
    number = lane.install(program(1))
    assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
    with pytest.raises(GpuMemory):
        lane.install(program(64))
    assert np.array_equal(computed(lane, number, some(1)), some(1) * 2 + 1)
    gpu.close()
