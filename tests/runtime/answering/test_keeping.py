"""What the keeper of payloads is asked to keep, and what the records say of it."""

import pytest

from appliance.audit.kinds import Failure, Inference
from appliance.errors import DeadlinePassed, Draining, Overloaded, RequestError
from runtime.answering import Reply
from tests.runtime.answering.conftest import Asked, broken, loaded

DIGEST, SALTED = "d" * 64, "5" * 64


class Keeper:
    """Keeps nothing and remembers what it was asked."""

    def __init__(self):
        self.answers, self.failures = [], []

    def answered(self, answered):
        self.answers.append(answered)
        return DIGEST, SALTED

    def failed(self, call, stored, inputs):
        self.failures.append((call.request_id, stored.number, [*inputs]))
        return SALTED


@pytest.fixture
def keeper(served):
    keeper = Keeper()
    keeper.world = served
    served.dataplane._rooms = served.dataplane._rooms._replace(keeper=keeper)
    return keeper


async def test_an_answer_is_recorded_with_what_the_keeper_says(caller, keeper, records):
    assert isinstance(await caller.ask(), Reply)
    (record,) = await records(Inference)
    assert (record.input_sha256, record.payload_sha256) == (DIGEST, SALTED)
    assert len(keeper.answers) == 1


@pytest.mark.parametrize("fault", [ZeroDivisionError("ours"), RequestError("bad", remedy="good")])
async def test_inputs_that_failed_are_kept(caller, keeper, records, monkeypatch, fault):
    def fails(*_):
        raise fault

    monkeypatch.setattr(loaded(keeper.world).servable, "run", fails)
    await caller.ask()
    failure, *_ = await records(Failure)
    assert failure.payload_sha256 == SALTED
    assert keeper.failures == [("r", 1, ["x"])]


@pytest.mark.parametrize("kind", [DeadlinePassed, Draining, Overloaded])
async def test_inputs_that_are_not_to_blame_are_not(caller, keeper, records, monkeypatch, kind):
    def fails(*_, **__):
        raise kind("busy", remedy="later")

    monkeypatch.setattr(loaded(keeper.world).batcher, "submit", fails)
    await caller.ask()
    failure, *_ = await records(Failure)
    assert (failure.payload_sha256, keeper.failures) == ("", [])


async def test_inputs_that_could_not_be_read_are_not(caller, keeper, records, monkeypatch):
    monkeypatch.setattr(Asked, "arrays", broken)
    await caller.ask()
    failure, *_ = await records(Failure)
    assert (failure.payload_sha256, keeper.failures) == ("", [])


async def test_a_log_that_takes_nothing_is_not_to_blame_on_the_inputs(
    caller, keeper, records, monkeypatch
):
    monkeypatch.setattr(keeper, "answered", broken)
    await caller.ask()
    failure, *_ = await records(Failure)
    assert (failure.code, failure.payload_sha256) == ("audit.unwritable", "")
