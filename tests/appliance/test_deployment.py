"""Roles and decisions as a state machine: whatever is decided, the rules hold."""

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.deployment import Activate, Deployment, Retire, RollBack, act_name, apply
from appliance.errors import DecisionError

START = Deployment(model="m")


def after(*acts):
    deployment = START
    for act in acts:
        deployment = apply(deployment, act)
    return deployment


def test_activating_makes_the_former_active_previous():
    assert after(Activate(version=1)) == Deployment(model="m", active=1)
    assert after(Activate(version=1), Activate(version=2)) == Deployment(
        model="m", active=2, previous=1
    )


def test_rolling_back_twice_is_rolling_forward():
    back = after(Activate(version=1), Activate(version=2), RollBack())
    assert back == Deployment(model="m", active=1, previous=2)
    assert apply(back, RollBack()) == Deployment(model="m", active=2, previous=1)


def test_retiring_the_previous_version_leaves_nothing_to_roll_back_to():
    deployment = after(Activate(version=1), Activate(version=2), Retire(version=1))
    assert deployment == Deployment(model="m", active=2, retired=(1,))
    with pytest.raises(DecisionError, match="no previous version"):
        apply(deployment, RollBack())


@pytest.mark.parametrize(
    ("acts", "why"),
    [
        ([Activate(version=1), Activate(version=1)], "already active"),
        ([Retire(version=1), Activate(version=1)], "is retired"),
        ([Retire(version=1), Retire(version=1)], "already retired"),
        ([Activate(version=1), Retire(version=1)], "is active"),
        ([RollBack()], "no previous version"),
    ],
)
def test_what_the_rules_forbid_is_refused_with_a_remedy(acts, why):
    with pytest.raises(DecisionError, match=why) as refused:
        after(*acts)
    assert refused.value.remedy


def test_acts_have_the_names_that_are_recorded():
    acts = [Activate(version=1), RollBack(), Retire(version=1)]
    assert [act_name(act) for act in acts] == ["activate", "roll_back", "retire"]


def test_roles_are_told_by_version():
    deployment = after(Activate(version=1), Activate(version=2), Retire(version=3))
    assert [deployment.role(version) for version in (1, 2, 3, 4)] == [
        "previous",
        "active",
        "retired",
        "",
    ]
    assert deployment.loaded == (2, 1)


class Decisions(RuleBasedStateMachine):
    """Any sequence of decisions; refused ones change nothing."""

    def __init__(self):
        super().__init__()
        self.deployment = START

    @rule(
        act=st.one_of(
            st.builds(Activate, version=st.integers(1, 4)),
            st.just(RollBack()),
            st.builds(Retire, version=st.integers(1, 4)),
        )
    )
    def decide(self, act):
        before = self.deployment
        try:
            self.deployment = apply(before, act)
        except DecisionError:
            return
        assert self.deployment != before
        assert set(before.retired) <= set(self.deployment.retired)
        if not isinstance(act, Retire):
            assert self.deployment.previous == before.active

    @invariant()
    def roles_are_distinct(self):
        held = [*self.deployment.loaded, *self.deployment.retired]
        assert len(held) == len(set(held))

    @invariant()
    def an_active_model_stays_active(self):
        assert self.deployment.active is not None or self.deployment.previous is None

    @invariant()
    def it_travels_through_the_log_unchanged(self):
        body = msgspec.json.encode(self.deployment)
        assert msgspec.json.decode(body, type=Deployment) == self.deployment


TestDecisions = Decisions.TestCase
