"""Both libraries over a stub of the driver, each in a process of its own, keep the contract of devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu import failures, opening
from tests.gpu.device_contract import PTX
from tests.gpu.stub_libraries import over_stubs, stub_cuda

ROOT = Path(__file__).parents[2]
PYCUDA = ROOT / "build" / "pycuda" / f"cp{sys.version_info.major}{sys.version_info.minor}"


def run_in_child(library, *arguments, **settings):
    environment = over_stubs(stub_cuda(), HOLDFAST_GPU_LIBRARY=library, **settings)
    if library == "pycuda":
        if not PYCUDA.is_dir():
            pytest.skip(
                "pycuda was not built: packaging/pycuda_wheel.py does that where there is a g++"
            )
        environment["PYTHONPATH"] = os.pathsep.join([str(PYCUDA), str(ROOT)])
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, env=environment, cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("library", ["pycuda", "bindings"])
def test_the_contract_of_devices(library):
    options = ["-q", "--no-cov", "-p", "no:cacheprovider", "tests/gpu/child_devices.py"]
    done = run_in_child(library, "-m", "pytest", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_kernels_of_the_contract_are_true_ptx():
    nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink")
    link = nvjitlink.create(1, ["-arch=sm_90"])
    nvjitlink.add_data(link, nvjitlink.InputType.PTX, PTX, len(PTX), "contract.ptx")
    nvjitlink.complete(link)
    assert nvjitlink.get_linked_cubin_size(link) > 1000
    nvjitlink.destroy(link)


@pytest.mark.parametrize("library", ["auto", "bindings"])
def test_a_box_without_a_driver(library, tmp_path):
    tmp_path.joinpath("libcuda.so.1").touch()  # in the way of a driver that this machine may have
    program = f"""
from appliance.errors import GpuUnusable
from runtime.gpu.opening import open_device
try:
    open_device("0", {library!r})
except GpuUnusable as error:
    print(error, error.remedy)
"""
    environment = {**over_stubs(tmp_path), "PYTHONPATH": f"{PYCUDA}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True
    )
    assert "libcuda.so.1" in done.stdout
    assert "holdfast doctor" in done.stdout


def test_a_box_without_a_library(monkeypatch):
    def missing():
        raise ImportError("not installed")

    unusable = dict.fromkeys(("pycuda", "bindings"), (missing, None))
    monkeypatch.setattr(opening, "_LIBRARIES", unusable)
    with pytest.raises(GpuUnusable) as refused:
        opening.open_device()
    assert "pycuda: not installed; bindings: not installed" in str(refused.value)
    assert "holdfast[gpu]" in refused.value.remedy


@pytest.mark.parametrize(
    "code", [*failures.LOST, *failures.UNUSABLE, *failures.MISFIT, 2, 1, 12345]
)
def test_every_code_has_one_meaning_and_a_remedy(code):
    found = failures.failure(code, "", "", doing="trying")
    kinds = [
        (failures.LOST, GpuLost),
        (failures.UNUSABLE, GpuUnusable),
        ({failures.OUT_OF_MEMORY}, GpuMemory),
    ]
    (kind,) = [kind for codes, kind in kinds if code in codes] or [GpuError]
    assert type(found) is kind
    assert found.remedy
    assert str(code) in str(found)
    assert type(failures.refused_module(found, "log")) is kind
