"""Allowances, tokens as they are looked up, addresses, and people behind the control socket."""

import grp
import os
import pwd
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access import DAY_NS, Role, issue_token, revoke_tokens
from appliance.audit.kinds import Boot, Failure
from appliance.config import AccessConfig
from appliance.errors import ConfigError, Forbidden, LimitReached, StateError, Unidentified
from runtime.access import (
    CALLER,
    Allowance,
    Person,
    Principal,
    Roster,
    caller_name,
    check_access,
    is_open,
    person_behind,
)
from runtime.access.tokens import Tokens

SECOND = 10**9
LIST = "/holdfast.control.v1.Control/List"
DECIDE = "/holdfast.control.v1.Control/Decide"


def allowance(per_second=0, calls=10, size=100):
    return Allowance(requests_per_second_max=per_second, calls_max=calls, bytes_in_flight_max=size)


def allowed(shared, now_ns):
    try:
        shared.ask(now_ns)
    except LimitReached:
        return False
    return True


@given(st.integers(1, 50), st.lists(st.integers(0, SECOND), max_size=300))
def test_no_second_has_more_than_twice_the_rate_and_the_long_run_no_more_than_it(rate, gaps):
    shared, now, passed = allowance(rate), 0, []
    for gap in gaps:
        now += gap
        if allowed(shared, now):
            passed.append(now)
    for begin in passed:
        assert sum(begin <= at < begin + SECOND for at in passed) <= 2 * rate
    if passed:
        # A burst of one second's worth comes on top of the even rate.
        assert len(passed) <= rate + (passed[-1] - passed[0]) * rate / SECOND + 1


@given(st.integers(1, 50))
def test_even_requests_at_the_rate_all_pass(rate):
    shared = allowance(rate)
    assert all(allowed(shared, -(-number * SECOND // rate)) for number in range(200))


def test_without_a_rate_there_is_no_bound():
    shared = allowance()
    assert all(allowed(shared, 0) for _ in range(1000))


def test_calls_are_counted_until_they_end_and_refused_ones_are_not():
    shared = allowance(per_second=1, calls=2)
    shared.enter(0)
    with pytest.raises(LimitReached, match="1 requests a second"):
        shared.enter(0)
    shared.enter(SECOND)
    with pytest.raises(LimitReached, match="2 of your calls are open"):
        shared.enter(5 * SECOND)
    shared.leave()
    shared.enter(5 * SECOND)
    assert shared.calls == 2


def test_requests_and_bytes_in_flight_are_bounded_and_given_back():
    principal = Principal("token:x", Role.CLIENT, None, allowance(calls=2, size=100))
    principal.begin("digits", 60, None)
    with pytest.raises(LimitReached, match="101 bytes"):
        principal.begin("digits", 41, None)
    principal.begin("digits", 40, None)
    with pytest.raises(LimitReached, match="2 of your requests"):
        principal.begin("digits", 0, None)
    principal.allowance.give(60)
    principal.begin("digits", 60, None)
    assert (principal.allowance.requests, principal.allowance.bytes) == (2, 100)


def test_a_request_of_a_stream_counts_for_the_rate():
    principal = Principal("token:x", Role.CLIENT, None, allowance(per_second=1))
    principal.begin("digits", 1, 0)
    with pytest.raises(LimitReached, match="1 requests a second"):
        principal.begin("digits", 1, 0)
    principal.begin("digits", 1, None)
    assert principal.allowance.requests == 2
    Principal("token:y", Role.CLIENT).begin("digits", 1, 0)


@pytest.fixture
def listed(tmp_path, site):
    """Issues tokens into a list, and looks them up."""
    path = tmp_path / "tokens.json"

    def issue(name="line-3"):
        secret, token = issue_token(
            path, name, Role.CLIENT, models=None, days=1, now_ns=site.clock.wall
        )
        return secret, token

    issue.path = path
    return issue


def open_tokens(listed, site):
    return Tokens(listed.path, site.clock, lambda token: Principal(token.principal, token.role))


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_token_is_found_by_its_digest(listed, site, scheme):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    assert tokens.find(scheme + secret).name == "token:line-3"
    assert secret not in repr(vars(tokens))


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Basic dXNlcg==", "Bearer x", "Bearer " + "x" * 300]
)
def test_anything_else_is_no_token(listed, site, shown):
    listed()
    with pytest.raises(Unidentified):
        open_tokens(listed, site).find(shown)


def test_an_expired_token_is_refused_and_so_are_its_open_streams(listed, site):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    principal = tokens.find(f"Bearer {secret}")
    site.clock.wall += DAY_NS
    with pytest.raises(Unidentified, match="has expired"):
        tokens.find(f"Bearer {secret}")
    assert principal.standing
    tokens.look()
    assert not principal.standing
    assert len(tokens) == 0


def test_a_change_of_the_list_keeps_who_stays(listed, site):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    principal = tokens.find(f"Bearer {secret}")
    other, _ = listed("line-4")
    tokens.look()
    assert tokens.find(f"Bearer {secret}") is principal
    revoke_tokens(listed.path, "line-4", now_ns=site.clock.wall)
    tokens.look()
    with pytest.raises(Unidentified, match="was revoked"):
        tokens.find(f"Bearer {other}")
    listed.path.unlink()
    tokens.look()
    assert not principal.standing
    assert not tokens.any


def test_whose_token_is_refused_has_no_open_stream_either(listed, site, monkeypatch):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    principal, standing = tokens.find(f"Bearer {secret}"), []
    revoke_tokens(listed.path, "line-3", now_ns=site.clock.wall)
    monkeypatch.setattr(
        "runtime.access.tokens.journal.event", lambda *_, **__: standing.append(principal.standing)
    )
    tokens.look()  # which says so as soon as the new list is used
    assert standing == [False]


def test_a_list_that_cannot_be_read_leaves_the_last_one_standing(listed, site):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    listed.path.write_text("no list")
    tokens.look()
    tokens.look()  # told once
    assert tokens.find(f"Bearer {secret}")


def test_a_revocation_is_taken_up_when_the_list_can_be_read_again(listed, site, monkeypatch):
    secret, _ = listed()
    tokens = open_tokens(listed, site)
    revoke_tokens(listed.path, "line-3", now_ns=site.clock.wall)
    with monkeypatch.context() as patched:
        patched.setattr("runtime.access.tokens.read_tokens", _unreadable)
        tokens.look()
    assert tokens.find(f"Bearer {secret}")
    tokens.look()
    with pytest.raises(Unidentified, match="revoked"):
        tokens.find(f"Bearer {secret}")


def _unreadable(path):
    raise StateError("too many open files", remedy="close some")


def test_a_name_without_a_role_has_no_token(listed, site):
    secret, _ = listed()
    tokens = Tokens(listed.path, site.clock, lambda token: None)
    with pytest.raises(Unidentified):
        tokens.find(f"Bearer {secret}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_is_open_unless_something_is_asked_for(config, site, host):
    check_access(config(f"{host}:1"), site.clock)
    assert is_open(config(f"{host}:1"))
    assert not is_open(config(f"{host}:1", client_ca="ca"))
    assert not is_open(config(f"{host}:1", open_on_loopback=False))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "box.plant", "[fe80::1]"])
def test_any_other_address_demands_tls_and_something_to_show(config, site, host):
    assert not is_open(config(f"{host}:1"))
    with pytest.raises(ConfigError, match="there is no TLS") as told:
        check_access(config(f"{host}:1"), site.clock)
    assert "holdfast ca issue" in told.value.remedy
    with pytest.raises(ConfigError, match="neither certificates nor tokens"):
        check_access(config(f"{host}:1", certificate="a"), site.clock)
    check_access(config(f"{host}:1", certificate="a", client_ca="ca"), site.clock)
    site.token()
    check_access(config(f"{host}:1", certificate="a"), site.clock)
    site.clock.wall += DAY_NS
    with pytest.raises(ConfigError, match="neither certificates nor tokens"):
        check_access(config(f"{host}:1", certificate="a"), site.clock)


def test_metrics_stay_on_this_machine(config, site):
    check_access(config("127.0.0.1:1", metrics="[::1]:1"), site.clock)
    with pytest.raises(ConfigError, match=r"\[metrics\] address"):
        check_access(config("127.0.0.1:1", metrics="0.0.0.0:1"), site.clock)


def test_the_kernel_says_who_connected():
    one, other = socket.socketpair()
    with one, other:
        person = person_behind(one)
    assert (person.uid, person.pid) == (os.geteuid(), os.getpid())
    assert os.getegid() in person.groups
    assert set(os.getgroups()) <= set(person.groups)
    assert person.name == pwd.getpwuid(os.geteuid()).pw_name
    assert person.peer == f"unix:uid={os.geteuid()},pid={os.getpid()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("count", [0, 3, 1000])
def test_the_kernel_says_all_groups_of_who_connected(tmp_path, count):
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    groups = [70_000 + number for number in range(count)]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()
        command = [sys.executable, "-c", connect, f"{tmp_path}/s"]
        subprocess.run(command, group=60_000, extra_groups=groups, check=True)
        connection, _ = listener.accept()
        with connection:
            person = person_behind(connection)
    assert set(person.groups) == {60_000, *groups}


def person(uid, *groups):
    return Person(uid=uid, pid=1, groups=groups)


@pytest.fixture
def roster():
    first, second, third = [entry.gr_name for entry in grp.getgrall()[:3]]
    return Roster(
        AccessConfig(
            operator_groups=(first, "no such group"),
            auditor_groups=(second,),
            engineer_groups=(third,),
        )
    )


def test_roles_come_from_groups_the_mightiest_first(roster):
    first, second, third = [entry.gr_gid for entry in grp.getgrall()[:3]]
    assert roster.role(person(0)) is Role.OPERATOR
    assert roster.role(person(os.geteuid())) is Role.OPERATOR
    assert roster.role(person(60_000, first, second)) is Role.OPERATOR
    assert roster.role(person(60_000, second)) is Role.AUDITOR
    assert roster.role(person(60_000, second, third)) is Role.ENGINEER
    assert roster.role(person(60_000, 60_000)) is None
    roster.check(person(60_000, second), LIST)
    with pytest.raises(Forbidden):
        roster.check(person(60_000, second), DECIDE)
    with pytest.raises(Unidentified, match="'uid 60000' has no role"):
        roster.check(person(60_000, 60_000), LIST)


def test_outside_of_a_call_this_process_acts():
    assert caller_name() == pwd.getpwuid(os.geteuid()).pw_name
    token = CALLER.set(person(60_000))
    assert caller_name() == "uid 60000"
    CALLER.reset(token)


def test_each_sees_the_records_that_are_its_own_or_of_its_models():
    def record(model, principal="token:b"):
        return Failure(
            request_id="r",
            model=model,
            version=1,
            principal=principal,
            peer="",
            code="c",
            message="",
        )

    digits, boot = frozenset({"digits"}), Boot(release="1", config_sha256="")
    client = Principal("token:a", Role.CLIENT, digits)
    auditor, limited = Principal("t", Role.AUDITOR), Principal("t", Role.AUDITOR, digits)
    seen = [
        [
            who.sees(each)
            for each in (record("digits", "token:a"), record("digits"), record("m"), boot)
        ]
        for who in (client, auditor, limited)
    ]
    assert seen == [[True, False, False, False], [True] * 4, [True, True, False, True]]
