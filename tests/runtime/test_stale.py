"""An engine that no longer fits the box: its fallback serves, is what the records name, and is told."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
import tritonclient.grpc as triton

from appliance.audit.reader import AuditReader
from appliance.config import Config, StateConfig
from appliance.deployment import Activate, Deployment
from appliance.errors import EngineLoad, GoldenMissed, StoreError
from appliance.files import sha256_file
from appliance.signing import SigningKey
from appliance.store import RECORD_NAME, Store
from compiler.build import build
from compiler.pack import pack
from runtime.client import ControlClient
from runtime.engines.stamp import PORTABLE

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "digits"
OLD = {"library": "onnxruntime 1.0"}
MOVED = OLD | {"cpu": "another", "cpu_flags_sha256": "0" * 64}


def write(stored, **changes):
    """Change what a version says of itself."""
    record = msgspec.structs.replace(stored.record, **changes)
    (stored.directory / RECORD_NAME).write_bytes(msgspec.json.encode(record))
    return record


def age(state, stamp=OLD, **changes):
    """Let the engine of version 1 be one of an older library."""
    stored = Store(state / "store").describe("digits", 1)
    engine = stored.record.engine
    engine = msgspec.structs.replace(engine, stamp=engine.stamp | stamp)
    write(stored, engine=engine, **changes)
    return stored.record.engine


@pytest.fixture
async def world(state, open_log, make_world):
    """A World over a copy of the digits state."""
    with open_log() as log:
        world = make_world(state, log)
        yield world
        await world.close()


async def test_the_fallback_serves_and_is_recorded(world, state):
    spare = age(state)
    spare = msgspec.structs.replace(spare, sha256="5" * 64)
    age(state, fallback=spare)
    await world.decide(Activate(version=1))
    lane = world.table.stale("digits", 1)
    assert lane.stored.record.engine == spare
    assert "library was onnxruntime 1.0" in lane.stale


async def test_an_engine_that_fits_is_not_told(world):
    await world.decide(Activate(version=1))
    assert world.table.stale("digits", 1) is None


async def test_where_nothing_fits_the_version_does_not_load(world, state):
    age(state, fallback=None)
    with pytest.raises(EngineLoad, match="does not fit this box"):
        await world.decide(Activate(version=1))
    assert world.table.loaded("digits") == []


async def test_a_version_that_is_replaced_while_it_loads_is_not_served(world, monkeypatch):
    def load(stored, tuning, real=world.table._loading.make):
        path = stored.directory / RECORD_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"warnings": ["anew"]}))
        return real(stored, tuning)

    monkeypatch.setattr(world.table._loading, "make", load)
    with pytest.raises(EngineLoad, match="another engine while it was loaded"):
        await world.decide(Activate(version=1))
    assert world.loaded[1].closed
    monkeypatch.undo()
    await world.decide(Activate(version=1))


async def test_a_version_that_is_damaged_while_it_loads_is_freed(world, monkeypatch):
    def load(stored, tuning, real=world.table._loading.make):
        (stored.directory / RECORD_NAME).write_text("{")
        return real(stored, tuning)

    monkeypatch.setattr(world.table._loading, "make", load)
    with pytest.raises(StoreError):
        await world.table.prepare(Deployment(model="digits", active=1), about=1)
    assert world.loaded[1].closed


def test_status_and_journal_tell_what_serves(state, start_runtime):
    spare = Store(state / "store").open("digits", 1).record.engine
    age(state, fallback=spare)
    runtime = start_runtime(state)
    with ControlClient(runtime.socket) as control:
        control.decide("digits", "activate", 1, actor="test", reason="first")
        (model,) = control.list("digits")
    assert runtime.wait_for("engine.stale")["version"] == 1
    shown = next(version for version in model.versions if version.number == 1)
    assert "serves in its place" in shown.warnings[0]
    tried = Store(state / "store").describe("digits", 1).record.trials
    (error,) = (t.error_max for t in tried if (t.engine, t.precision) == (spare.kind, "fp32"))
    assert (shown.engine, shown.precision, shown.error_max) == (spare.kind, "fp32", error)
    assert shown.engine == spare.kind


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds digits 1 so that the engine of a kind is the one kept; the state directory."""

    def build_keeping(kind):
        def by_speed(timings):
            return sorted(timings, key=lambda attempt: attempt.engine != kind)

        monkeypatch.setattr("compiler.compiling.candidates.by_speed", by_speed)
        state, key = tmp_path / "built", SigningKey.generate()
        key.public.save(state / "trust" / "engineer.pub")
        source, bundle = EXAMPLES / "digits-1", tmp_path / "1.holdfast"
        names = (source.with_suffix(".onnx"), source.with_suffix(".toml"), bundle)
        pack(*names, key=key, in_process=True)
        build(bundle, Config(state=StateConfig(directory=str(state))), in_process=True)
        return state

    return build_keeping


def asked(runtime, images, name):
    """The classes answered, and the digest of the engine that the audit log names."""
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    with triton.InferenceServerClient(runtime.address) as client:
        classes = client.infer("digits", [tensor], request_id=name).as_numpy("classes")[:, 0]
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        (entry,) = reader.show(name)
    return classes, entry.record.engine_sha256


@pytest.mark.parametrize("kept", ["openvino", "onnxruntime"])
def test_on_another_processor_with_another_library_the_version_goes_on_serving(
    built, start_runtime, held_out, kept
):
    state = built(kept)
    images, labels = held_out["image"][:32], held_out["label"][:32]
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    before, digest = asked(runtime, images, "before")
    record = Store(state / "store").open("digits", 1).record
    assert (record.engine.kind, digest) == (kept, record.engine.sha256)
    assert runtime.stop() == 0

    age(state, MOVED)
    runtime = start_runtime(state)
    assert runtime.wait_for("engine.stale")["version"] == 1
    after, digest = asked(runtime, images, "after")
    assert digest == record.fallback.sha256
    assert (after == before).all()
    assert (after == labels).mean() > 0.9
    with ControlClient(runtime.socket) as control:
        (model,) = control.list("digits")
    assert model.versions[0].engine == PORTABLE
    assert f"{PORTABLE} serves in its place" in model.versions[0].warnings[0]


def test_a_fallback_that_misses_the_golden_vectors_does_not_serve(state, start_runtime):
    """What guards an engine whose stamp names neither processor nor library: it proves itself."""
    store = Store(state / "store")
    stored, other = store.describe("digits", 1), store.describe("digits", 2)
    spare = stored.record.fallback
    path = stored.directory / spare.file
    shutil.copyfile(other.directory / other.record.fallback.file, path)
    changed = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    files = tuple(
        msgspec.structs.replace(item, **changed) if item.name == spare.file else item
        for item in stored.record.files
    )
    spare = msgspec.structs.replace(spare, sha256=changed["sha256"])
    age(state, MOVED, fallback=spare, files=files)
    runtime = start_runtime(state)
    with (
        ControlClient(runtime.socket) as control,
        pytest.raises(GoldenMissed),
    ):
        control.decide("digits", "activate", 1, actor="test", reason="first")
