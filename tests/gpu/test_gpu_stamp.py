"""What an engine for a GPU is stamped with, told without TensorRT and without CUDA."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import msgspec
import pytest

from appliance.config import GpuConfig
from appliance.driver import Gpu, Probe
from appliance.errors import EngineLoad
from runtime.engines import gpu_stamp
from runtime.engines.stamp import KINDS, stamp_of
from runtime.gpu import current
from runtime.kernels.cuda.toolchain import edition

H100 = Gpu(index=0, uuid="GPU-aa", name="NVIDIA H100", capability=(9, 0), memory_bytes=1 << 36)
T4 = Gpu(index=1, uuid="GPU-bb", name="Tesla T4", capability=(7, 5), memory_bytes=1 << 34)


class Driver:
    """What the probe says, and how often it was asked."""

    def __init__(self) -> None:
        self.answer = Probe(cuda=13010, release="580.65.06", gpus=(H100, T4))
        self.asked = 0

    def __call__(self, device: str) -> Probe:
        assert device in ("0", "GPU-bb")
        self.asked += 1
        return self.answer


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of installed packages, by name."""
    packages: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in packages:
            raise PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(gpu_stamp, "version", version)
    return packages


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> Iterator[Driver]:
    installed["tensorrt"] = "10.13.0.35"
    made = Driver()
    monkeypatch.setattr(gpu_stamp, "probe", made)
    monkeypatch.setattr(gpu_stamp, "_found", {})
    before = current.settings()
    yield made
    current.use(before)


def test_stamp_names_all_that_a_plan_depends_on(driver: Driver) -> None:
    stamp = stamp_of("tensorrt")
    assert stamp.pop("os")
    assert stamp.pop("kernels") == edition()
    assert stamp == {
        "tensorrt": "10.13.0.35",
        "cuda": "13.1",
        "driver": "580.65.06",
        "gpu": "NVIDIA H100",
        "sm": "9.0",
    }
    assert "tensorrt" not in sys.modules


def test_stamp_is_of_the_gpu_that_serves(driver: Driver) -> None:
    current.use(GpuConfig(devices=("GPU-bb",)))
    assert stamp_of("tensorrt")["sm"] == "7.5"


def test_a_driver_without_a_release_is_told_by_its_cuda(driver: Driver) -> None:
    driver.answer = msgspec.structs.replace(driver.answer, release="")
    assert stamp_of("tensorrt")["driver"] == "of CUDA 13.1"


def test_driver_is_asked_once_it_said_yes_never_again(driver: Driver) -> None:
    yes, driver.answer = driver.answer, Probe(trouble="no driver", remedy="install one")
    for _ in range(2):
        with pytest.raises(EngineLoad, match=r"'tensorrt' here: no driver") as failure:
            stamp_of("tensorrt")
        assert failure.value.remedy == "install one"
    driver.answer = yes
    assert stamp_of("tensorrt") == stamp_of("tensorrt")
    assert driver.asked == 3


def test_another_release_of_tensorrt_is_another_stamp(
    driver: Driver, installed: dict[str, str]
) -> None:
    before = stamp_of("tensorrt")
    installed["tensorrt"] = "10.16.1.11"
    assert stamp_of("tensorrt") == before | {"tensorrt": "10.16.1.11"}


def test_without_tensorrt_the_driver_is_not_asked(
    driver: Driver, installed: dict[str, str]
) -> None:
    installed.clear()
    with pytest.raises(EngineLoad, match="TensorRT is not installed"):
        stamp_of("tensorrt")
    assert not driver.asked


@pytest.mark.parametrize("name", gpu_stamp.DISTRIBUTIONS)
def test_tensorrt_is_found_under_each_of_its_names(installed: dict[str, str], name: str) -> None:
    installed[name] = "10.3.0"
    assert gpu_stamp.installed_tensorrt() == "10.3.0"


def test_kinds_are_those_of_the_store() -> None:
    assert set(KINDS) == {"onnxruntime", "onnxruntime-portable", "openvino", "tensorrt"}
