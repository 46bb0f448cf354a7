"""Which device gets what, and what its owner's process sees."""

import sys
from pathlib import Path

import numpy as np
import pytest

from appliance.config import Config, GpuConfig
from appliance.errors import ConfigError, GpuError, GpuUnusable
from appliance.tables import read_toml
from runtime.gpu.placing import Owners
from runtime.gpu.process import environment
from tests.gpu.owned import DEVICES, EXECUTIONS, computed, engine_file, pretend, program, some
from tests.gpu.pretence import Fault


def test_lanes_go_to_the_device_that_has_the_fewest(tmp_path: Path) -> None:
    owners = Owners(GpuConfig(devices=("0", "GPU-aa")), executions=EXECUTIONS, devices=DEVICES)
    try:
        engine = owners.load(engine_file(tmp_path / "e"))
        assert engine.shapes({"x": (1, 4)}) == {"y": (1, 4)}
        assert engine.header.stamp
        lanes = [engine.lane() for _ in range(4)]
        assert [standing.lanes for standing in owners.standings()] == [2, 2]
        lanes[0].close()
        for lane in (engine.lane(), *lanes[1:]):
            assert np.array_equal(
                computed(lane, lane.install(program(1)), some(1)), some(1) * 2 + 1
            )
        assert [standing.lanes for standing in owners.standings()] == [2, 2]
        with pytest.raises(GpuError, match="no GPU 2"):
            owners.share(2, bytes(64), 1)
        with pytest.raises(GpuError, match="cuIpcOpenMemHandle"):
            owners.share(1, b"holdfast-none".ljust(64, b"\0"), 1)
        engine.close()
        assert [standing.engines for standing in owners.standings()] == [(), ()]
    finally:
        owners.close()


def test_when_one_device_refuses_none_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    pretend(monkeypatch, faults=(Fault(call="load", kind="error", token=str(token)),))
    owners = Owners(GpuConfig(devices=("0", "1")), executions=EXECUTIONS, devices=DEVICES)
    try:
        token.touch()
        with pytest.raises(GpuError, match="failed on demand"):
            owners.load(engine_file(tmp_path / "e"))
        assert [standing.engines for standing in owners.standings()] == [(), ()]
    finally:
        owners.close()
    token.touch()
    pretend(monkeypatch, faults=(Fault(call="stream", kind="error", token=str(token)),))
    with pytest.raises(GpuError, match="failed on demand"):
        Owners(GpuConfig(devices=("0", "1")), executions=EXECUTIONS, devices=DEVICES)


def test_the_process_sees_its_device_and_nothing_of_the_service() -> None:
    given = {"PATH": "/bin", "NOTIFY_SOCKET": "@n", "CREDENTIALS_DIRECTORY": "/c"}
    seen = environment(given, "1")
    assert seen == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PYTHONPATH": ":".join(place for place in sys.path if place),
    }
    assert environment({"CUDA_VISIBLE_DEVICES": "3, MIG-x"}, "1")["CUDA_VISIBLE_DEVICES"] == "MIG-x"
    assert environment({"CUDA_VISIBLE_DEVICES": "3"}, "GPU-y")["CUDA_VISIBLE_DEVICES"] == "GPU-y"
    with pytest.raises(GpuUnusable, match="lists 1"):
        environment({"CUDA_VISIBLE_DEVICES": "3"}, "1")
    with pytest.raises(GpuUnusable, match="lists 0"):
        environment({"CUDA_VISIBLE_DEVICES": ""}, "0")  # all were hidden


def test_names_of_devices_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[gpu]\ndevices = ["0", "GPU-8f6d1c2e-aaaa", "MIG-1/2/3"]\n')
    assert read_toml(path, Config, ConfigError).gpu.devices[1].startswith("GPU-")
    for wrong in ('["first"]', "[]", '["0,1"]'):
        path.write_text(f"[gpu]\ndevices = {wrong}\n")
        with pytest.raises(ConfigError):
            read_toml(path, Config, ConfigError)
