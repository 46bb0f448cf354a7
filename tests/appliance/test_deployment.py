"""Roles and decisions as a state machine: whatever is decided, the rules hold."""

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.deployment import (
    Activate,
    Deployment,
    EndCanary,
    EndShadow,
    EndTuning,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
    Tune,
    Tuning,
    Withdraw,
    act_name,
    apply,
    subject,
)
from appliance.errors import DecisionError

START = Deployment(model="m")
CANARY = (Activate(version=1), StartCanary(version=2, per_mille=50))
SHADOW = (Activate(version=1), StartShadow(version=2))
TUNING = Tuning(rows_max=16, delay_us_max=200, lanes=2, threads=1)


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


def test_a_canary_answers_a_share_until_it_ends_or_is_promoted():
    running = after(*CANARY)
    assert running == Deployment(model="m", active=1, canary=2, canary_per_mille=50)
    assert apply(running, StartCanary(version=2, per_mille=500)).canary_per_mille == 500
    assert apply(running, EndCanary()) == Deployment(model="m", active=1)
    promoted = Deployment(model="m", active=2, previous=1)
    assert apply(running, Promote()) == apply(running, Activate(version=2)) == promoted


def test_rolling_back_ends_a_canary():
    running = after(*CANARY, Promote(), StartCanary(version=3, per_mille=10), RollBack())
    assert running == Deployment(model="m", active=1, previous=2)


def test_a_withdrawn_model_is_rolled_back_into_service():
    withdrawn = after(*CANARY, Withdraw())
    assert withdrawn == Deployment(model="m", previous=1)
    assert apply(withdrawn, RollBack()) == Deployment(model="m", active=1)
    with pytest.raises(DecisionError, match="no active version"):
        apply(withdrawn, Withdraw())


def test_a_shadow_may_become_the_canary_and_the_canary_the_active_version():
    running = after(*SHADOW)
    assert running == Deployment(model="m", active=1, shadow=2)
    assert apply(running, StartCanary(version=2, per_mille=1)).shadow is None
    assert apply(running, Activate(version=2)) == Deployment(model="m", active=2, previous=1)
    assert apply(running, EndShadow()) == Deployment(model="m", active=1)


def test_a_tuning_holds_for_every_version_until_it_ends():
    running = after(*CANARY, Tune(tuning=TUNING), Promote(), RollBack())
    assert running == Deployment(model="m", active=1, previous=2, tuning=TUNING)
    assert apply(running, EndTuning()).tuning is None


def test_the_previous_version_may_play_another_role():
    twice = after(Activate(version=1), Activate(version=2))
    assert apply(twice, StartShadow(version=1)) == Deployment(model="m", active=2, shadow=1)


def test_an_act_is_about_a_version():
    running = after(*CANARY, StartShadow(version=3))
    acts = [Promote(), EndCanary(), EndShadow(), RollBack(), Retire(version=9)]
    assert [subject(running, act) for act in acts] == [2, 2, 3, None, 9]
    assert [subject(running, act) for act in (Tune(tuning=TUNING), EndTuning())] == [1, 1]


@pytest.mark.parametrize(
    ("acts", "why"),
    [
        ([Activate(version=1), Activate(version=1)], "already active"),
        ([Retire(version=1), Activate(version=1)], "is retired"),
        ([Retire(version=1), Retire(version=1)], "already retired"),
        ([Activate(version=1), Retire(version=1)], "is active"),
        ([RollBack()], "no previous version"),
        ([StartCanary(version=1, per_mille=5)], "no version is active"),
        ([Activate(version=1), StartCanary(version=1, per_mille=5)], "is active"),
        ([*CANARY, StartCanary(version=3, per_mille=5)], "version 2 is its canary already"),
        ([*CANARY, StartCanary(version=2, per_mille=50)], "answers that share already"),
        ([*CANARY, Retire(version=2)], "is canary"),
        ([*CANARY, StartShadow(version=2)], "is canary"),
        ([Activate(version=1), EndCanary()], "no canary version"),
        ([Activate(version=1), Promote()], "no canary version"),
        ([Activate(version=1), EndShadow()], "no shadow version"),
        ([Activate(version=1), StartShadow(version=1)], "is active"),
        ([*SHADOW, StartShadow(version=2)], "already shadow"),
        ([*SHADOW, Retire(version=2)], "is shadow"),
        ([Tune(tuning=TUNING)], "no active version"),
        ([Activate(version=1), Tune(tuning=TUNING), Tune(tuning=TUNING)], "tuned so already"),
        ([Activate(version=1), EndTuning()], "not tuned"),
    ],
)
def test_what_the_rules_forbid_is_refused_with_a_remedy(acts, why):
    with pytest.raises(DecisionError, match=why) as refused:
        after(*acts)
    assert refused.value.remedy


def test_acts_have_the_names_that_are_recorded():
    acts = [Activate(version=1), RollBack(), Retire(version=1), StartCanary(version=1, per_mille=1)]
    names = ["activate", "roll_back", "retire", "start_canary"]
    assert [act_name(act) for act in acts] == names


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
            st.builds(StartCanary, version=st.integers(1, 4), per_mille=st.integers(1, 999)),
            st.builds(StartShadow, version=st.integers(1, 4)),
            st.sampled_from([EndCanary(), Promote(), EndShadow(), Withdraw()]),
            st.sampled_from([Tune(tuning=TUNING), EndTuning()]),
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
        if isinstance(act, Activate | RollBack | Promote | Withdraw):
            assert self.deployment.previous == before.active
            assert self.deployment.canary is None
        else:
            assert self.deployment.active == before.active

    @invariant()
    def roles_are_distinct(self):
        held = [*self.deployment.loaded, *self.deployment.retired]
        assert len(held) == len(set(held))

    @invariant()
    def a_canary_has_a_share(self):
        assert (self.deployment.canary is None) == (self.deployment.canary_per_mille == 0)

    @invariant()
    def a_canary_needs_an_active_version(self):
        assert self.deployment.active is not None or self.deployment.canary is None

    @invariant()
    def it_travels_through_the_log_unchanged(self):
        body = msgspec.json.encode(self.deployment)
        assert msgspec.json.decode(body, type=Deployment) == self.deployment


TestDecisions = Decisions.TestCase
