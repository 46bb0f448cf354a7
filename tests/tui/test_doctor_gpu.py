"""What the doctor says of GPUs, and how the console and `holdfast status` tell of them."""

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from appliance.config import Config, StateConfig
from appliance.driver import Gpu, Probe
from appliance.errors import StoreError
from runtime.gpu.standing import Standing
from runtime.gpu.telemetry import Reading
from runtime.services.gpus import gpus_told
from tests.tui.conftest import box, snapshot
from tests.tui.test_expiry import status_line
from tui import wording
from tui.commands.serving import _box_lines, _status_json
from tui.doctor import Verdict, gpu
from tui.doctor.gpu import examine_gpus
from tui.replies import _gpu_from_wire
from tui.snapshot import GpuLine

ONE = Gpu(index=0, uuid="GPU-a1", name="Big", capability=(9, 0), memory_bytes=80 << 30)
USABLE = Probe(present=True, cuda=13000, release="580.65.06", gpus=(ONE,))
PART = Gpu(
    index=0, uuid="MIG-b2", name="Big 1g", capability=(9, 0), memory_bytes=10 << 30, mig=True
)
INSTANCE = Probe(present=True, cuda=13000, gpus=(PART,))
BROKEN = Probe(present=True, trouble="the driver is broken", remedy="mend it")
NONE = Probe(trouble="this box has no NVIDIA GPU", remedy="nothing")


@pytest.fixture
def examine(monkeypatch, tmp_path):
    """What is found with this probe, these libraries, versions of these engines and these settings."""

    def run(probe, *, installed=True, engines=(), **settings):
        config = Config(state=StateConfig(directory=str(tmp_path)))
        if settings:
            config = Config(state=config.state, gpu=type(config.gpu)(**settings))
        monkeypatch.setattr(gpu, "probe", lambda device="": INSTANCE if device else probe)
        monkeypatch.setattr(gpu, "_is_installed", lambda module: installed)
        monkeypatch.setattr(gpu, "Store", lambda root: Versions(engines))
        return list(examine_gpus(config))

    return run


class Versions:
    """A store of one model, whose versions have these engines; None cannot be read."""

    def __init__(self, engines):
        self.engines = engines

    def models(self):
        return ["digits"]

    def versions(self, model):
        return range(len(self.engines))

    def describe(self, model, number):
        if self.engines[number] is None:
            raise StoreError("damaged", remedy="none")
        engine = SimpleNamespace(kind=self.engines[number])
        return SimpleNamespace(record=SimpleNamespace(engine=engine))


def test_a_box_without_a_gpu_is_well(examine):
    (found,) = examine(NONE, engines=["onnxruntime"])
    assert (found.verdict, found.told) == (Verdict.WELL, NONE.trouble)


def test_a_gpu_that_cannot_be_used_is_a_warning_until_a_version_needs_it(examine):
    (found,) = examine(BROKEN)
    assert found.verdict is Verdict.WARNING
    assert found.remedy == "mend it"
    (found,) = examine(BROKEN, engines=["openvino", "tensorrt"])
    assert found.verdict is Verdict.TROUBLE
    assert "digits 1 was compiled for one" in found.told
    (found,) = examine(BROKEN, engines=[None])
    assert found.verdict is Verdict.WARNING


def test_a_gpu_that_can_be_used(examine):
    driver, device = examine(USABLE)
    assert "580.65.06, for CUDA 13.0" in driver.told
    assert "0 is Big, GPU-a1: compute capability 9.0, 80.0 GiB" in device.told
    assert "an instance (MIG) of Big 1g" in examine(USABLE, devices=("MIG-b2",))[1].told
    jetson = Probe(present=True, cuda=12060, gpus=(ONE,))
    assert examine(jetson)[0].told == "it is for CUDA 12.6"


def test_settings_that_name_a_gpu_that_is_not_there(examine):
    found = examine(USABLE, devices=("3", "GPU-a"))
    assert [one.verdict for one in found] == [Verdict.WELL, Verdict.WARNING, Verdict.WELL]
    found = examine(USABLE, devices=("3",), engines=["tensorrt"])
    assert found[-1].verdict is Verdict.TROUBLE


def test_libraries_that_are_missing(examine):
    found = [one for one in examine(USABLE, installed=False) if one.subject == "GPU libraries"]
    assert len(found) == 4
    assert {one.verdict for one in found} == {Verdict.WARNING}
    assert all("holdfast[gpu]" in one.remedy for one in found)
    found = examine(USABLE, installed=False, engines=["tensorrt"])
    assert sum(one.verdict is Verdict.TROUBLE for one in found) == 2


def test_modules_are_looked_for_without_being_imported():
    assert gpu._is_installed("json")
    assert not gpu._is_installed("no_such_module")
    assert not gpu._is_installed("no_such_package.part")


OWNER = Standing("0", "Big", "ready", "", 1, 7, 20 << 30, 80 << 30, ("digits",), 2, 0, ())
LOOK = Reading(
    device="0",
    uuid="GPU-a1",
    name="Big",
    busy=0.75,
    memory_used_bytes=50 << 30,
    memory_bytes=80 << 30,
    celsius=61,
    watts=215.4,
    throttled=(),
    ecc_uncorrected=0,
)


def told(owner=OWNER, *looks):
    (line,) = map(_gpu_from_wire, gpus_told([owner], looks))
    return line


def test_an_owner_and_a_look_become_one_line():
    assert told(OWNER, LOOK) == GpuLine(
        device="0",
        name="Big",
        state="ready",
        restarts=1,
        engines=1,
        memory_free_bytes=30 << 30,
        memory_bytes=80 << 30,
        busy=0.75,
        celsius=61,
        watts=215.4,
        ecc_uncorrected=0,
    )
    blind = told()
    assert (blind.busy, blind.celsius, blind.watts, blind.ecc_uncorrected) == (None,) * 4
    assert blind.memory_free_bytes == 20 << 30
    lost = Reading(device="0", uuid="GPU-a1", name="Big", trouble="GPU is lost")
    assert told(OWNER, lost).failing == "is ready: GPU is lost"


def test_status_tells_of_gpus():
    now = snapshot(box=box(gpus=(told(OWNER, LOOK),)))
    (line,) = [text for name, text in _box_lines("serving", now.box) if name == "GPU"]
    assert (
        line == "0: Big, ready, 1 engine, 75% busy, 50.0 of 80.0 GiB used, 61 °C, 215 W, 1 restart"
    )
    assert _status_json(now)["gpus"] == now.box.gpus
    ill = told(OWNER._replace(state="failed", trouble="it rests", restarts=0))
    (line,) = [text for name, text in _box_lines("serving", box(gpus=(ill,))) if name == "GPU"]
    assert line.endswith("; it is failed: it rests")
    assert wording.gpu(busy=None, free=0, total=0, celsius=None, watts=None) == "-"


@pytest.mark.parametrize(
    ("changes", "look", "words"),
    [
        ({"state": "restarting", "trouble": "it was lost"}, {}, "GPU 0 is restarting: it was lost"),
        ({"state": "failed"}, {}, "GPU 0 is failed"),
        ({}, {"ecc_uncorrected": 2}, "GPU 0 has 2 uncorrected memory errors"),
        ({}, {"throttled": ("power cap",)}, "GPU 0 is slowed down: power cap"),
    ],
)
def test_the_top_line_tells_of_a_gpu_that_is_not_well(changes, look, words):
    line = told(OWNER._replace(**changes), replace(LOOK, **look))
    shown = status_line(snapshot(box=box(gpus=(line,))))
    assert words in shown


def test_the_top_line_of_a_well_box_shows_how_its_gpus_fare():
    shown = status_line(snapshot(box=box(gpus=(told(OWNER, LOOK), told(OWNER)))))
    assert "GPU 0 75% 61 °C" in shown
    assert "GPU 0 ready" in shown
    shown = status_line(snapshot(box=box(gpus=(told(OWNER, LOOK),) * 3)))
    assert "3 GPUs, at most 75% 61 °C" in shown
    named = told(OWNER._replace(device="GPU-0a1b2c3d-4e5f"))
    assert "GPU GPU-0a1b2c3d… ready" in status_line(snapshot(box=box(gpus=(named,))))
