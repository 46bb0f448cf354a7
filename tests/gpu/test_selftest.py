"""`holdfast-compile selftest --gpu`: what it tries, and what it never claims."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from appliance.config import Config, StateConfig
from appliance.driver import Gpu, Probe
from appliance.errors import BuildCrashed
from appliance.manifest import Precision
from compiler import cli_looking
from compiler import gpu as gpus
from compiler.child import Confined, Here
from compiler.cli import app
from compiler.progress import Silent
from compiler.selftest import running, telling, trying
from compiler.selftest.findings import STEPS
from compiler.selftest.running import selftest
from tests.gpu.building import on_gpu
from tests.gpu.fake_tensorrt import FakeTensorRT
from tests.gpu.test_tensorrt_build import ROOT, TENSORRT

CARD = Gpu(index=0, uuid="GPU-0", name="Fake GPU", capability=(9, 0), memory_bytes=1 << 34)


@pytest.fixture
def config(tmp_path) -> Config:
    """A box of its own."""
    return Config(state=StateConfig(directory=str(tmp_path / "state")))


@pytest.fixture
def card(monkeypatch):
    """The driver answers for one GPU, and TensorRT is installed."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # so that what is set there goes with the test
    monkeypatch.setattr(gpus, "installed_tensorrt", lambda: "11.4.0.106")
    monkeypatch.setattr(gpus, "gpu_devices", lambda: (Path("/dev/null"),))
    monkeypatch.setattr(running, "gpu_devices", lambda: (Path("/dev/null"),))
    return lambda _: Probe(gpus=(CARD,), release="580.65.06", cuda=13000)


@pytest.fixture
def quick(monkeypatch):
    """A small run: in this process, few times, two precisions."""
    monkeypatch.setattr(trying, "RUNS", 2)
    monkeypatch.setattr(trying, "SWAPS", 2)
    monkeypatch.setattr(trying, "ROWS_MAX", 4)
    monkeypatch.setattr(running, "PRECISIONS", (Precision.FP32, Precision.FP16))


@pytest.fixture
def fake():
    """TensorRT as it is built with and served by in this process."""
    with FakeTensorRT("11.4").installed() as installed, on_gpu(installed):
        yield installed


def run(config, card, doer=None):
    return selftest(config, Silent(), ask=card, doer=doer or Here())


@pytest.mark.usefixtures("quick", "fake")
def test_everything_is_tried_and_told(config, card):
    found = run(config, card)
    assert found.right, telling.markdown(found)
    assert [item.precision for item in found.tried] == ["fp32", "fp16"]
    for item in found.tried:
        assert [step.name for step in item.steps] == list(STEPS)
        assert item.inspected.precisions == {str(item.precision): 7}
    text = telling.markdown(found)
    assert "**everything was run and right**" in text
    assert "GPU 0: Fake GPU, compute capability 9.0" in text
    assert "- driver: 580.65.06" in text
    assert "- CUDA of the driver: 13.0" in text
    assert "`conv0` (Conv) in fp16: `fake_conv_tactic`" in text
    told = json.loads(msgspec.json.encode(telling.values(found)))
    names = {figure["name"] for figure in told["figures"]}
    assert {"fp32: plan", "fp16: memory kept by 2 swaps"} <= names
    assert told["right"] is True
    assert told["trouble"] == ""


@pytest.mark.usefixtures("quick")
def test_a_step_that_fails_ends_its_precision_and_no_other(config, card, fake):
    fake.arithmetic = "FLOAT"
    found = run(config, card)
    plain, lowered = found.tried
    assert plain.right
    assert [step.state for step in lowered.steps] == ["run", "failed", *["not run"] * 4]
    assert "not in fp16" in lowered.steps[1].why
    assert "**not all was run or right: fp16**" in telling.markdown(found)


@pytest.mark.usefixtures("quick")
def test_results_out_of_tolerance_are_a_failure(config, card, fake, monkeypatch):
    real = trying.pictures
    monkeypatch.setattr(trying.Trial, "_run", lambda self, rows: real(rows)["pixels"][:, 0, 0, :16])
    found = run(config, card)
    step = found.tried[0].steps[3]
    assert (step.name, step.state) == ("prove", "failed")
    assert "[proof.golden]" in step.why


@pytest.mark.usefixtures("quick", "fake")
def test_what_nobody_foresaw_fails_its_step_and_keeps_those_before(config, card, monkeypatch):
    def odd(*_: object) -> None:
        raise TypeError("incompatible function arguments")

    monkeypatch.setattr(trying.Trial, "_prove", odd)
    steps = run(config, card).tried[0].steps
    assert [step.state for step in steps[:4]] == ["run", "run", "run", "failed"]
    assert steps[1].figures
    assert steps[3].why.startswith("TypeError in test_selftest.py:")
    assert steps[3].why.endswith(": incompatible function arguments")


@pytest.mark.usefixtures("quick")
def test_a_child_that_dies_is_a_finding_of_the_step_that_it_was_at(config, card):
    class Dying:
        def do(self, act, places, progress):
            progress.stage(f"{act.precision}: rewrite")
            progress.stage(f"{act.precision}: build")
            progress.stage("building the plan", 100)
            progress.step(3)
            raise BuildCrashed("the child process died of SIGSEGV", remedy="")

    found = run(config, card, Dying())
    for item in found.tried:
        assert [step.state for step in item.steps] == ["run", "failed", *["not run"] * 4]
    assert "SIGSEGV" in telling.markdown(found)
    assert "lost with its child" in telling.markdown(found)
    assert not found.right


@pytest.mark.usefixtures("quick", "fake")
def test_memory_that_does_not_come_back_is_a_failure(config, card, monkeypatch):
    free = iter([1 << 30, 1 << 20] * 8)
    monkeypatch.setattr(trying, "_free_bytes", lambda: next(free))
    found = run(config, card)
    assert found.tried[0].steps[-1].state == "failed"
    assert "2 swaps kept 1072693248 bytes" in found.tried[0].steps[-1].why


def test_a_precision_that_the_gpu_lacks_is_not_run(config, card, monkeypatch, fake):
    monkeypatch.setattr(running, "PRECISIONS", (Precision.BF16,))
    old = msgspec.structs.replace(CARD, capability=(7, 5))
    (tried,) = run(config, lambda _: Probe(gpus=(old,))).tried
    assert {step.state for step in tried.steps} == {"not run"}
    assert "does not compute in bf16" in tried.steps[0].why


def test_behind_the_fences_too(config, card, tmp_path, monkeypatch):
    library = tmp_path / "library"
    library.mkdir()
    quick = "\nfrom compiler.selftest import trying\ntrying.RUNS = trying.SWAPS = 2\ntrying.ROWS_MAX = 4\n"
    (library / "tensorrt.py").write_text(TENSORRT + quick)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(library), str(ROOT))))
    monkeypatch.setattr(running, "PRECISIONS", (Precision.INT8,))
    found = run(config, card, Confined(bounds=config.build))
    assert found.tried[0].steps[1].state == "run", telling.markdown(found)
    assert found.missing_fences == ()


def test_a_box_without_a_gpu_is_told_so_and_claims_nothing(config, monkeypatch):
    monkeypatch.setattr(gpus, "gpu_devices", tuple)
    none = Probe(trouble="there is no NVIDIA driver", remedy="install one")
    found = selftest(config, Silent(), ask=lambda _: none)
    assert (found.right, found.tried) == (False, ())
    assert "**not run: there is no NVIDIA driver. Remedy: install one**" in telling.markdown(found)


def test_the_command_ends_with_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ["NUMBA_CACHE_DIR"])
    state = ["--state", str(tmp_path / "state")]
    unsaid = CliRunner().invoke(app, ["selftest", *state])
    assert unsaid.exit_code != 0
    none = Probe(trouble="there is no NVIDIA driver", remedy="install one")
    monkeypatch.setattr(running, "probe", lambda _: none)
    monkeypatch.setattr(running.selftest, "__kwdefaults__", {"ask": lambda _: none, "doer": None})
    monkeypatch.setattr(gpus, "gpu_devices", tuple)
    told = CliRunner().invoke(app, ["selftest", "--gpu", "--json", *state])
    assert told.exit_code != 0
    assert json.loads(told.stdout)["trouble"] == "there is no NVIDIA driver"
    assert cli_looking.selftest.__doc__
