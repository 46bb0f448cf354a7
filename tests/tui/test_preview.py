"""What a decision would change, before it is taken."""

from dataclasses import replace

import pytest

from appliance.deployment import (
    Act,
    Activate,
    EndCanary,
    EndShadow,
    EndTuning,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Tuning,
    Withdraw,
)
from appliance.errors import DecisionError, StoreError, UnknownVersion
from tests.tui.conftest import accompanied, digits, version_line, wine
from tui.preview import Change, Order, preview, share_offered


def test_activation_moves_the_active_version_to_previous() -> None:
    proposal = preview(digits(), Activate(version=4))
    assert proposal.title == "Activate version 4 of digits"
    assert proposal.changes == (
        Change(role="active", before="3", after="4"),
        Change(role="previous", before="2", after="3"),
        Change(role="retired", before="1", after="1"),
    )


def test_roll_back_names_the_version_it_returns_to() -> None:
    assert preview(digits(), RollBack()).title == "Roll back digits to version 2"


def test_retiring_takes_a_version_out_for_good() -> None:
    proposal = preview(digits(), Retire(version=2))
    assert proposal.changes[1:] == (
        Change(role="previous", before="2", after="-"),
        Change(role="retired", before="1", after="1, 2"),
    )


def test_a_canary_and_a_shadow_have_lines_where_there_is_one() -> None:
    started = preview(digits(), StartCanary(version=4, per_mille=50))
    assert [change.role for change in started.changes] == [
        *("active", "canary", "previous", "retired"),
    ]
    assert started.changes[1] == Change(role="canary", before="-", after="4 5%")
    ended = preview(accompanied(), EndShadow())
    assert ended.changes[1:3] == (
        Change(role="canary", before="4 5%", after="4 5%"),
        Change(role="shadow", before="5", after="-"),
    )


@pytest.mark.parametrize(
    ("act", "title"),
    [
        (StartCanary(version=4, per_mille=5), "Let canary version 4 of digits answer 0.5%"),
        (EndCanary(), "End version 4 of digits as canary"),
        (Promote(), "Promote version 4 of digits"),
        (EndShadow(), "End version 5 of digits as shadow"),
        (StartShadow(version=2), "Start version 2 of digits as shadow"),
        (Withdraw(), "Withdraw version 3 of digits"),
        (RollBack(), "Roll back digits to version 2"),
        (Retire(version=2), "Retire version 2 of digits"),
    ],
)
def test_a_title_names_the_version_whether_the_act_does_or_not(act: Act, title: str) -> None:
    assert preview(accompanied(), act).title == title


def test_the_share_offered_grows_and_is_never_the_present_one() -> None:
    assert share_offered(digits().deployment, 4) == 50
    for now, offered in ((50, 100), (600, 999), (999, 500)):
        running = replace(accompanied(), canary_per_mille=now).deployment
        assert share_offered(running, 4) == offered


@pytest.mark.parametrize("act", [Activate(version=3), Activate(version=1), Retire(version=3)])
def test_what_the_rules_forbid_is_said_before_anyone_is_asked(act: Activate | Retire) -> None:
    with pytest.raises(DecisionError):
        preview(digits(), act)


def test_a_model_without_history_cannot_roll_back() -> None:
    with pytest.raises(DecisionError):
        preview(wine(), RollBack())


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownVersion) as caught:
        preview(digits(), Activate(version=9))
    assert caught.value.remedy == "use one of 4, 3, 2, 1"
    with pytest.raises(UnknownVersion, match="no version 1"):
        preview(replace(wine(), versions=()), Retire(version=1))


def test_a_damaged_version_can_be_retired_but_not_activated() -> None:
    model = replace(digits(), versions=(version_line(5, damage="engine.ort was changed"),))
    with pytest.raises(StoreError, match="was changed"):
        preview(model, Activate(version=5))
    with pytest.raises(StoreError):
        preview(model, StartCanary(version=5, per_mille=1))
    with pytest.raises(StoreError):
        preview(model, StartShadow(version=5))
    assert preview(model, Retire(version=5)).after.retired == (5,)


def test_an_order_names_its_version_as_the_service_wants_it() -> None:
    made = Order(model="digits", act=Activate(version=4), actor="alice", reason="r")
    assert (made.version, made.per_mille) == (4, 0)
    canary = replace(made, act=StartCanary(version=2, per_mille=50))
    assert (canary.version, canary.per_mille) == (2, 50)
    for act in (RollBack(), Promote(), EndCanary(), EndShadow(), Withdraw()):
        assert replace(made, act=act).version == 0


def test_a_tuning_that_stays_is_not_told() -> None:
    tuned = replace(digits(), tuning=Tuning(rows_max=16, delay_us_max=0, lanes=2, threads=0))
    roles = [change.role for change in preview(tuned, Activate(version=4)).changes]
    assert roles == ["active", "previous", "retired"]
    ended = preview(tuned, EndTuning()).changes[-1]
    assert (ended.role, ended.after) == ("tuning", "-")
