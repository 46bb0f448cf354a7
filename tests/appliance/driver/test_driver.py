"""The driver probe: each way in which a GPU cannot be used is one sentence with a remedy, and no crash of ours."""

import subprocess
import sys

import msgspec
import pytest

from appliance.driver import Gpu, Probe, asking, probe, probing, surroundings, wheels
from appliance.driver.probing import concluded
from appliance.driver.surroundings import Surroundings, look_around
from appliance.driver.wheels import Wheel, wheels_among
from appliance.errors import GpuUnusable
from tests.gpu.stub_libraries import stub_cuda

MISSING = {"error": "libcuda.so.1: cannot open shared object file: No such file or directory"}
NODES = ("/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidiactl")
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build"
OLD_MODULE = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023"
)


def failed(code, **answer):
    return {"cuda": 13000, "gpus": [], "step": "cuInit", "code": code, **answer}


def gpu(**changed):
    held = {
        "index": 0,
        "uuid": "GPU-0a",
        "name": "GPU",
        "capability": [9, 0],
        "memory_bytes": 1,
        "mig": False,
        "integrated": False,
    }
    return held | changed


def found(*gpus, cuda=13000):
    return {"cuda": cuda, "gpus": list(gpus)}


@pytest.mark.parametrize(
    ("answer", "seen", "words"),
    [
        (MISSING, Surroundings(), "no NVIDIA GPU"),
        (MISSING, Surroundings(hardware=True), "has an NVIDIA GPU, but not its driver"),
        (MISSING, Surroundings(hardware=True, nouveau=True), "nouveau"),
        (MISSING, Surroundings(wsl=True), "this is WSL"),
        (MISSING, Surroundings(container=True), "was given no GPU: there is no libcuda.so.1"),
        (MISSING, Surroundings(container=True, nodes=NODES), "but not the driver's library"),
        (MISSING, Surroundings(nodes=NODES, release="580.65.06"), "kernel module is there"),
        ({"error": "libcuda.so.1: wrong ELF class"}, Surroundings(), "wrong ELF class"),
        (failed(999), Surroundings(nodes=NODES, locked=NODES[:1], group="video"), "/dev/nvidia0"),
        (failed(999), Surroundings(nodes=NODES[:1]), "/dev/nvidia-uvm is missing"),
        (failed(999, name="CUDA_ERROR_UNKNOWN"), Surroundings(nodes=NODES), "ERROR_UNKNOWN"),
        (failed(100), Surroundings(visible="-1"), "CUDA_VISIBLE_DEVICES is '-1'"),
        (failed(100), Surroundings(container=True), "was given no GPU"),
        (failed(100), Surroundings(), "no device file /dev/nvidia0"),
        (failed(100), Surroundings(unit=True), "this unit of systemd is shown no device file"),
        (failed(304), Surroundings(unit=True, nodes=NODES, locked=NODES[:1]), "may not open"),
        (failed(100), Surroundings(nodes=NODES), "shows no GPU"),
        (found(), Surroundings(nodes=NODES), "shows no GPU"),
        (failed(34), Surroundings(), "stand-in for linking"),
        (failed(46), Surroundings(nodes=NODES), "exclusive use"),
        (failed(304), Surroundings(nodes=NODES), "sandbox"),
        (failed(802), Surroundings(nodes=NODES), "fabric"),
        (failed(803), Surroundings(nodes=NODES), "different releases"),
        (failed(804), Surroundings(nodes=NODES), "forward compatibility"),
        (found(gpu(capability=[6, 1])), Surroundings(nodes=NODES), "compute capability 6.1"),
    ],
)
def test_each_failure_is_a_sentence_with_a_remedy(answer, seen, words):
    told = concluded(answer, seen, ())
    assert not told.usable
    assert words in told.trouble
    assert "\n" not in told.trouble
    assert told.remedy
    with pytest.raises(GpuUnusable) as raised:
        told.require()
    assert raised.value.remedy == told.remedy


def test_a_driver_older_than_the_packages_need():
    wheel = Wheel("tensorrt-cu13-libs", "11.4", 13)
    told = concluded(found(gpu(), cuda=12040), Surroundings(release="550.54.15"), (wheel,))
    assert "550.54.15, for CUDA 12.4, and tensorrt-cu13-libs 11.4 needs CUDA 13" in told.trouble
    assert "580.65.06" in told.remedy
    assert concluded(found(gpu()), Surroundings(), (wheel,)).usable
    assert concluded(found(gpu(), cuda=12040), Surroundings(), ()).usable
    unknown = concluded(found(gpu(), cuda=13000), Surroundings(), (Wheel("x", "1", 14),))
    assert "for CUDA 13.0" in unknown.trouble


def test_packages_of_several_cuda_releases():
    pair = (Wheel("cuda-bindings", "13.5.0", 13), Wheel("tensorrt-cu12-libs", "10.3", 12))
    told = concluded(found(gpu()), Surroundings(), pair)
    assert "of CUDA 12: tensorrt-cu12-libs 10.3; of CUDA 13: cuda-bindings 13.5.0" in told.trouble
    assert told.remedy.endswith("pip uninstall tensorrt-cu12-libs")


def test_packages_are_known_by_name_however_it_is_spelled():
    among = wheels_among(
        [
            ("tensorrt_cu12_bindings", "10.13"),
            ("Tensorrt.CU12", "10.13"),
            ("tensorrt-lean-cu13-libs", "11.4"),
            ("cuda_bindings", "13.5.0"),
            ("nvidia-nvvm", "13.0.88"),
            ("nvidia-cublas-cu12", "12.4"),
            ("cuda-python", "unknown"),
            ("numpy", "2.3"),
        ]
    )
    assert [(wheel.name, wheel.cuda) for wheel in among] == [
        ("cuda-bindings", 13),
        ("nvidia-nvvm", 13),
        ("tensorrt-cu12", 12),
        ("tensorrt-cu12-bindings", 12),
        ("tensorrt-lean-cu13-libs", 13),
    ]
    assert all(wheel.version for wheel in wheels.installed_wheels())


def test_gpus_are_chosen_by_index_and_uuid():
    whole = gpu(uuid="GPU-0a0b", index=0)
    part = gpu(uuid="MIG-0a0c", index=1, mig=True)
    old = gpu(uuid="GPU-ffff", index=2, capability=[7, 0], name="Old")
    told = concluded(found(whole, part, old), Surroundings(nodes=NODES), ())
    assert told.gpu("0").uuid == "GPU-0a0b"
    assert told.gpu("MIG-0a").mig
    assert told.gpu("GPU-0a").index == 0
    for name in ("3", "GPU-", "GPU-b", "nonsense", ""):
        with pytest.raises(GpuUnusable) as raised:
            told.gpu(name)
        assert "0 (GPU-0a0b)" in str(raised.value)
    with pytest.raises(GpuUnusable, match=r"compute capability 7\.0"):
        told.gpu("2")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Probe) == told


def write(root, path, text=""):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refuse(monkeypatch, error, refused):
    opened = surroundings.os.open

    def open_unless(path, flags):
        if path == refused:
            raise error
        return opened(path, flags)

    monkeypatch.setattr(surroundings.os, "open", open_unless)


def test_what_a_box_shows(tmp_path, monkeypatch):
    assert look_around(tmp_path, {}) == Surroundings()
    locked = write(tmp_path, "dev/nvidia0")
    write(tmp_path, "dev/nvidiactl")
    write(tmp_path, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    write(tmp_path, "sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    write(tmp_path, "proc/driver/nvidia/version", OPEN_MODULE)
    write(tmp_path, "sys/module/nouveau/refcnt")
    write(tmp_path, ".dockerenv")
    refuse(monkeypatch, PermissionError, locked)
    seen = look_around(tmp_path, {"CUDA_VISIBLE_DEVICES": "0"})
    assert seen.nodes == ("/dev/nvidia0", "/dev/nvidiactl")
    assert seen.locked == ("/dev/nvidia0",)
    assert seen.group
    assert seen.release == "580.65.06"
    assert (seen.hardware, seen.nouveau, seen.container, seen.visible) == (True, True, True, "0")


def test_what_other_boxes_show(tmp_path, monkeypatch):
    write(tmp_path, "proc/driver/nvidia/version", OLD_MODULE)
    write(tmp_path, "proc/version", "Linux version 5.15.90.1-microsoft-standard-WSL2")
    write(tmp_path, "proc/device-tree/compatible", "nvidia,p3701\0nvidia,tegra234\0")
    write(tmp_path, "sys/bus/pci/devices/0000:02:00.0/vendor", "0x8086\n")
    seen = look_around(tmp_path, {})
    assert (seen.release, seen.wsl, seen.hardware) == ("535.54.03", True, True)
    write(tmp_path, "proc/driver/nvidia/version", "something else")
    assert look_around(tmp_path, {}).release == ""
    node = write(tmp_path, "dev/dxg")
    refuse(monkeypatch, BlockingIOError, node)
    assert look_around(tmp_path, {}).locked == ()
    refuse(monkeypatch, PermissionError, node)
    monkeypatch.setattr(surroundings.grp, "getgrgid", lambda number: {}[number])
    assert look_around(tmp_path, {"INVOCATION_ID": "1"}).group.isdecimal()
    assert look_around(tmp_path, {"INVOCATION_ID": "1"}).unit


@pytest.fixture
def driver(monkeypatch):
    """Puts the stub of a driver in the way of children; takes what it is to do."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub_cuda()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(probing, "installed_wheels", tuple)
    monkeypatch.setattr(probing, "look_around", lambda environment: Surroundings(nodes=NODES))
    return lambda settings: monkeypatch.setenv("STUB_CUDA", settings)


def test_a_driver_that_works(driver):
    driver("count=2;memory=4096;capability=86")
    told = probe()
    assert told.usable
    assert told.cuda == 13000
    told.require()
    assert told.gpus[1] == Gpu(
        index=1,
        uuid="GPU-10111213-1415-1617-1819-1a1b1c1d1e1f",
        name="Stub GPU 1",
        capability=(8, 6),
        memory_bytes=4096,
        integrated=True,
    )


def test_an_instance_of_a_gpu(driver):
    driver("mig=1")
    asked = probe("MIG-0")
    assert asked.gpu("MIG-0").mig
    (instance,) = asked.gpus
    assert instance.uuid.startswith("MIG-01020304-")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("cuInit=999", "CUDA_ERROR_UNKNOWN"),
        ("cuInit=12345", "12345"),
        ("cuDeviceGetName=1", "cuDeviceGetName"),
        ("crash_cuInit=1", "SIGSEGV"),
        ("hang_cuDeviceGetCount=1", "did not answer within"),
        ("count=0", "shows no GPU"),
    ],
)
def test_a_driver_that_fails_takes_nobody_down(driver, settings, words):
    driver(settings)
    seconds = 0.5 if "hang" in settings else 30
    told = probe(seconds_max=seconds)
    assert words in told.trouble
    assert told.remedy


def test_a_library_that_is_no_driver(driver, tmp_path, monkeypatch):
    source = write(tmp_path, "empty.c")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-o", library, source], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "is no driver" in probe().trouble


def test_a_child_that_cannot_be_started_or_talks_nonsense(driver, monkeypatch, tmp_path):
    monkeypatch.setattr(asking, "__file__", str(write(tmp_path, "nonsense.py", "print('hm')")))
    assert "exit code 0" in probe().trouble
    monkeypatch.setattr(
        asking, "__file__", str(write(tmp_path, "odd.py", "import os; os.kill(os.getpid(), 63)"))
    )
    assert "crashed the process that asked it (" in probe().trouble
    monkeypatch.setattr(probing.sys, "executable", str(tmp_path / "missing"))
    assert "no process can be started" in probe().trouble


def test_the_child_itself(driver):
    driver("count=1")
    done = subprocess.run([sys.executable, asking.__file__], capture_output=True, check=True)
    assert msgspec.json.decode(done.stdout)["gpus"][0]["name"] == "Stub GPU 0"
