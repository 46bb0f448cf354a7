"""Bundle to version: proven by the code that serves, filed whole or not at all."""

import errno
import hashlib
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from appliance import errors
from appliance.config import EngineConfig
from appliance.manifest import PROFILE_FILE
from appliance.signing import SigningKey
from appliance.store import Store
from appliance.version import release
from compiler.build import build
from compiler.opening.source import Source
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from runtime.servable import assemble


class WrongModel(OnnxRuntimeTarget):
    """Compiles a model with other weights: a compiler that gets the model wrong."""

    def compile(self, source, directory, interface, threads, precision):
        changed = onnx.load_from_string(source.data)
        weights = numpy_helper.to_array(changed.graph.initializer[0])
        changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights + 0.01, "w"))
        wrong = Source(data=changed.SerializeToString(), model=changed)
        return super().compile(wrong, directory, interface, threads, precision)


class NoEngine(OnnxRuntimeTarget):
    """Cannot compile anything."""

    def compile(self, source, directory, interface, threads, precision):
        raise errors.EngineBuild("no such operator", remedy="another model")


@pytest.fixture
def packed(workshop):
    """A workshop with its bundle packed."""
    workshop.pack()
    return workshop


@pytest.fixture
def store(workshop) -> Store:
    """The box's store."""
    return Store(workshop.config.state.store)


def refused(workshop, error, **options):
    """The error that build raises; nothing of the bundle is left."""
    with pytest.raises(error) as caught:
        workshop.build(**options)
    assert type(caught.value) is error
    assert caught.value.remedy
    assert workshop.left_behind() == []
    return caught.value


def test_a_bundle_becomes_a_proven_version(packed, store):
    built = packed.build()
    assert built.new
    stored = store.open("tiny", 1)
    record = stored.record
    assert (stored.number, record.model) == (1, "tiny")
    assert record.bundle_sha256 == hashlib.sha256(packed.bundle.read_bytes()).hexdigest()
    assert record.signer == packed.key.public.key_id
    assert record.release == release()
    assert record.proof.golden_rows == 5
    assert record.proof.error_max < 1e-5
    assert record.proof.reached[0].value == 1.0
    assert stored.manifest.model == "tiny"
    names = {path.name for path in stored.directory.iterdir()}
    assert names == {
        "model.onnx",
        "golden.npz",
        "held_out.npz",
        "profile.json",
        "bom.cdx.json",
        "manifest.json",
        "version.json",
        "report.json",
        "report.html",
        record.engine.file,
        record.fallback.file,
    }
    assert {item.name for item in record.files} == names - {"version.json"}


def test_the_stamp_says_what_the_engine_fits(packed):
    stamp = packed.build(targets=[OnnxRuntimeTarget()]).version.record.engine.stamp
    assert stamp["library"].startswith("onnxruntime ")
    assert set(stamp) == {"library", "cpu", "cpu_flags_sha256", "os"}
    assert len(stamp["cpu_flags_sha256"]) == 64


def test_a_bundle_built_before_keeps_its_number(packed, store):
    first = packed.build()
    again = packed.build()
    assert (again.new, again.version.number) == (False, first.version.number)
    assert again.version.record == first.version.record
    assert store.versions("tiny") == [1]
    packed.change('"the first"', '"the second"')
    packed.pack()
    assert packed.build().version.number == 2


def test_a_damaged_version_is_mended_by_building_again(packed, store):
    version = packed.build().version
    (version.directory / version.record.engine.file).write_bytes(b"damaged")
    again = packed.build()
    assert (again.new, again.version.number) == (True, 2)
    assert store.find("tiny", again.version.record.bundle_sha256) == 2


class Newer(OnnxRuntimeTarget):
    """The same library after an upgrade."""

    def stamp(self):
        return super().stamp() | {"library": "onnxruntime 99"}


def test_a_bundle_is_built_again_when_its_engine_no_longer_fits(packed, store):
    old = packed.build(targets=[OnnxRuntimeTarget()])
    new = packed.build(targets=[Newer()])
    assert [(built.new, built.version.number) for built in (old, new)] == [(True, 1), (True, 2)]
    assert new.version.record.engine.stamp["library"] == "onnxruntime 99"
    assert not packed.build(targets=[Newer()]).new
    assert store.versions("tiny") == [1, 2]


@pytest.mark.parametrize("same", [True, False])
def test_two_builds_at_once_get_different_numbers(packed, store, same):
    second = packed.directory / "second.holdfast"
    if same:
        second.write_bytes(packed.bundle.read_bytes())
    else:
        packed.bundle.rename(second)
        packed.change('"the first"', '"the second"')
        packed.pack()
    with ThreadPoolExecutor() as pool:
        running = [
            pool.submit(build, path, packed.config, in_process=True)
            for path in (packed.bundle, second)
        ]
        numbers = {built.result().version.number for built in running if built.result().new}
    assert numbers == set(store.versions("tiny"))
    assert numbers == ({1} if same else {1, 2})
    for number in numbers:
        store.open("tiny", number)


def test_an_engine_that_misses_the_golden_vectors_is_refused(packed):
    error = refused(packed, errors.GoldenMissed, targets=[WrongModel()])
    assert "output 'scores' at [0, " in str(error)
    assert error.code == "proof.golden"


def test_one_wrong_engine_does_not_stop_the_other_and_is_recorded(packed):
    record = packed.build(targets=[WrongModel(), OpenVinoTarget()]).version.record
    assert record.engine.kind == "openvino"
    (failed,) = [item for item in record.trials if item.engine == "onnxruntime"]
    assert failed.error_max is None
    assert failed.verdict.startswith("[proof.golden] output 'scores'")
    assert record.fallback is None
    version = packed.config.state.store / "tiny" / "1"
    assert [path.name for path in version.glob("engine*")] == ["engine.fp32.blob"]


def test_when_no_engine_can_be_built_every_reason_is_told(packed):
    error = refused(packed, errors.EngineBuild, targets=[NoEngine()])
    assert str(error) == "no engine passed: onnxruntime fp32: no such operator"


def test_an_engine_below_the_agreed_threshold_is_refused(workshop, make_rows, classes_of):
    labels = classes_of(make_rows(60))
    labels[:30] = (labels[:30] + 1) % 4
    workshop.save_rows("held_out", person=make_rows(60), label=labels)
    workshop.change("minimum = 0.9", "minimum = 0.4")
    acceptance = workshop.pack().manifest.acceptance
    workshop.resign(acceptance=(msgspec.structs.replace(acceptance[0], minimum=0.9),))
    error = refused(workshop, errors.ThresholdMissed)
    assert "is 0.5000, which misses at least 0.9" in str(error)


def test_a_bundle_signed_again_by_a_stranger_is_refused(packed):
    packed.resign(key=SigningKey.generate())
    assert "does not trust" in str(refused(packed, errors.BundleUntrusted))


def test_an_unsigned_bundle_is_refused(workshop):
    workshop.pack(signed=False)
    refused(workshop, errors.BundleUnsigned)


def test_a_box_that_trusts_nobody_builds_nothing(packed):
    for path in packed.config.state.trust.iterdir():
        path.unlink()
    error = refused(packed, errors.KeyFileError)
    assert str(packed.config.state.trust) in str(error)


@pytest.mark.parametrize("name", ["version.json", "engine.ort", "deep/file"])
def test_a_signed_bundle_with_other_files_is_refused(packed, name):
    packed.resign(files={name: b"{}"})
    assert name in str(refused(packed, errors.BundleContent))


def test_a_signed_profile_that_cannot_be_read_is_refused(packed):
    packed.resign(files={PROFILE_FILE: b"{}"})
    with pytest.raises(errors.ApplianceError):
        packed.build()
    assert packed.left_behind() == []


def test_a_file_that_is_no_bundle_is_refused(workshop):
    workshop.bundle.write_bytes(workshop.model.read_bytes())
    assert "not a Holdfast bundle" in str(refused(workshop, errors.BundleError))


def test_a_bundle_cut_short_is_refused(packed):
    whole = packed.bundle.read_bytes()
    for size in (0, 60, 500, len(whole) // 2, len(whole) - 1):
        packed.bundle.write_bytes(whole[:size])
        assert "cut short" in str(refused(packed, errors.BundleError))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bundle_with_any_byte_changed_is_refused_and_never_half_installed(packed, data):
    whole = packed.directory / "whole"
    if not whole.exists():
        packed.bundle.rename(whole)
    changed = bytearray(whole.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    packed.bundle.write_bytes(changed)
    with pytest.raises(errors.BundleError):
        packed.build(targets=[NoEngine()])
    assert packed.left_behind() == []


class Interrupted(OnnxRuntimeTarget):
    """Ctrl-C while compiling."""

    def compile(self, source, directory, interface, threads, precision):
        super().compile(source, directory, interface, threads, precision)
        raise KeyboardInterrupt


def test_an_interrupted_build_leaves_nothing(packed):
    with pytest.raises(KeyboardInterrupt):
        packed.build(targets=[Interrupted()])
    assert packed.left_behind() == []


class Pausing(OnnxRuntimeTarget):
    """Tells that it has begun and never ends."""

    def __init__(self, begun):
        self._begun = begun

    def compile(self, source, directory, interface, threads, precision):
        self._begun.set()
        signal.pause()


def _build_for_ever(bundle: Path, config, begun) -> None:
    build(bundle, config, targets=[Pausing(begun)], in_process=True)


def test_a_build_killed_in_the_middle_leaves_no_version_and_is_swept_by_the_next(packed, store):
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    child = context.Process(target=_build_for_ever, args=(packed.bundle, packed.config, begun))
    child.start()
    assert begun.wait(150)
    child.kill()
    child.join()
    assert store.models() == []
    assert packed.left_behind() != []
    assert packed.build().version.number == 1
    assert [path for path in (store.root / ".staging").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("calls", [0, 1, 5, 10])
def test_a_full_disk_leaves_nothing(packed, monkeypatch, calls):
    left = [calls]

    def fsync(handle, real=os.fsync):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(errors.StateError) as caught:
        packed.build(targets=[OnnxRuntimeTarget()])
    assert "No space left" in str(caught.value)
    monkeypatch.undo()
    assert [path for path in packed.left_behind() if path.name != "tiny"] == []
    assert packed.build(targets=[OnnxRuntimeTarget()]).version.number == 1


def test_an_unwritable_state_directory_is_told(packed):
    packed.config.state.store.write_bytes(b"a file in the way")
    with pytest.raises(errors.StateError) as caught:
        packed.build()
    assert str(packed.config.state.store) in str(caught.value)


def test_what_was_built_answers_as_the_model_does(packed, make_rows, classes_of):
    version = packed.build().version
    servable = assemble(version.directory, version.manifest, version.record.engine, threads=1)
    rows = make_rows(6)
    (answer,) = servable.run([{"person": rows}])
    np.testing.assert_array_equal(answer.outputs["classes"][:, 0], classes_of(rows))
    servable.close()


def test_a_mark_counts_only_for_as_many_threads(packed):
    refused(packed, errors.EngineBuild, targets=[NoEngine()])
    refused(packed, errors.BuildMarked, targets=[NoEngine()])
    config = msgspec.structs.replace(packed.config, engine=EngineConfig(threads=2))
    with pytest.raises(errors.EngineBuild):
        build(packed.bundle, config, in_process=True, targets=[NoEngine()])
