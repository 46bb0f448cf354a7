"""A bundle built on a box with a GPU: what is tried, proven, kept and told, in this process and behind the fences."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.config import BuildConfig, GpuBuildConfig
from appliance.driver import Gpu, Probe
from appliance.errors import EngineBuild, EngineLoad, GpuUnusable
from appliance.manifest import PROFILE_FILE
from appliance.store import Store
from compiler import build as building
from compiler import gpu as gpus
from compiler import staged
from compiler.child import Confined, Places
from compiler.compiling.cache import EngineCache
from compiler.progress import Silent
from compiler.report.text import report_lines
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.gpu.engine_file import EngineFile
from runtime.kernels.cuda import toolchain
from tests.compiler.conftest import Workshop, onnx_model, true_classes
from tests.gpu.building import STAMP, gpu, no_kernels, on_gpu
from tests.gpu.fake_tensorrt import FakeTensorRT
from tests.gpu.kernel_acts import MakeKernels

ROOT = Path(__file__).parents[2]
CARD = Gpu(index=0, uuid="GPU-0", name="Fake GPU", capability=(9, 0), memory_bytes=1 << 34)

# What a child finds under the name of the library: the fake, over the fake of a GPU.
TENSORRT = """
import sys
from appliance.config import GpuConfig
from runtime.gpu import current
from runtime.kernels.cuda import toolchain
from tests.gpu.fake_tensorrt import FakeTensorRT
from tests.gpu import building

toolchain.compile_kernels = building.no_kernels
fake = FakeTensorRT("11.4")
building._installed.append(fake)
current.use(
    GpuConfig(),
    executions="tests.gpu.building:open_execution",
    devices="tests.gpu.fakes:open_fake",
    here=True,
)
sys.modules[__name__] = fake.module
"""


@pytest.fixture
def workshop(tmp_path) -> Workshop:
    """The tiny model, its rows, and a box that trusts its engineer."""
    return Workshop(tmp_path)


@pytest.fixture
def fake(monkeypatch):
    """TensorRT as it is built with and served by in this process."""
    monkeypatch.setattr(toolchain, "compile_kernels", no_kernels)
    with FakeTensorRT("11.4").installed() as installed, on_gpu(installed):
        yield installed


@pytest.fixture
def box(monkeypatch):
    """Let builds find this GPU, or none; what engines for it are stamped with too."""

    def found(here):
        monkeypatch.setattr(staged, "box_gpu", lambda config: here)

        def stamp(device):
            if here is None or here.trouble:
                raise EngineLoad("no GPU", remedy="")
            return STAMP

        monkeypatch.setattr(building, "gpu_stamp", stamp)

    return found


def targets(workshop, box):
    """TensorRT for the bundle, as a build makes it."""
    manifest, _ = workshop.contents()
    store = Store(workshop.config.state.store)
    cache = EngineCache(store=store, manifest=manifest, threads=1, gpu=box.settings)
    return [TensorRTTarget(gpu=box, manifest=manifest, earlier=cache.stripped)]


def test_a_version_for_a_gpu_is_built_proven_and_told(workshop, fake):
    workshop.change("batch_max = 8", 'batch_max = 8\nprecision = "fp16"')
    workshop.pack()
    version = workshop.build(targets=targets(workshop, gpu())).version
    record = version.record
    assert record.engine.kind == "tensorrt"
    assert record.engine.stamp == STAMP
    (kept,) = record.trials
    assert kept.inspected is not None
    assert kept.inspected.precisions == {"fp16": 1}
    (note,) = kept.inspected.notes
    assert note.startswith("the recipe runs on the CPU: ")
    lines = dict(report_lines(version.manifest, record))
    assert "convolutions and matrix products: 1 in" in lines["inside"]
    assert "TensorRT 11.4" in (version.directory / "report.html").read_text()
    file = EngineFile(version.directory / record.engine.file)
    assert file.header.inspection["precisions"] == {"fp16": 1}
    assert file.header.kernels == ()
    file.close()


def test_the_recipes_kernels_are_machine_code_and_ptx_made_behind_the_fences(
    workshop, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    manifest, contents = workshop.pack().manifest, workshop.contents()[1]
    (workshop.directory / PROFILE_FILE).write_bytes(contents[PROFILE_FILE])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    act = MakeKernels(str(workshop.directory), manifest, (8, 6))
    places = Places(scratch=scratch, readable=(workshop.directory,), devices=(Path("/dev/null"),))
    found = Confined(bounds=BuildConfig()).do(act, places, Silent()).result
    (form, _, cubin), (other, capability, ptx) = found.modules
    assert (form, other, capability) == ("cubin", "ptx", (8, 6))
    assert cubin.startswith(b"\x7fELF")
    assert b".target sm_86" in ptx
    assert found.edition == toolchain.edition()
    assert not found.note
    assert all(f".entry {name}(".encode() in ptx for name in found.names)


def test_what_a_gpu_does_not_take_is_left_to_the_cpu_and_told(workshop, fake):
    fake.refusals = {"MatMul": "no such product"}
    workshop.pack()
    built = workshop.build(targets=[*targets(workshop, gpu()), OnnxRuntimeTarget()])
    record = built.version.record
    assert record.engine.kind == "onnxruntime"
    (trial,) = [item for item in record.trials if item.engine == "tensorrt"]
    assert trial.verdict.startswith("[engine.build] TensorRT does not take the model")
    assert "(no such product): export it with operators" in trial.verdict
    assert fake.built == []


def test_other_weights_make_a_version_without_a_build(workshop, fake):
    box = gpu(refit=True)
    workshop.pack()
    workshop.build(targets=targets(workshop, box))
    before = len(fake.built)
    weights = np.random.default_rng(9).normal(size=(3, 4)).astype(np.float32)
    import onnx

    onnx.save(onnx_model(constants={"w": weights}), workshop.model)
    for name, rows in (("sample", 40), ("held_out", 60)):
        raw = np.load(workshop.directory / f"{name}.npz")["person"]
        label = {"label": true_classes(raw, weights)} if name == "held_out" else {}
        workshop.save_rows(name, person=raw, **label)
        assert len(raw) == rows
    workshop.pack()
    version = workshop.build(targets=targets(workshop, box)).version
    (trial,) = [item for item in version.record.trials if item.engine == "tensorrt"]
    assert version.number == 2
    assert trial.inspected.notes[0] == "an earlier plan with new weights"
    assert len(fake.built) == before


def test_a_build_behind_the_fences_reaches_the_gpu(workshop, box, tmp_path, monkeypatch):
    """The real child: no process, no file of the box but its own, and the GPU all the same."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "tensorrt.py").write_text(TENSORRT)
    paths = (str(library), str(ROOT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    timings = workshop.config.state.store / ".timings" / "this.cache"
    box(gpu(timings=str(timings)))
    monkeypatch.setattr(staged, "gpu_devices", lambda: (Path("/dev/null"),))
    workshop.pack()
    version = workshop.build(in_process=False).version
    (trial,) = [item for item in version.record.trials if item.engine == "tensorrt"]
    assert trial.inspected is not None, trial.verdict
    assert trial.error_max is not None, trial.verdict
    assert trial.timings
    assert timings.stat().st_size > 0, "the next build begins with what this one learnt"
    assert version.record.warnings == ()


CRASHING = """
import os

os.abort()
"""


def test_a_build_that_the_gpus_library_crashes_is_done_without_it(
    workshop, box, tmp_path, monkeypatch
):
    library = tmp_path / "library"
    library.mkdir()
    (library / "tensorrt.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(library), str(ROOT))))
    box(gpu())
    monkeypatch.setattr(staged, "gpu_devices", lambda: (Path("/dev/null"),))
    workshop.pack()
    record = workshop.build(in_process=False).version.record
    (trial,) = [item for item in record.trials if item.engine == "tensorrt"]
    assert trial.verdict.startswith("[engine.build] no GPU for it: it ended the build, which was")
    assert "SIGABRT" in trial.verdict


def test_a_gpu_in_trouble_is_a_line_in_the_table_and_none_is_no_line(workshop, box):
    box(msgspec.structs.replace(gpu(), trouble="the driver is too old", remedy="a later one"))
    workshop.pack()
    record = workshop.build().version.record
    (trial,) = [item for item in record.trials if item.engine == "tensorrt"]
    assert trial.verdict == "[engine.build] no GPU for it: the driver is too old"
    workshop.change("the first", "the second")
    workshop.pack()
    box(None)
    record = workshop.build().version.record
    assert "tensorrt" not in {item.engine for item in record.trials}


@pytest.fixture
def installed(monkeypatch):
    """TensorRT is installed, and the box has device files of a GPU."""
    monkeypatch.setattr(gpus, "installed_tensorrt", lambda: "11.4.0.106")
    monkeypatch.setattr(gpus, "gpu_devices", lambda: (Path("/dev/nvidia0"),))


def test_the_gpu_of_a_box_is_the_first_that_is_configured(workshop, installed):
    found = gpus.box_gpu(workshop.config, lambda _: Probe(gpus=(CARD,)))
    assert (found.uuid, found.capability) == ("GPU-0", (9, 0))
    assert (found.stamp["tensorrt"], found.stamp["gpu"]) == ("11.4.0.106", "Fake GPU")
    assert Path(found.timings).parent == Store(workshop.config.state.store).timings
    found.require()
    assert msgspec.json.decode(msgspec.json.encode(found), type=gpus.BoxGpu) == found


def test_a_box_without_any_of_it_never_asks(workshop, monkeypatch):
    def asked(device):
        raise AssertionError("nobody asks a driver that is not there")

    monkeypatch.setattr(gpus, "installed_tensorrt", lambda: None)
    monkeypatch.setattr(gpus, "gpu_devices", tuple)
    assert gpus.box_gpu(workshop.config, asked) is None
    monkeypatch.setattr(gpus, "gpu_devices", lambda: (Path("/dev/nvidia0"),))
    found = gpus.box_gpu(workshop.config, lambda _: Probe(gpus=(CARD,)))
    assert found.trouble == "TensorRT is not installed"
    off = BuildConfig(gpu=GpuBuildConfig(enabled=False))
    config = msgspec.structs.replace(workshop.config, build=off)
    assert gpus.box_gpu(config, asked) is None


def test_half_a_gpu_is_told(workshop, installed):
    old = Probe(trouble="the driver is too old", remedy="install 580")
    found = gpus.box_gpu(workshop.config, lambda _: old)
    assert found.trouble == "the driver is too old"
    with pytest.raises(GpuUnusable, match="too old"):
        found.require()


def test_timings_that_are_too_long_or_absent_are_not_kept(tmp_path):
    kept = tmp_path / "store" / ".timings" / "a.cache"
    left = tmp_path / gpus.TIMINGS_FILE
    gpus.keep_timings(tmp_path, gpu(timings=str(kept)))
    left.write_bytes(b"12345")
    gpus.keep_timings(tmp_path, gpu(timings=str(kept), timings_bytes_max=4))
    assert not kept.exists()
    gpus.keep_timings(tmp_path, gpu(timings=str(kept)))
    assert kept.read_bytes() == b"12345"
    left.unlink()
    left.symlink_to("/etc/hostname")
    gpus.keep_timings(tmp_path, gpu(timings=str(kept)))
    assert kept.read_bytes() == b"12345"


def test_a_plan_that_computes_otherwise_ends_no_build(workshop, fake):
    fake.arithmetic = "FLOAT"
    workshop.change("batch_max = 8", 'batch_max = 8\nprecision = "fp16"')
    workshop.pack()
    with pytest.raises(EngineBuild, match="not in fp16"):
        workshop.build(targets=targets(workshop, gpu()))
    assert workshop.left_behind() == []
