"""Engines made anew while the runtime serves are taken up without a restart."""

import msgspec
import pytest
import tritonclient.grpc as triton

from appliance.config import Config, StateConfig
from appliance.deployment import Activate, Deployment, Withdraw
from appliance.store import RECORD_NAME, Store
from compiler.refresh import refresh
from runtime.client import ControlClient
from runtime.renewal import Renewal

OLD = {"library": "onnxruntime 1.0", "cpu": "another", "cpu_flags_sha256": "0" * 64}


def write(state, **changes):
    """Change what version 1 says of itself."""
    stored = Store(state / "store").describe("digits", 1)
    path = stored.directory / RECORD_NAME
    path.chmod(0o644)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(stored.record, **changes)))


def age(state, *, fallback=True):
    """Let the engine of version 1 be one of another box; returns how it is with one that fits."""
    record = Store(state / "store").describe("digits", 1).record
    engine = msgspec.structs.replace(record.engine, stamp=record.engine.stamp | OLD)
    spare = msgspec.structs.replace(record.engine, sha256="5" * 64) if fallback else None
    write(state, engine=engine, fallback=spare)
    return {"engine": record.engine, "fallback": record.fallback}


@pytest.fixture
async def aged(state, start):
    """A Box whose version 1 serves with its fallback, its Renewal, and what mends the version."""
    mended = age(state)
    box = await start(state=state)
    renewal = Renewal(store=Store(state / "store"), table=box.table, controlplane=box.control)
    return box, renewal, mended


async def test_an_engine_made_anew_is_taken_up(aged, state):
    box, renewal, mended = aged
    assert box.active.stale
    await renewal.look()
    assert len(box.loaded) == 1
    write(state, **mended)
    await renewal.look()
    await box.until(lambda: box.loaded[0].closed)
    assert not box.active.stale
    assert box.active.stored.record.engine == mended["engine"]
    assert (await box.ask(1)).value == 2.0
    await renewal.look()
    assert len(box.loaded) == 2


async def test_an_engine_that_does_not_load_leaves_what_serves(aged, state, caplog):
    box, renewal, mended = aged
    before = box.active
    load, box.table._loading.make = box.table._loading.make, lambda stored, tuning: 1 / 0
    write(state, **mended)
    await renewal.look()
    assert "version.unrenewed" in caplog.text
    assert box.active is before
    box.table._loading.make = load
    await renewal.look()
    assert box.active is before  # tried once for each state of the store
    assert (await box.ask(1)).value == 2.0


async def test_a_model_that_could_not_serve_at_all_serves_then(state, start):
    mended = age(state, fallback=False)
    box = await start(state=state, activate=False)
    await box.control.resume({"digits": Deployment(model="digits", active=1)}, ())
    renewal = Renewal(store=Store(state / "store"), table=box.table, controlplane=box.control)
    await renewal.look()
    assert box.table.trouble == "version 1 of 'digits' is not loaded"
    write(state, **mended)
    await renewal.look()
    assert box.table.ready
    assert (await box.ask(1)).value == 2.0


async def test_a_version_that_has_no_role_any_more_is_left_alone(aged, state):
    box, renewal, mended = aged
    write(state, **mended)
    await box.decide(Withdraw())
    await renewal.look()
    await box.control.renew("digits", 1)
    assert len(box.loaded) == 1


async def test_after_the_last_decision_nothing_is_renewed(aged, state):
    box, renewal, mended = aged
    write(state, **mended)
    await box.control.settle()
    await renewal.look()
    assert len(box.loaded) == 1


async def test_a_version_that_cannot_be_read_is_left_alone(aged, state):
    box, renewal, _ = aged
    (state / "store" / "digits" / "1" / RECORD_NAME).unlink()
    await renewal.look()
    assert box.active.stale


async def test_only_what_serves_with_another_engine_is_looked_at(box):
    await box.decide(Activate(version=2))
    assert box.table.waiting_for_engine() == []


def test_a_refresh_beside_a_serving_runtime_is_taken_up(state, start_runtime, held_out):
    """`holdfast-compile refresh` as systemd starts it, beside the runtime and not before it."""
    record = Store(state / "store").describe("digits", 1).record
    engine = msgspec.structs.replace(record.engine, stamp=record.engine.stamp | OLD)
    write(state, engine=engine)
    runtime = start_runtime(state)
    with ControlClient(runtime.socket) as control:
        control.decide("digits", "activate", 1, actor="test", reason="first")
        (model,) = control.list("digits")
        assert model.versions[0].warnings
        (done,) = refresh(Config(state=StateConfig(directory=str(state))), in_process=True)
        assert done.error is None
        assert runtime.wait_for("version.renewed")["version"] == 1
        (model,) = control.list("digits")
        assert not model.versions[0].warnings
    tensor = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
    tensor.set_data_from_numpy(held_out["image"][:1])
    with triton.InferenceServerClient(runtime.address) as client:
        assert client.infer("digits", [tensor]).get_response().model_version == "1"
