"""The owner over both real device libraries and a stub of the driver: what the fake cannot be wrong about."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.config import GpuConfig
from appliance.errors import GpuLost, GpuMemory
from runtime.gpu.engine_file import Compiled, write_engine_file
from runtime.gpu.owner import Owner
from runtime.gpu.program import CopyIn, CopyOut, Launch, Long, Place, Program, Single, Whole
from tests.gpu.device_contract import PTX
from tests.gpu.stub_libraries import over_stubs, stub_cuda
from tests.gpu.test_devices import PYCUDA

HERE = Place(space="arena", offset=0)
FILL = Program(
    steps=(
        CopyIn(slot=0, to=HERE, size=64),
        Launch(
            kernel="fill",
            grid=(1, 1, 1),
            block=(8, 1, 1),
            arguments=(HERE, Whole(8), Single(2.5)),
        ),
        CopyOut(source=HERE, slot=256, size=64),
        CopyOut(source=Place(space="constants", offset=0), slot=512, size=4),
    ),
    slot_bytes=768,
    arena_bytes=64,
    constants=b"kept",
)
TRESPASS = Program(
    steps=(Launch(kernel="trespass", grid=(1, 1, 1), block=(1, 1, 1), arguments=(Long(16),)),),
    slot_bytes=0,
    arena_bytes=0,
)


class Nothing:
    """An execution that nobody runs."""

    resident_bytes = activation_bytes = 0

    def close(self) -> None:
        """Nothing is held."""


def open_nothing(_device: Any, _plan: bytes, _header: Any) -> Nothing:
    return Nothing()


@pytest.mark.parametrize("library", ["pycuda", "bindings"])
def test_programs_graphs_loss_and_return(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "pycuda" and not PYCUDA.is_dir():
        pytest.skip("pycuda was not built: packaging/pycuda_wheel.py does that")
    for name, value in over_stubs(stub_cuda()).items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if "CUDA" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STUB_CUDA", "memory=1048576")
    monkeypatch.setattr(sys, "path", [str(PYCUDA), *sys.path])
    path = tmp_path / "engine"
    kernels = ("fill", "add_long", "trespass")
    modules = [Compiled("ptx", (7, 5), PTX + b"\0")]
    write_engine_file(path, plan=b"none", modules=modules, kernels=kernels, stamp={})
    owner = Owner(
        executions="tests.gpu.test_owner_over_driver:open_nothing",
        settings=GpuConfig(library=library),
    )
    try:
        engine = owner.load(path)
        lane = engine.lane()
        fill, trespass = lane.install(FILL), lane.install(TRESPASS)
        sent, made = np.ndarray(16, "f4", lane.slot), np.ndarray(16, "f4", lane.slot, 256)
        for turn in range(5):
            sent[:] = turn
            lane.run(fill)
            assert made.tolist() == [2.5] * 8 + [turn] * 8
        assert bytes(lane.slot[512:516]) == b"kept"
        standing = owner.standing()
        assert (standing.graphs, standing.ungraphed) == (1, ())
        assert standing.total_bytes == 1 << 20
        with pytest.raises(GpuLost, match="illegal memory access"):
            lane.run(trespass)
        sent[:] = 7
        made[:] = 0
        lane.run(fill)
        assert made.tolist() == [2.5] * 8 + [7] * 8
        assert owner.standing().restarts == 1
        with pytest.raises(GpuMemory):
            lane.install(Program(steps=(), slot_bytes=0, arena_bytes=1 << 20))
        engine.close()
        after = owner.standing()
        assert after.free_bytes == after.total_bytes
    finally:
        owner.close()
