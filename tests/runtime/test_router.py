"""Which version answers."""

import pytest

from appliance.deployment import Deployment
from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from runtime.router import Route, choose

STANDING = Deployment(model="m", active=2, previous=1)


def route(requested, deployment=STANDING, known=(1, 2, 3), loaded=(1, 2)):
    return choose(deployment, requested=requested, known=known, loaded=loaded)


def test_the_active_version_answers_unless_one_is_named():
    assert route("") == Route(version=2, reason="active")
    assert route("1") == Route(version=1, reason="pinned")


@pytest.mark.parametrize(
    ("requested", "error", "message"),
    [
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
