"""An erasure that somebody asked for is recorded, whatever the log does at that moment."""

from concurrent.futures import Future
from typing import Any

import pytest

from appliance.audit.kinds import Erased
from appliance.errors import ApplianceError, AuditUnwritable, Overloaded
from appliance.payloads import Removed
from runtime import erasing
from runtime.erasing import erase

FULL = Overloaded("too many wait", remedy="wait")
BROKEN = AuditUnwritable("no disk", remedy="find one")


class Payloads:
    """One payload of each of two models, and what was left to record."""

    def __init__(self) -> None:
        self.later: list[Erased] = []

    def erase(self, _request_id: str) -> "Future[Removed]":
        told: Future[Removed] = Future()
        told.set_result(Removed({"a": 1, "b": 2}, 10))
        return told

    def record_later(self, erased: Erased) -> None:
        self.later.append(erased)


class Log:
    """Takes a record, or raises what is next in line."""

    def __init__(self, *raising: ApplianceError) -> None:
        self.raising, self.taken = list(raising), list[Any]()

    async def appended(self, entry: Any) -> int:
        if self.raising:
            raise self.raising.pop(0)
        self.taken.append(entry())
        return 0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "AGAIN_SECONDS", 0)


async def asked(payloads: Any, log: Any) -> int:
    return await erase(payloads, log, "r", by="alice", reason="asked for")


async def test_a_log_that_is_behind_is_waited_for() -> None:
    payloads, log = Payloads(), Log(FULL, FULL)
    assert await asked(payloads, log) == 3
    assert [(erased.model, erased.count, erased.by) for erased in log.taken] == [
        ("a", 1, "alice"),
        ("b", 2, "alice"),
    ]
    assert payloads.later == []


@pytest.mark.parametrize("raising", [[FULL] * erasing.TRIES, [FULL, BROKEN]])
async def test_what_the_log_does_not_take_is_left_to_record_and_told(
    raising: list[ApplianceError],
) -> None:
    payloads, log = Payloads(), Log(*raising)
    with pytest.raises(
        AuditUnwritable, match="the inputs are erased, and the record of it follows"
    ):
        await asked(payloads, log)
    assert [(erased.request_id, erased.model) for erased in payloads.later] == [("r", "a")]
    assert [erased.model for erased in log.taken] == ["b"]  # no less due than the other
