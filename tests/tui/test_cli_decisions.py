"""Decisions by command: what is sent, shown, asked and refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.errors import EngineLoad
from appliance.exits import INTERRUPTED, USAGE
from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import FakeControl
from tui.actor import account_name, login_name
from tui.cli import app

Run = Callable[..., Result]
DECISION_REFUSED, UNKNOWN, CONFIG = 19, 18, 10
ALONE = {"canary": None, "canary_per_mille": 0, "shadow": None, "tuning": None}


@pytest.fixture
def run(box_state: Path) -> Run:
    """run("status") is `holdfast status --state <the test's box>`."""

    def command(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, [*arguments, "--state", str(box_state)], input=answer)

    return command


@pytest.fixture
def someone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person sits at the terminal."""
    monkeypatch.setattr("tui.commands.deciding.someone_is_there", lambda: True)


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


class TestDecisions:
    def test_activate(self, control: FakeControl, run: Run) -> None:
        result = run("activate", "digits", "3", "--reason", "fewer errors", "--yes")
        assert result.exit_code == 0
        assert "Activate version 3 of digits: done" in result.stdout
        assert f"decision d-0007 of {login_name()}" in result.stdout
        assert control.orders == [
            wire.DecideRequest(
                model="digits",
                act="activate",
                version=3,
                actor=login_name(),
                reason="fewer errors",
            )
        ]

    def test_roll_back_as_json(self, control: FakeControl, run: Run) -> None:
        shown = told(
            run("rollback", "digits", "--reason", "errors", "--actor", "alice", "--yes", "--json")
        )
        assert [line["role"] for line in shown.pop("versions")] == ["", "previous", "active"]
        assert shown == {
            "decision_id": "d-0007",
            "model": "digits",
            "act": "roll_back",
            "version": 1,
            "actor": account_name(),
            "claimed": "alice",
            "reason": "errors",
            "before": ALONE | {"active": 2, "previous": 1, "retired": []},
            "after": ALONE | {"active": 1, "previous": 2, "retired": []},
        }

    def test_retire(self, control: FakeControl, run: Run) -> None:
        shown = told(run("retire", "digits", "3", "--reason", "old", "--yes", "--json"))
        assert shown["after"] == ALONE | {"active": 2, "previous": 1, "retired": [3]}

    def test_a_canary_answers_a_share(self, control: FakeControl, run: Run) -> None:
        words = ("canary", "digits", "3", "--share", "2.5%", "--reason", "r", "--yes")
        shown = told(run(*words, "--json"))
        assert (shown["act"], shown["version"]) == ("start_canary", 3)
        assert (shown["after"]["canary"], shown["after"]["canary_per_mille"]) == (3, 25)
        (sent,) = control.orders
        assert (sent.act, sent.version, sent.per_mille) == ("start_canary", 3, 25)
        lines = run("status").stdout.splitlines()
        assert lines[-2].split()[:5] == ["Model", "Active", "Canary", "Shadow", "Answered"]
        assert lines[-1].split()[:5] == ["digits", "2", "3", "2.5%", "-"]
        assert run("versions", "digits").stdout.splitlines()[1].split()[2:4] == ["canary", "2.5%"]
        (model,) = told(run("versions", "--json"))
        assert (model["canary"], model["canary_per_mille"], model["shadow"]) == (3, 25, None)
        assert run(*words).exit_code == DECISION_REFUSED

    def test_a_canary_ends_or_is_promoted(self, control: FakeControl, run: Run) -> None:
        start = ("canary", "digits", "3", "--share", "50 per mille", "--reason", "r", "--yes")
        for end in (("canary", "digits", "--end"), ("promote", "digits")):
            assert run(*start).exit_code == 0
            result = run(*end, "--reason", "r", "--yes")
            assert "version 3 of digits" in result.stdout
            assert control.models[0].canary == 0
        assert (control.models[0].active, control.models[0].previous) == (3, 2)

    def test_a_shadow_starts_and_ends(self, control: FakeControl, run: Run) -> None:
        start = run("shadow", "digits", "3", "--reason", "r", "--yes")
        assert "Start version 3 of digits as shadow: done" in start.stdout
        assert [line.split() for line in start.stdout.splitlines()][3] == ["shadow", "-", "->", "3"]
        assert run("status").stdout.splitlines()[-1].split()[:4] == ["digits", "2", "-", "3"]
        end = run("shadow", "digits", "--end", "--reason", "r", "--yes")
        assert "End version 3 of digits as shadow: done" in end.stdout
        assert [order.act for order in control.orders] == ["start_shadow", "end_shadow"]

    def test_a_model_is_withdrawn(self, control: FakeControl, run: Run) -> None:
        shown = told(run("withdraw", "digits", "--reason", "r", "--yes", "--json"))
        assert (shown["version"], shown["after"]["active"], shown["after"]["previous"]) == (
            2,
            None,
            2,
        )

    @pytest.mark.parametrize(
        "words",
        [
            ("canary", "digits", "3"),
            ("canary", "digits", "--share", "5%"),
            ("canary", "digits", "3", "--share", "5"),
            ("canary", "digits", "3", "--share", "100%"),
            ("canary", "digits", "3", "--end"),
            ("canary", "digits", "--share", "5%", "--end"),
            ("shadow", "digits"),
            ("shadow", "digits", "3", "--end"),
        ],
    )
    def test_starting_and_ending_are_told_apart(
        self, control: FakeControl, run: Run, words: tuple[str, ...]
    ) -> None:
        assert run(*words, "--reason", "r", "--yes").exit_code == USAGE
        assert control.orders == []

    def test_a_person_sees_before_and_after_and_agrees(
        self, control: FakeControl, run: Run, someone: None
    ) -> None:
        result = run("activate", "digits", "3", "--reason", "r", answer="y\n")
        assert result.exit_code == 0
        asked = [line.split() for line in result.stderr.splitlines()]
        assert ["active", "2", "->", "3"] in asked
        assert ["previous", "1", "->", "2"] in asked
        assert len(control.orders) == 1

    def test_a_person_says_no(self, control: FakeControl, run: Run, someone: None) -> None:
        result = run("activate", "digits", "3", "--reason", "r", answer="n\n")
        assert result.exit_code == INTERRUPTED
        assert "Nothing was changed." in result.stderr
        assert control.orders == []

    def test_a_person_hangs_up(self, control: FakeControl, run: Run, someone: None) -> None:
        result = run("activate", "digits", "3", "--reason", "r", answer="")
        assert result.exit_code == INTERRUPTED
        assert control.orders == []

    def test_yes_asks_nobody(self, control: FakeControl, run: Run, someone: None) -> None:
        assert run("rollback", "digits", "--reason", "r", "--yes").exit_code == 0
        assert len(control.orders) == 1

    def test_a_script_without_yes_is_refused(self, control: FakeControl, run: Run) -> None:
        result = run("rollback", "digits", "--reason", "r")
        assert result.exit_code == CONFIG
        assert "add --yes" in result.stderr
        assert control.orders == []

    def test_the_runtime_refuses(self, control: FakeControl, run: Run) -> None:
        control.refusal = EngineLoad("no memory", remedy="free some")
        result = run("activate", "digits", "3", "--reason", "r", "--yes")
        assert result.exit_code == 16
        assert result.stderr == "error [engine.load]: no memory\nremedy: free some\n"
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("activate", "digits", "2"), DECISION_REFUSED),
            (("retire", "digits", "2"), DECISION_REFUSED),
            (("activate", "digits", "9"), UNKNOWN),
            (("activate", "wine", "1"), UNKNOWN),
            (("activate", "digits", "0"), USAGE),
            (("canary", "digits", "2", "--share", "5%"), DECISION_REFUSED),
            (("canary", "digits", "9", "--share", "5%"), UNKNOWN),
            (("canary", "digits", "--end"), DECISION_REFUSED),
            (("promote", "digits"), DECISION_REFUSED),
            (("shadow", "digits", "2"), DECISION_REFUSED),
            (("shadow", "digits", "--end"), DECISION_REFUSED),
        ],
    )
    def test_what_cannot_be_is_refused_before_it_is_sent(
        self, control: FakeControl, run: Run, arguments: tuple[str, ...], code: int
    ) -> None:
        assert run(*arguments, "--reason", "r", "--yes").exit_code == code
        assert control.orders == []

    def test_an_empty_store_knows_no_model(self, control: FakeControl, run: Run) -> None:
        control.hide = True
        assert run("rollback", "digits", "--reason", "r").exit_code == UNKNOWN

    @pytest.mark.parametrize("reason", [(), ("--reason", " ")])
    def test_a_decision_needs_a_reason(
        self, control: FakeControl, run: Run, reason: tuple[str, ...]
    ) -> None:
        assert run("rollback", "digits", *reason).exit_code in {USAGE, CONFIG}
        assert control.orders == []

    def test_giving_up_the_wait_says_that_the_decision_goes_on(
        self, control: FakeControl, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("tui.gateway.RuntimeGateway.decide", interrupted)
        result = run("rollback", "digits", "--reason", "r", "--yes")
        assert result.exit_code == INTERRUPTED
        assert "goes on with the decision" in result.stderr
