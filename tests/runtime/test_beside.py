"""Decisions about canary and shadow: proven first, recorded with their version, carried out; and by name."""

import asyncio
import json

import pytest

from appliance.audit.kinds import Decision, Outcome
from appliance.audit.reader import AuditReader
from appliance.deployment import (
    Act,
    Activate,
    Deployment,
    EndCanary,
    EndShadow,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Withdraw,
    act_name,
)
from appliance.errors import DecisionError, EngineLoad, UnknownVersion
from runtime.protocol import control_pb2 as wire
from runtime.services.control import act_from

ACTS: list[Act] = [
    Activate(version=3),
    StartCanary(version=3, per_mille=999),
    EndCanary(),
    Promote(),
    StartShadow(version=3),
    EndShadow(),
    RollBack(),
    Withdraw(),
    Retire(version=3),
]


def decided(tmp_path):
    with AuditReader(tmp_path / "log.db") as reader:
        records = [entry.record for entry in reader.records(category="decision")]
    return [(record.act, record.version) for record in records if isinstance(record, Decision)]


async def test_a_decision_records_the_version_whose_role_it_names(world, tmp_path):
    for act in (
        Activate(version=1),
        StartCanary(version=2, per_mille=500),
        EndCanary(),
        StartShadow(version=2),
        EndShadow(),
        StartCanary(version=2, per_mille=1),
        Promote(),
        RollBack(),
        Withdraw(),
    ):
        await world.decide(act)
    assert decided(tmp_path) == [
        ("activate", 1),
        ("start_canary", 2),
        ("end_canary", 2),
        ("start_shadow", 2),
        ("end_shadow", 2),
        ("start_canary", 2),
        ("promote", 2),
        ("roll_back", 1),
        ("withdraw", 1),
    ]
    assert world.table.deployment("digits") == Deployment(model="digits", previous=1)


async def test_what_ends_is_freed(world):
    await world.decide(Activate(version=1))
    for start, end in (
        (StartCanary(version=2, per_mille=1), EndCanary()),
        (StartShadow(version=2), EndShadow()),
    ):
        await world.decide(start)
        assert world.table.loaded("digits") == [1, 2]
        await world.decide(end)
        await asyncio.gather(*world.table._draining)
        assert world.table.loaded("digits") == [1]
        assert world.loaded[2].closed


@pytest.mark.parametrize("act", [StartCanary(version=2, per_mille=50), StartShadow(version=2)])
async def test_a_version_that_does_not_load_plays_no_role(world, tmp_path, act):
    await world.decide(Activate(version=1))
    world.broken = {2}
    with pytest.raises(EngineLoad):
        await world.decide(act)
    assert world.table.deployment("digits") == Deployment(model="digits", active=1)
    with AuditReader(tmp_path / "log.db") as reader:
        (outcome,) = [entry.record for entry in reader.tail(1)]
    assert isinstance(outcome, Outcome)
    assert outcome.result == "failed"


@pytest.mark.parametrize("act", [StartCanary(version=9, per_mille=50), StartShadow(version=9)])
async def test_a_version_that_is_not_in_the_store_plays_no_role(world, tmp_path, act):
    await world.decide(Activate(version=1))
    with pytest.raises(UnknownVersion):
        await world.decide(act)
    assert len(decided(tmp_path)) == 1


@pytest.mark.parametrize("act", [StartCanary(version=2, per_mille=50), StartShadow(version=2)])
async def test_a_version_that_is_not_proven_plays_no_role(state, open_log, make_world, act):
    path = state / "store" / "digits" / "2" / "version.json"
    record = json.loads(path.read_text())
    record["proof"]["reached"] = []
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    with open_log() as log:
        world = make_world(state, log)
        await world.decide(Activate(version=1))
        with pytest.raises(DecisionError, match="is not proven"):
            await world.decide(act)
        await world.close()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (StartCanary(version=2, per_mille=50), EndCanary()),
        (StartShadow(version=2), EndShadow()),
        (Activate(version=2), Withdraw()),
    ],
)
async def test_what_can_no_longer_be_read_can_still_be_ended(
    state, open_log, make_world, start, end
):
    with open_log() as log:
        world = make_world(state, log)
        await world.decide(Activate(version=1))
        await world.decide(start)
        path = state / "store" / "digits" / "2" / "version.json"
        path.chmod(0o644)
        path.write_text("damaged")
        await world.decide(end)
        assert 2 not in (
            world.table.deployment("digits").active,
            world.table.deployment("digits").canary,
            world.table.deployment("digits").shadow,
        )
        await world.close()


async def test_boot_takes_canary_and_shadow_up_again(world):
    world.broken = {2}
    standing = Deployment(model="digits", active=1, canary=2, canary_per_mille=999)
    await world.control.resume({"digits": standing}, [])
    assert world.table.deployment("digits") == standing
    assert world.table.loaded("digits") == [1]
    assert (await world.ask()).version == 1


@pytest.mark.parametrize("act", ACTS, ids=act_name)
def test_every_act_has_its_name_on_the_wire(act):
    request = wire.DecideRequest(
        model="digits",
        act=act_name(act),
        version=getattr(act, "version", 0),
        per_mille=getattr(act, "per_mille", 0),
    )
    assert act_from(request) == act


def test_another_name_is_told_with_those_there_are():
    with pytest.raises(DecisionError, match="no act 'reboot'") as caught:
        act_from(wire.DecideRequest(act="reboot"))
    assert all(act_name(act) in caught.value.remedy for act in ACTS)


@pytest.mark.parametrize("per_mille", [0, 1000, 4_000_000_000])
def test_a_share_that_cannot_be_is_told(per_mille):
    with pytest.raises(DecisionError, match=f"not {per_mille}") as caught:
        act_from(wire.DecideRequest(act="start_canary", version=2, per_mille=per_mille))
    assert "promote" in caught.value.remedy
