"""A plan in an owner's real process: the code that serves, over the fakes of TensorRT and of the device."""

from pathlib import Path

import numpy as np
import pytest

from appliance.config import GpuConfig
from appliance.errors import EngineLoad, GpuError
from runtime.gpu.engine_file import write_engine_file
from runtime.gpu.owner import Owner
from runtime.gpu.program import CopyIn, CopyOut, Execute, Place, Program, aligned
from tests.gpu.fake_tensorrt import LEAN
from tests.gpu.owned import DEVICES, ledger, pretend
from tests.gpu.plans import built, expected
from tests.gpu.pretended_tensorrt import RELEASE

EXECUTIONS = "tests.gpu.pretended_tensorrt:open_execution"


def program(rows: int) -> Program:
    """x in, the scores out."""
    size, out = rows * 40, aligned(rows * 40)
    steps = (
        CopyIn(slot=0, to=Place(space="arena", offset=0), size=size),
        Execute(
            shapes={"x": (rows, 10)},
            inputs={"x": Place(space="arena", offset=0)},
            outputs={"y": Place(space="arena", offset=out)},
        ),
        CopyOut(source=Place(space="arena", offset=out), slot=out, size=rows * 12),
    )
    return Program(steps=steps, slot_bytes=out + rows * 12, arena_bytes=out + rows * 12)


@pytest.mark.parametrize(
    ("release", "flags"),
    [("10.3", ()), ("11.4", ()), (LEAN, ("VERSION_COMPATIBLE",))],
)
def test_a_plan_serves_from_its_file_and_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, flags: tuple[str, ...]
) -> None:
    monkeypatch.setenv(RELEASE, release)
    pretend(monkeypatch, ledger=str(tmp_path / "ledger"))
    plan = built(release.removeprefix("lean-"), flags=flags)["plan"]
    path = tmp_path / "engine.fp32.trt"
    write_engine_file(path, plan=bytes(plan), stamp={}, version_compatible=bool(flags))
    gpu = Owner(executions=EXECUTIONS, devices=DEVICES, settings=GpuConfig())
    try:
        engine = gpu.load(path)
        lanes = [engine.lane() for _ in range(2)]
        assert lanes[0].shapes({"x": (5, 10)}) == {"y": (5, 3)}
        for lane in lanes:
            numbers = {rows: lane.install(program(rows)) for rows in (1, 5)}
            for turn in range(4):  # twice as written, then as graphs
                for rows, number in numbers.items():
                    x = np.random.default_rng(turn).normal(size=(rows, 10)).astype(np.float32)
                    np.ndarray(x.shape, np.float32, lane.slot)[:] = x
                    lane.run(number)
                    y = np.ndarray((rows, 3), np.float32, lane.slot, aligned(x.nbytes))
                    assert np.allclose(y, expected(x), atol=1e-6)
        assert gpu.standing().graphs == 4
        with pytest.raises(GpuError, match="was not built for"):
            lanes[0].install(program(9))
        engine.close()
        after = gpu.standing()
        assert after.free_bytes == after.total_bytes
    finally:
        gpu.close()
    (told,) = ledger(tmp_path / "ledger")
    assert told["leaks"] == {}


def test_a_plan_of_another_release_is_refused_and_the_owner_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RELEASE, "11.4")
    for release in ("10.13", "11.4"):
        plan = built(release)["plan"]
        write_engine_file(tmp_path / release, plan=bytes(plan), stamp={})
    gpu = Owner(executions=EXECUTIONS, devices=DEVICES, settings=GpuConfig())
    try:
        with pytest.raises(EngineLoad, match="not compatible with this version of TensorRT"):
            gpu.load(tmp_path / "10.13")
        gpu.load(tmp_path / "11.4").close()
        assert gpu.standing().restarts == 0
    finally:
        gpu.close()
