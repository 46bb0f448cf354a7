"""`holdfast token`; no runtime is needed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from appliance.access import read_tokens
from appliance.audit.kinds import AccessChanged
from appliance.config import StateConfig
from appliance.notes import left, read_note
from tui.actor import account_name
from tui.cli import app

ACCESS, CONFIG, USAGE = 27, 10, 2


@pytest.fixture
def run(box_state: Path) -> Callable[..., Result]:
    def run(*given: str) -> Result:
        return CliRunner().invoke(app, ["--state", str(box_state), "token", *given])

    return run


def test_a_token_is_printed_alone_and_listed_without_itself(
    run: Callable[..., Result], box_state: Path
) -> None:
    issued = run("issue", "line-3", "--model", "digits", "--days", "30")
    assert issued.exit_code == 0
    secret = issued.stdout.strip()
    assert secret.startswith("holdfast_")
    assert " " not in secret
    assert "only its SHA-256 is kept" in issued.stderr
    listed = run("list")
    assert "line-3" in listed.stdout
    assert "digits" in listed.stdout
    assert secret not in listed.stdout
    (token,) = read_tokens(StateConfig(directory=str(box_state)).tokens)
    assert token.expires_ns - token.issued_ns == 30 * 86_400 * 10**9


def test_json_has_every_field(run: Callable[..., Result]) -> None:
    issued = json.loads(run("issue", "desk", "--role", "auditor", "--json").stdout)
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed == {key: value for key, value in issued.items() if key != "token"}
    assert (listed["principal"], listed["role"]) == ("token:desk", "auditor")
    assert (listed["models"], listed["state"]) == (None, "holds")


def test_a_revoked_token_stays_listed(run: Callable[..., Result]) -> None:
    run("issue", "line-3")
    revoked = run("revoke", "line-3", "--yes")
    assert revoked.exit_code == 0
    assert "of token:line-3" in revoked.stderr
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "revoked"
    assert "revoked" in run("list").stdout
    again = run("revoke", "line-3", "--yes")
    assert again.exit_code == ACCESS
    assert "[access.token]" in again.stderr


def test_each_change_leaves_a_note_for_the_log(run: Callable[..., Result], box_state: Path) -> None:
    secret = run("issue", "line-3", "--model", "digits").stdout.strip()
    run("revoke", "line-3", "--yes")
    notes = left(StateConfig(directory=str(box_state)))
    records = [read_note(path) for path in notes]
    assert all(isinstance(record, AccessChanged) for record in records)
    told = [(r.act, r.name, r.models, r.by) for r in records if isinstance(r, AccessChanged)]
    me = account_name()
    assert sorted(told) == [
        ("issued", "token:line-3", ("digits",), me),
        ("revoked", "token:line-3", ("digits",), me),
    ]
    assert not any(secret.encode() in path.read_bytes() for path in notes)


def test_what_is_wrong_is_told(run: Callable[..., Result]) -> None:
    assert run("issue", "bad name").exit_code == ACCESS
    assert run("issue", "x", "--role", "king").exit_code == USAGE
    assert run("issue", "x", "--days", "0").exit_code == USAGE
    run("issue", "line-3")
    unasked = run("revoke", "line-3")
    assert unasked.exit_code == CONFIG
    assert "--yes" in unasked.stderr


def test_a_person_is_asked_before_a_token_is_revoked(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, box_state: Path
) -> None:
    monkeypatch.setattr("tui.commands.access.someone_is_there", lambda: True)
    run("issue", "line-3")
    for answer, state in (("n\n", "holds"), ("y\n", "revoked")):
        CliRunner().invoke(
            app, ["--state", str(box_state), "token", "revoke", "line-3"], input=answer
        )
        assert json.loads(run("list", "--json").stdout)[0]["state"] == state
