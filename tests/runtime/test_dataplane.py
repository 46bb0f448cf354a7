"""One request through the data plane: what is refused, what is recorded, what a drain waits for."""

import asyncio

import pytest

from appliance.audit.reader import AuditReader
from appliance.audit.record import Failure
from appliance.deployment import Activate
from appliance.errors import (
    Draining,
    Overloaded,
    RequestError,
)
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import Head
from runtime.dataplane import check_inputs


def records(tmp_path, kind):
    with AuditReader(tmp_path / "log.db") as reader:
        return [entry.record for entry in reader.records() if isinstance(entry.record, kind)]


async def test_a_draining_server_refuses(world):
    world.dataplane.draining = True
    with pytest.raises(Draining):
        await world.ask()


async def test_a_fault_of_our_own_is_recorded_too(world, tmp_path):
    await world.decide(Activate(version=1))
    with pytest.raises(ZeroDivisionError):
        await world.ask(arrays=lambda: 1 / 0)
    assert records(tmp_path, Failure)[-1].code == "internal"


def test_inputs_must_agree_in_rows():
    x = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
    z = TensorSpec(name="z", datatype=DataType.FP32, shape=())
    two = Interface(inputs=(x, z), outputs=(), batch_max=4)
    heads = {"x": Head(DataType.FP32, (2, 1)), "z": Head(DataType.FP32, (3,))}
    with pytest.raises(RequestError, match=r"disagree in batch-size: \[2, 3\]"):
        check_inputs(heads, two, model="m")


WIDE = Interface(
    inputs=tuple(
        TensorSpec(name=name, datatype=DataType.FP32, shape=(1,))
        for name in ("age", "weight", *(f"lab_{number}" for number in range(40)))
    ),
    outputs=(),
    batch_max=4,
)


@pytest.mark.parametrize(
    ("sent", "hint"),
    [
        ("Age", "; did you mean 'age'?"),
        ("wieght", "; did you mean 'weight'?"),
        ("lab-7", "; did you mean 'lab_7'?"),
        ("colour", ""),
        ("x" * 10_000_000, ""),
        ("__", ""),
    ],
    ids=["case", "letters", "sign", "nothing near", "huge", "signs alone"],
)
def test_an_unknown_input_is_told_the_nearest_missing_one(sent, hint):
    names = [spec.name for spec in WIDE.inputs]
    missing = {"Age": "age", "wieght": "weight", "lab-7": "lab_7"}.get(sent, "age")
    heads = {name: Head(DataType.FP32, (1, 1)) for name in names if name != missing}
    heads[sent] = Head(DataType.FP32, (1, 1))
    with pytest.raises(RequestError) as refused:
        check_inputs(heads, WIDE, model="m")
    assert str(refused.value) == (
        f"unexpected inference input '{sent}' for model 'm'{hint}; missing input(s) ['{missing}']"
    )


def test_an_input_too_many_is_named_alone():
    heads = {spec.name: Head(DataType.FP32, (1, 1)) for spec in WIDE.inputs}
    with pytest.raises(RequestError) as refused:
        check_inputs(heads | {"zzz": Head(DataType.FP32, (1, 1))}, WIDE, model="m")
    assert str(refused.value) == "unexpected inference input 'zzz' for model 'm'"


def test_long_lists_of_missing_inputs_are_cut():
    with pytest.raises(RequestError) as refused:
        check_inputs({"lab_1": Head(DataType.FP32, (1, 1))}, WIDE, model="m")
    told = str(refused.value)
    assert told.startswith(
        "expected 42 inputs but got 1 inputs for model 'm'. Got input(s) ['lab_1']"
    )
    assert "missing required input(s) ['age', 'weight', 'lab_0', 'lab_2'," in told
    assert told.endswith("and 25 more. Please provide all required input(s).")


async def test_requests_in_flight_are_limited_in_bytes(world):
    await world.decide(Activate(version=1))
    with pytest.raises(Overloaded, match="more than 1000"):
        await world.ask(size=1001)
    assert (await world.ask()).version == 1


async def test_a_drain_waits_for_what_is_running_and_no_longer(world):
    await world.decide(Activate(version=1))
    await world.ask()
    running, hurry = asyncio.ensure_future(world.ask()), asyncio.Event()
    await asyncio.sleep(0)
    await world.dataplane.drain(30, hurry)
    assert running.done()
    await world.dataplane.drain(30, hurry)


async def test_a_second_signal_cuts_the_drain_short(world):
    hurry, gate = asyncio.Event(), asyncio.Event()
    await world.decide(Activate(version=1))
    lane = world.table._lanes["digits", 1]

    async def held(*_, **__):
        await gate.wait()
        raise Overloaded("held", remedy="none")

    lane.batcher.submit = held
    running = asyncio.ensure_future(world.ask())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(hurry.set)
    await world.dataplane.drain(30, hurry)
    assert not running.done()
    gate.set()
    with pytest.raises(Overloaded):
        await running
