"""Which version answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.deployment import Deployment
from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from runtime.router import Route, choose, in_canary

STANDING = Deployment(model="m", active=2, previous=1)
CANARY = Deployment(model="m", active=2, previous=1, canary=3, canary_per_mille=200)


def route(requested, deployment=STANDING, known=(1, 2, 3), loaded=(1, 2), key="k"):
    return choose(deployment, requested=requested, key=key, known=known, loaded=loaded)


def test_the_active_version_answers_unless_one_is_named():
    assert route("") == Route(version=2, reason="active")
    assert route("1") == Route(version=1, reason="pinned")


@pytest.mark.parametrize(
    ("requested", "error", "message"),
    [
        ("canary", UnknownVersion, "version canary is not found"),
        ("shadow", UnknownVersion, "version shadow is not found"),
        ("9", UnknownVersion, "version 9 is not found"),
        ("3", VersionNotServed, "version 3 is not at ready state"),
        ("x", RequestError, "from specified version string 'x'"),
        ("-1", RequestError, "from specified version string '-1'"),
    ],
)
def test_a_version_that_cannot_answer_is_refused(requested, error, message):
    with pytest.raises(error, match=message) as refused:
        route(requested)
    assert refused.value.remedy


def test_a_model_without_active_version_has_none_available():
    with pytest.raises(UnknownModel, match="has no available versions"):
        route("", Deployment(model="m"))


def test_an_active_version_that_did_not_load_is_unavailable_and_not_replaced():
    with pytest.raises(VersionNotServed, match="version 2 is not at ready state"):
        route("", loaded=(1,))


def test_a_role_may_be_asked_for():
    assert route("previous") == Route(version=1, reason="pinned")
    assert route("active") == Route(version=2, reason="pinned")
    assert route("canary", CANARY, loaded=(1, 2, 3)) == Route(version=3, reason="pinned")


def test_a_canary_answers_its_share_and_always_the_same_keys():
    keys = [f"request-{number}" for number in range(10_000)]
    routes = [route("", CANARY, loaded=(1, 2, 3), key=key) for key in keys]
    canary = [key for key, chosen in zip(keys, routes, strict=True) if chosen.reason == "canary"]
    assert {chosen.version for chosen in routes} == {2, 3}
    assert abs(len(canary) / len(keys) - 0.2) < 0.02
    assert [key for key in keys if in_canary(CANARY, key)] == canary


def test_a_canary_that_did_not_load_answers_nothing():
    assert all(route("", CANARY, key=str(key)).version == 2 for key in range(100))


@given(key=st.text(), share=st.integers(1, 998))
def test_whoever_is_in_a_small_share_stays_in_a_larger_one(key, share):
    small = Deployment(model="m", active=1, canary=2, canary_per_mille=share)
    large = Deployment(model="m", active=1, canary=2, canary_per_mille=share + 1)
    assert in_canary(large, key) or not in_canary(small, key)
