"""Builds and packs through the child: the same result, nothing behind, whoever is killed and when."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from appliance import errors
from appliance.manifest import CALIBRATION_FILE
from appliance.store import Store

# What the parent itself says before its child says anything: two stages.
OWN_WORDS = 2
BUILD = """
import os, signal, sys
from functools import partial
from pathlib import Path
from appliance.config import Config, EngineConfig, StateConfig
from compiler import staged
from compiler.build import build
from halting_acts import Halting

staged.Compile = partial(Halting, words=int(sys.argv[3]) + 1 - int(sys.argv[4]))

class Killing:
    left = int(sys.argv[3])
    def stage(self, name, steps=1):
        self.step()
    def step(self, steps=1):
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        type(self).left -= 1

config = Config(state=StateConfig(directory=sys.argv[2]), engine=EngineConfig(threads=1))
build(Path(sys.argv[1]), config, progress=Killing())
"""


@pytest.fixture
def packed(workshop):
    """A workshop with its bundle packed."""
    workshop.pack()
    return workshop


@pytest.fixture
def halting(monkeypatch):
    """The act of a child that stops at a word of its own and there waits to be killed, or it might be done before."""
    here = str(Path(__file__).parent / "child")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here)
    from halting_acts import Halting

    return Halting


def test_a_bundle_sealed_in_a_child_is_the_same_bundle(packed):
    here = packed.bundle.read_bytes()
    child = packed.pack(in_process=False, config=packed.config)
    assert packed.bundle.read_bytes() == here
    assert (child.warnings, child.reached[0].value) == ((), 1.0)
    assert left_of_packing(packed) == []


def test_a_version_built_in_a_child_is_the_same_version(packed):
    here = packed.build().version.record
    (packed.config.state.store / "tiny").rename(packed.directory / "away")
    child = packed.build(in_process=False)
    record = child.version.record
    assert child.new
    assert (record.engine.precision, record.bundle_sha256) == (
        here.engine.precision,
        here.bundle_sha256,
    )
    assert {item.name for item in record.files} >= {"report.json", "report.html", "manifest.json"}
    assert record.warnings == ()
    assert Store(packed.config.state.store).open("tiny", 1).record == record
    assert not packed.build(in_process=False).new


def test_the_parent_loads_nothing_that_parses_models(packed):
    """What a child is for: onnx, engines and kernels stay out of the process that holds keys."""
    code = (
        "import sys; from compiler import build, pack, refresh\n"
        "heavy = {'numba', 'onnx', 'onnxruntime', 'openvino'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_errors_of_the_child_are_the_same_errors(packed):
    packed.model.write_bytes(b"not a model")
    with pytest.raises(errors.SourceFormat) as caught:
        packed.pack(in_process=False, config=packed.config)
    assert f"{packed.model} is not an ONNX" in str(caught.value)
    packed.resign(files={"model.onnx": b"not a model"})
    with pytest.raises(errors.BundleContent):
        packed.build(in_process=False)
    assert packed.left_behind() == []


def test_a_model_with_its_weights_beside_it_is_sealed_and_keys_stay_closed(packed):
    model = onnx.load(packed.model)
    onnx.save(
        model,
        packed.model,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    packed.pack(in_process=False)
    assert packed.build(in_process=False).new


def test_a_key_beside_the_model_is_not_among_what_the_child_may_read(packed):
    from compiler.pack import beside

    packed.key.save(packed.directory / "engineer.pem")
    (packed.directory / "keys").mkdir()
    packed.key.save(packed.directory / "keys" / "other.pem")
    (packed.directory / ".hidden").mkdir()
    names = {path.name for path in beside(packed.model)}
    assert {"tiny.onnx", "sample.npz"} <= names
    assert not names & {"engineer.pem", "keys", ".hidden"}


def test_memory_that_a_build_may_not_have_is_a_limit(packed, make_onnx):
    """16 GiB of zeros, folded at load: valid ONNX, refused by the bound and not by the machine."""
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["total"], keepdims=0),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "total"], ["scores"]),
    ]
    constants = {
        "w": onnx.numpy_helper.to_array(onnx.load(packed.model).graph.initializer[0]),
        "huge": np.array([1 << 32], np.int64),
    }
    model = make_onnx(nodes, constants=constants)
    onnx.save(model, packed.model)
    bounds = msgspec.structs.replace(packed.config.build, memory_bytes_max=1 << 30)
    config = msgspec.structs.replace(packed.config, build=bounds)
    with pytest.raises(errors.BuildLimit, match="memory"):
        packed.pack(in_process=False, config=config)
    assert left_of_packing(packed) == []


@pytest.mark.parametrize("calls", [3, 7])
def test_a_worker_killed_at_any_point_leaves_nothing(packed, calls, halting, monkeypatch):
    class Killing:
        left = calls

        def stage(self, name, steps=1):
            self.step()

        def step(self, steps=1):
            if self.left == 0:
                kill_children()
            self.left -= 1

    act = partial(halting, words=calls + 1 - OWN_WORDS)
    with monkeypatch.context() as patched:
        patched.setattr("compiler.staged.Compile", act)
        with pytest.raises(errors.BuildLimit, match="killed"):
            packed.build(in_process=False, progress=Killing())
    assert packed.left_behind() == []
    assert packed.build(again=True).version.number == 1


@pytest.mark.parametrize("calls", [0, 4, 8])
@pytest.mark.usefixtures("halting")
def test_a_parent_killed_at_any_point_leaves_the_old_or_the_new(packed, calls):
    state = str(packed.config.state.root)
    arguments = [packed.bundle, state, str(calls), str(OWN_WORDS)]
    done = subprocess.run([sys.executable, "-c", BUILD, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(packed.config.state.store)
    assert store.models() == []
    assert packed.build().version.number == 1
    assert [path for path in (store.root / ".staging").iterdir() if path.is_dir()] == []


def test_a_failed_bundle_is_marked_and_tried_again_only_when_asked(packed):
    packed.resign(files={"profile.json": b"{}"})
    with pytest.raises(errors.BundleContent) as first:
        packed.build()
    with pytest.raises(errors.BuildMarked) as second:
        packed.build()
    assert f"[bundle.content] {first.value}" in str(second.value)
    assert "--again" in second.value.remedy
    with pytest.raises(errors.BundleContent):
        packed.build(again=True)


def test_other_bounds_try_a_failed_bundle_anew(packed):
    packed.resign(files={"profile.json": b"{}"})
    with pytest.raises(errors.BundleContent):
        packed.build()
    bounds = msgspec.structs.replace(packed.config.build, seconds_max=7.0)
    config = msgspec.structs.replace(packed.config, build=bounds)
    from compiler.build import build

    with pytest.raises(errors.BundleContent):
        build(packed.bundle, config, in_process=True)


def test_a_success_clears_the_mark(packed, monkeypatch):
    def broken(*_args, **_options):
        raise errors.EngineBuild("not today", remedy="tomorrow")

    monkeypatch.setattr("compiler.compiling.compiling.check_content", broken)
    with pytest.raises(errors.EngineBuild):
        packed.build()
    marks = Store(packed.config.state.store).marks
    digest = next((packed.config.state.store / ".marks").iterdir()).stem
    assert marks.find(digest) is not None
    monkeypatch.undo()
    packed.build(again=True)
    assert marks.find(digest) is None


def test_a_child_that_changes_the_bundles_own_files_is_found_out(packed, monkeypatch):
    from compiler.compiling import compiling

    real = compiling.compile_staged

    def changing(directory, manifest, **options):
        found = real(directory, manifest, **options)
        (directory / "model.onnx").write_bytes(b"another model")
        return found

    monkeypatch.setattr(compiling, "compile_staged", changing)
    with pytest.raises(errors.BuildCrashed, match=r"left 'model\.onnx' changed"):
        packed.build()
    assert packed.left_behind() == []


@pytest.mark.parametrize("name", ["../engine.ort", "model.onnx", "engine.none"])
def test_a_child_that_lies_about_its_engine_is_found_out(packed, monkeypatch, name):
    from compiler.compiling import compiling

    real = compiling.compile_staged

    def lying(directory, manifest, **options):
        found = real(directory, manifest, **options)
        entry = msgspec.structs.replace(found.entry, file=name)
        return msgspec.structs.replace(found, entry=entry)

    monkeypatch.setattr(compiling, "compile_staged", lying)
    with pytest.raises(errors.BuildCrashed):
        packed.build()
    assert packed.left_behind() == []


def test_what_libraries_leave_is_removed(packed, monkeypatch):
    from compiler.compiling import compiling

    real = compiling.compile_staged

    def littering(directory, manifest, **options):
        found = real(directory, manifest, **options)
        (directory / "core.123").write_bytes(b"x")
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_bytes(b"x")
        (directory / "link").symlink_to("/etc/passwd")
        return found

    monkeypatch.setattr(compiling, "compile_staged", littering)
    version = packed.build().version
    named = {item.name for item in version.record.files} | {"version.json"}
    assert {path.name for path in version.directory.iterdir()} == named
    assert CALIBRATION_FILE not in named


def test_findings_are_warned_of_or_refused(packed):
    packed.build()
    packed.change('"the first"', '"the second"')
    packed.pack()
    assert packed.build().version.record.warnings == ("model and recipe are those of version 1",)
    packed.change('"a", "b"', '"b", "a"')
    packed.pack()
    with pytest.raises(errors.BundleStale, match="another order") as caught:
        packed.build()
    assert caught.value.code == "bundle.stale"
    assert packed.left_behind() != []
    packed.change("batch_max = 8", "batch_max = 8\ninterface_changes = true")
    packed.pack()
    assert "another order" in packed.build().version.record.warnings[0]


def kill_children() -> None:
    """Kill every child process of this one that is a worker."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            worker = b"compiler.child.worker" in (stat.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and worker:
            os.kill(int(stat.parent.name), signal.SIGKILL)


def left_of_packing(packed) -> list[Path]:
    work = packed.config.state.work
    return [path for path in work.iterdir() if path.name != "lock"]
