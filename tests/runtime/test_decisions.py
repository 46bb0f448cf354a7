"""Decisions: allowed, recorded, carried out, outcome recorded; and what boot makes of the log."""

import asyncio
import json
import shutil
import threading

import pytest

from appliance.audit.kinds import Decision, Outcome
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate, Deployment, Retire, RollBack
from appliance.errors import (
    AuditUnwritable,
    DecisionError,
    Draining,
    EngineLoad,
    UnknownVersion,
    VersionNotServed,
)
from runtime.background import at_work


def records(tmp_path, kind):
    with AuditReader(tmp_path / "log.db") as reader:
        return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]


async def test_a_decision_is_recorded_before_and_after_it_is_carried_out(world, tmp_path):
    await world.decide(Activate(version=1))
    (decision,) = records(tmp_path, Decision)
    (outcome,) = records(tmp_path, Outcome)
    assert (decision.act, decision.version, decision.actor) == ("activate", 1, "op")
    assert (decision.before.active, decision.after.active) == (None, 1)
    assert (outcome.decision_id, outcome.result) == (decision.decision_id, "done")
    assert outcome.deployment == Deployment(model="digits", active=1)


async def test_loading_alone_serves_nothing(world):
    with pytest.raises(Exception, match="has no available versions"):
        await world.ask()
    await world.decide(Activate(version=1))
    assert (await world.ask()).version == 1


async def test_previous_stays_warm_and_the_one_before_is_freed(world):
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    assert world.table.loaded("digits") == [1, 2]
    assert (await world.ask("1")).version == 1
    await world.decide(Retire(version=1))
    await asyncio.gather(*world.table._draining)
    assert world.loaded[1].closed
    with pytest.raises(VersionNotServed):
        await world.ask("1")
    with pytest.raises(DecisionError, match="no previous version"):
        await world.decide(RollBack())


async def test_a_lane_in_use_is_not_closed(world):
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    _, loaded = world.table.hold("digits", "1", "key")
    await world.decide(Retire(version=1))
    await asyncio.sleep(0.05)
    assert not world.loaded[1].closed
    assert not loaded.hold()
    loaded.release()
    await asyncio.gather(*world.table._draining)
    assert world.loaded[1].closed


async def test_a_candidate_that_does_not_load_changes_nothing(world, tmp_path):
    await world.decide(Activate(version=1))
    world.broken = {2}
    with pytest.raises(EngineLoad):
        await world.decide(Activate(version=2))
    assert (await world.ask()).version == 1
    outcome = records(tmp_path, Outcome)[-1]
    assert (outcome.result, outcome.message) == ("failed", "it does not load")
    assert outcome.deployment == Deployment(model="digits", active=1)


async def test_refused_decisions_are_not_recorded(world, tmp_path):
    with pytest.raises(UnknownVersion):
        await world.decide(Activate(version=9))
    with pytest.raises(DecisionError):
        await world.decide(RollBack())
    assert records(tmp_path, Decision) == []


async def test_boot_returns_to_the_last_completed_decision(
    digits_state, open_log, tmp_path, make_world
):
    with open_log() as log:
        world = make_world(digits_state, log)
        await world.decide(Activate(version=1))
        standing = Deployment(model="digits", active=1)
        begun = Decision(
            decision_id="begun",
            model="digits",
            act="activate",
            version=2,
            actor="op",
            reason="then the power went",
            before=standing,
            after=Deployment(model="digits", active=2, previous=1),
        )
        await world.recorder.appended(lambda: begun)
        await world.close()
    with AuditReader(tmp_path / "log.db") as reader:
        completed, interrupted = reader.last_outcomes(), reader.open_decisions()
    assert interrupted == [begun]
    with open_log() as log:
        world = make_world(digits_state, log)
        await world.control.resume(completed, interrupted)
        assert (await world.ask()).version == 1
        await world.close()
    outcome = records(tmp_path, Outcome)[-1]
    assert (outcome.decision_id, outcome.result) == ("begun", "interrupted")
    assert outcome.deployment == standing


async def test_a_previous_version_that_does_not_load_at_boot_does_not_keep_the_active_from_serving(
    world,
):
    world.broken = {1}
    standing = Deployment(model="digits", active=2, previous=1)
    await world.control.resume({"digits": standing}, [])
    assert (await world.ask()).version == 2
    assert world.table.ready
    with pytest.raises(EngineLoad):
        await world.decide(RollBack())
    assert (await world.ask()).version == 2


async def test_no_answer_without_a_record(world):
    await world.decide(Activate(version=1))

    def full(records):
        raise AuditUnwritable("the disk is full", remedy="free space")

    healthy, world.recorder._log.append = world.recorder._log.append, full
    with pytest.raises(AuditUnwritable, match="disk is full"):
        await world.ask()
    with pytest.raises(AuditUnwritable):
        await world.decide(Activate(version=2))
    assert world.table.deployment("digits").active == 1
    world.recorder._log.append = healthy
    assert (await world.ask()).version == 1


def changed_reached(reached, missed):
    """What the record says was reached, made worse in one way."""
    if missed == "never measured":
        return []
    (found,) = reached
    if missed == "missed":
        return [found | {"value": 0.5}]
    return [found, found | {"value": 0.5, "segment": "north", "rows": 10}]


@pytest.mark.parametrize(
    ("missed", "told"),
    [
        ("missed", "reached 0.5000, not what"),
        ("one segment missed", "reached 0.5000 for site = north"),
        ("never measured", "was never measured"),
    ],
)
async def test_a_version_that_missed_its_threshold_cannot_become_active(
    state, open_log, missed, told, make_world
):
    path = state / "store" / "digits" / "2" / "version.json"
    record = json.loads(path.read_text())
    reached = changed_reached(record["proof"]["reached"], missed)
    if missed == "one segment missed":
        manifest = path.with_name("manifest.json")
        agreed = json.loads(manifest.read_text())
        agreed["acceptance"][0]["segment"] = "site"
        manifest.chmod(0o644)
        manifest.write_text(json.dumps(agreed))
        for item in reached:
            item["threshold"] = item["threshold"] | {"segment": "site"}
    record["proof"]["reached"] = reached
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    with open_log() as log:
        world = make_world(state, log)
        with pytest.raises(DecisionError, match=rf"accuracy of 'logits' {told}"):
            await world.decide(Activate(version=2))
        await world.decide(Retire(version=2))
        await world.close()


def test_a_store_without_the_model_leaves_it_listed_and_unready(
    digits_state, tmp_path, open_log, make_world
):
    state = tmp_path / "copy"
    shutil.copytree(digits_state, state)

    async def go():
        with open_log() as log:
            world = make_world(state, log)
            await world.control.resume({"gone": Deployment(model="gone", active=1)}, [])
            names = [deployment.model for deployment in world.table.deployments()]
            ready, versions = world.table.ready, world.table.versions()
            await world.close()
        return names, ready, versions

    names, ready, versions = asyncio.run(go())
    assert names == ["digits", "gone"]
    assert not ready
    assert [(deployment.model, version) for deployment, version in versions] == [
        ("digits", 1),
        ("digits", 2),
    ]


async def test_traffic_moves_only_after_the_outcome_is_recorded(world):
    await world.decide(Activate(version=1))
    log, append = world.recorder._log, world.recorder._log.append

    def full_for_outcomes(records):
        if any(isinstance(record, Outcome) for record in records):
            raise AuditUnwritable("the disk is full", remedy="free space")
        return append(records)

    log.append = full_for_outcomes
    with pytest.raises(AuditUnwritable):
        await world.decide(Activate(version=2))
    log.append = append
    assert (await world.ask()).version == 1
    assert world.table.deployment("digits").active == 1
    await asyncio.gather(*world.table._draining)
    assert world.loaded[2].closed
    await world.decide(Activate(version=2))
    assert (await world.ask()).version == 2


async def test_whatever_a_library_raises_a_version_only_fails_to_load(world, tmp_path):
    def crash(stored, tuning):
        raise MemoryError("no room")

    world.table._loading.make = crash
    with pytest.raises(EngineLoad, match="failed to load: no room"):
        await world.decide(Activate(version=1))
    assert records(tmp_path, Outcome)[-1].result == "failed"
    await world.control.resume({"digits": Deployment(model="digits", active=1)}, [])
    assert not world.table.ready


async def test_nothing_is_decided_while_stopping(world):
    await world.control.settle()
    with pytest.raises(Draining):
        await world.decide(Activate(version=1))


async def test_a_decision_whose_version_is_still_loading_is_interrupted_by_a_stop(world, tmp_path):
    await world.decide(Activate(version=1))
    world.holding = threading.Event()
    deciding = asyncio.create_task(world.decide(Activate(version=2)))
    await asyncio.to_thread(world.loading.wait)
    await world.control.settle()
    with pytest.raises(Draining):
        await deciding
    outcome = records(tmp_path, Outcome)[-1]
    assert (outcome.result, outcome.message) == ("interrupted", "the runtime is stopping")
    assert outcome.deployment == Deployment(model="digits", active=1)
    assert (await world.ask()).version == 1
    assert at_work()
    world.holding.set()


async def test_long_words_are_refused(world):
    for actor, reason in (("a" * 129, "why"), ("op", "r" * 2001)):
        with pytest.raises(DecisionError, match="at most"):
            await world.control.decide("digits", Activate(version=1), actor=actor, reason=reason)
