"""Engines that no longer fit: what serves meanwhile, and how they are made anew."""

import json
import os
import subprocess
import sys

import msgspec
import pytest

from appliance.audit.kinds import Outcome
from appliance.audit.log import AuditLog
from appliance.clock import SystemClock
from appliance.deployment import Deployment
from appliance.errors import BuildMarked, EngineBuild, EngineLoad, StoreError
from appliance.signing import SigningKey
from appliance.store import RECORD_NAME, Store
from compiler.refresh import refresh
from runtime.engines.stamp import PORTABLE, stamp_of
from runtime.stale import misfit, with_fitting_engine

OLD = {"library": "onnxruntime 1.0"}


@pytest.fixture
def box(workshop):
    """A workshop with version 1 built."""
    workshop.pack()
    workshop.build()
    return workshop


@pytest.fixture
def store(box) -> Store:
    return Store(box.config.state.store)


def serve(box, *numbers):
    """Record that the versions are active and previous."""
    active, previous = (*numbers, None)[:2]
    deployment = Deployment(model="tiny", active=active, previous=previous)
    path = box.config.state.audit_log
    path.parent.mkdir(parents=True, exist_ok=True)
    with AuditLog.open(path, key=SigningKey.generate(), clock=SystemClock()) as log:
        log.append(
            [
                Outcome(
                    decision_id="d",
                    model="tiny",
                    result="done",
                    message="",
                    deployment=deployment,
                )
            ]
        )


def age(store, number=1, **changes):
    """Let a version's engine be one of an older library."""
    stored = store.describe("tiny", number)
    engine = msgspec.structs.replace(
        stored.record.engine, stamp=stored.record.engine.stamp | OLD, key=None
    )
    record = msgspec.structs.replace(stored.record, engine=engine, **changes)
    (stored.directory / RECORD_NAME).write_bytes(msgspec.json.encode(record))
    return record


def test_where_nothing_was_ever_served_nothing_is_done(box, store):
    age(store)
    assert refresh(box.config) == ()


def test_what_fits_stays(box, store):
    serve(box, 1)
    before = store.open("tiny", 1).record
    assert refresh(box.config) == ()
    assert store.open("tiny", 1).record == before


def test_a_version_in_service_gets_an_engine_that_fits(box, store):
    before = age(store)
    serve(box, 1)
    (done,) = refresh(box.config, in_process=True)
    assert (done.model, done.number, done.error) == ("tiny", 1, None)
    after = store.open("tiny", 1).record
    assert after.engine.stamp == stamp_of(after.engine.kind)
    assert after.fallback == before.fallback, "it still fits, is used again, and is proven again"
    assert after.rebuilt.engine_sha256 == before.engine.sha256
    assert (after.bundle_sha256, after.built) == (before.bundle_sha256, before.built)
    assert store.versions("tiny") == [1]
    assert [path for path in (store.root / ".staging").iterdir() if path.is_dir()] == []
    assert refresh(box.config) == ()
    assert not box.build().new


def test_it_is_made_anew_in_a_child(box, store):
    age(store)
    serve(box, 1)
    (done,) = refresh(box.config)
    assert done.error is None
    assert store.open("tiny", 1).record.rebuilt is not None


def test_a_version_that_cannot_be_made_anew_stays_and_the_next_one_goes_on(box, store, monkeypatch):
    box.change('"the first"', '"the second"')
    box.pack()
    box.build()
    before = age(store, 1)
    age(store, 2)
    (store.root / "tiny" / "1" / "model.onnx").write_bytes(b"damaged")
    serve(box, 1, 2)
    first, second = refresh(box.config, in_process=True)
    assert isinstance(first.error, StoreError)
    assert second.error is None
    assert store.describe("tiny", 1).record == before


def test_what_failed_is_not_tried_at_every_start(box, store, monkeypatch):
    age(store)
    serve(box, 1)

    def broken(*_args, **_options):
        raise EngineBuild("no such operator any more", remedy="another model")

    monkeypatch.setattr("compiler.compiling.compiling.check_content", broken)
    (done,) = refresh(box.config, in_process=True)
    assert isinstance(done.error, EngineBuild)
    monkeypatch.undo()
    (done,) = refresh(box.config, in_process=True)
    assert isinstance(done.error, BuildMarked)
    (done,) = refresh(box.config, in_process=True, again=True)
    assert done.error is None


@pytest.mark.parametrize("calls", [0, 9])
def test_killed_at_any_point_the_version_is_the_old_or_the_new(box, store, calls):
    before = age(store)
    serve(box, 1)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from appliance.config import Config, EngineConfig, StateConfig\n"
        "from compiler.refresh import refresh\n"
        "real, left = os.fsync, [int(sys.argv[2])]\n"
        "def fsync(handle):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(handle)\n"
        "os.fsync = fsync\n"
        "state = StateConfig(directory=sys.argv[1])\n"
        "refresh(Config(state=state, engine=EngineConfig(threads=1)))\n"
    )
    subprocess.run([sys.executable, "-c", code, box.config.state.root, str(calls)], check=False)
    assert store.describe("tiny", 1).record == before
    assert [item.error for item in refresh(box.config, in_process=True)] == [None]
    assert [path for path in (store.root / ".staging").iterdir() if path.is_dir()] == []


def test_the_fallback_serves_while_the_engine_does_not_fit(box, store):
    record = age(store)
    fitting = with_fitting_engine(store.describe("tiny", 1))
    assert fitting.stored.record.engine == record.fallback
    assert "library was onnxruntime 1.0" in fitting.why
    assert f"{PORTABLE} serves in its place" in fitting.why


def test_a_version_filed_before_fallbacks_were_portable_gets_such_a_one(box, store):
    spare = store.open("tiny", 1).record.engine
    age(store, fallback=spare)
    assert with_fitting_engine(store.describe("tiny", 1)).stored.record.engine == spare
    serve(box, 1)
    assert [item.error for item in refresh(box.config, in_process=True)] == [None]
    assert store.open("tiny", 1).record.fallback.kind == PORTABLE


@pytest.mark.parametrize("stamp", [{}, {"os": "Linux riscv64"}, {"library": "onnxruntime 1.0"}])
def test_a_fallback_without_a_stamp_or_of_another_system_does_not_fit(box, store, stamp):
    spare = msgspec.structs.replace(store.open("tiny", 1).record.fallback, stamp=stamp)
    age(store, fallback=spare)
    assert "os was " in misfit(spare)
    with pytest.raises(EngineLoad, match="nor does the one to fall back on"):
        with_fitting_engine(store.describe("tiny", 1))


def test_an_engine_that_fits_serves_itself(box, store):
    stored = store.open("tiny", 1)
    assert with_fitting_engine(stored) == (stored, "")


@pytest.mark.parametrize("spare", [True, False])
def test_where_nothing_fits_the_remedy_is_told(box, store, spare):
    record = age(store, fallback=None)
    if spare:
        age(store, fallback=record.engine)
    with pytest.raises(EngineLoad, match="does not fit this box") as caught:
        with_fitting_engine(store.describe("tiny", 1))
    assert "holdfast-compile refresh" in caught.value.remedy


def test_the_command_tells_what_became_of_each(box, store):
    age(store)
    serve(box, 1)
    state = box.config.state.root
    command = [
        sys.executable,
        "-c",
        "from compiler.cli import main; main()",
        "refresh",
        "--state",
        state,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, check=True, env=os.environ)
    assert json.loads(done.stdout) == {"versions": [{"model": "tiny", "version": 1, "error": None}]}
