"""The operator's commands against a control service: output, JSON, exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.errors import EngineLoad
from appliance.exits import INTERRUPTED, USAGE
from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import FakeControl
from tui.actor import login_name
from tui.cli import app

Run = Callable[..., Result]
DECISION_REFUSED, UNREACHABLE, UNKNOWN, CONFIG = 19, 23, 18, 10


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


class TestStatus:
    def test_reads_for_people(self, control: FakeControl, run: Run) -> None:
        result = run("status")
        assert result.exit_code == 0
        assert "0.1.0, serving, up 1 h 00 min" in result.stdout
        assert "http://127.0.0.1:9464/metrics" in result.stdout
        assert "1,100 records, 1 waiting" in result.stdout
        assert result.stdout.splitlines()[-1].split() == [
            *("digits", "2", "1", "3", "100", "1", "4", "0.80", "ms", "2.5", "ms"),
        ]
        assert result.stderr == ""

    def test_json(self, control: FakeControl, run: Run) -> None:
        assert told(run("status", "--json")) == {
            "state": "serving",
            "release": "0.1.0",
            "address": "127.0.0.1:8001",
            "metrics_address": "127.0.0.1:9464",
            "started": "2026-09-21T13:13:20.000000Z",
            "uptime_seconds": 3601.0,
            "audit": {"records": 1100, "queue": 1, "failure": ""},
            "models": [
                {
                    "model": "digits",
                    "active": 2,
                    "previous": 1,
                    "answered": 100,
                    "failed": 1,
                    "rows": 200,
                    "batches": 10,
                    "queued": 4,
                    "p50_ms": 0.8,
                    "p99_ms": 2.5,
                }
            ],
        }

    def test_an_empty_store(self, control: FakeControl, run: Run) -> None:
        control.models.clear()
        assert "holdfast-compile" in run("status").stdout
        assert told(run("status", "--json"))["models"] == []

    def test_trouble_is_said(self, control: FakeControl, run: Run) -> None:
        control.audit_failure, control.metrics_address = "disk full", ""
        shown = run("status").stdout
        assert "takes no records: disk full" in shown
        assert "Metrics    off" in shown

    def test_no_runtime(self, run: Run) -> None:
        result = run("status")
        assert result.exit_code == UNREACHABLE
        assert result.stdout == ""
        assert result.stderr.startswith("error [server.unreachable]: no runtime answers on ")
        assert "remedy: start holdfast-runtime" in result.stderr


class TestVersions:
    def test_reads_for_people(self, control: FakeControl, run: Run) -> None:
        lines = run("versions", "digits").stdout.splitlines()
        assert [line.split()[:3] for line in lines[1:4]] == [
            ["digits", "3", "-"],
            ["digits", "2", "active"],
            ["digits", "1", "previous"],
        ]
        assert "accuracy 0.970 >= 0.950" in lines[1]
        assert "openvino int8" in lines[1]

    def test_what_serves_in_spite_of_a_warning_says_so(
        self, control: FakeControl, run: Run
    ) -> None:
        last = run("versions", "digits").stdout.splitlines()[4:]
        assert last == [f"warning: digits {n}: the sample is old" for n in (2, 1)]

    def test_a_damaged_version_says_so(self, control: FakeControl, run: Run) -> None:
        control.models[0].versions[2].damage = "engine.ort was changed"
        shown = run("versions").stdout.splitlines()[1]
        assert "damaged" in shown
        assert "engine.ort was changed" in shown

    def test_json(self, control: FakeControl, run: Run) -> None:
        (model,) = told(run("versions", "--json"))
        assert (model["model"], model["active"], model["previous"]) == ("digits", 2, 1)
        assert model["versions"][0] == {
            "number": 3,
            "role": "",
            "loaded": False,
            "engine": "openvino",
            "bundle_sha256": "ab" * 32,
            "built": "2026-09-20T10:00:00Z",
            "release_notes": "notes of 3",
            "thresholds": [
                {
                    "metric": "accuracy",
                    "output": "logits",
                    "minimum": 0.95,
                    "reached": 0.97,
                    "maximum": None,
                    "segment": "",
                    "segment_value": "",
                    "rows": 400,
                }
            ],
            "damage": "",
            "precision": "int8",
            "error_max": 0.02,
            "warnings": ["the sample is old"],
            "trials": [
                {"engine": "openvino", "precision": "int8", "median_ms": 0.2, "verdict": "kept"}
            ],
        }

    def test_no_version_is_null(self, control: FakeControl, run: Run) -> None:
        control.models[0].active = control.models[0].previous = 0
        (model,) = told(run("versions", "--json"))
        assert (model["active"], model["previous"]) == (None, None)

    def test_an_unknown_model(self, control: FakeControl, run: Run) -> None:
        result = run("versions", "wine")
        assert result.exit_code == UNKNOWN
        assert "error [model.unknown]" in result.stderr


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
            "version": None,
            "actor": "alice",
            "reason": "errors",
            "before": {"active": 2, "previous": 1, "retired": []},
            "after": {"active": 1, "previous": 2, "retired": []},
        }

    def test_retire(self, control: FakeControl, run: Run) -> None:
        shown = told(run("retire", "digits", "3", "--reason", "old", "--yes", "--json"))
        assert shown["after"] == {"active": 2, "previous": 1, "retired": [3]}

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


class TestChoosingTheBox:
    def test_the_state_may_stand_before_the_command(
        self, control: FakeControl, box_state: Path
    ) -> None:
        result = CliRunner().invoke(app, ["--state", str(box_state), "status"])
        assert result.exit_code == 0

    def test_a_config_file_names_it(self, control: FakeControl, box_state: Path) -> None:
        file = box_state / "holdfast.toml"
        file.write_text(f'[state]\ndirectory = "{box_state}"\n')
        for arguments in (["--config", str(file), "status"], ["status", "--config", str(file)]):
            assert CliRunner().invoke(app, arguments).exit_code == 0

    def test_a_wrong_config_file_is_told(self, box_state: Path) -> None:
        file = box_state / "holdfast.toml"
        file.write_text('[stat]\ndirectory = "x"\n')
        result = CliRunner().invoke(app, ["status", "--config", str(file)])
        assert result.exit_code == CONFIG
        assert "did you mean `state`?" in result.stderr


class TestTheCommandItself:
    def test_without_a_terminal_there_is_no_console(self, run: Run) -> None:
        result = run()
        assert result.exit_code == CONFIG
        assert "needs a terminal" in result.stderr

    def test_help_names_every_command(self) -> None:
        shown = CliRunner().invoke(app, ["--help"]).stdout
        for name in ("status", "versions", "activate", "rollback", "retire", "audit", "drift"):
            assert f" {name} " in shown

    @pytest.mark.parametrize("name", ["audit", "drift"])
    def test_a_group_alone_shows_its_help(self, name: str) -> None:
        assert "Commands" in CliRunner().invoke(app, [name]).output

    def test_version(self) -> None:
        assert CliRunner().invoke(app, ["--version"]).stdout.startswith("holdfast 0.")

    def test_model_names_are_completed_from_the_store(self, box_state: Path) -> None:
        for name in ("digits", "digits-old", "wine"):
            (box_state / "store" / name / "1").mkdir(parents=True)
        found = subprocess.run(
            [sys.executable, "-c", "from tui.cli import main; main()"],
            env={
                "_HOLDFAST_COMPLETE": "complete_bash",
                "_TYPER_COMPLETE_ARGS": f"holdfast --state {box_state} activate di",
                "COMP_WORDS": f"holdfast --state {box_state} activate di",
                "COMP_CWORD": "4",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == ["digits", "digits-old"]
