"""The operator's commands against a control service: output, JSON, exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import FakeControl
from tui.cli import app

Run = Callable[..., Result]
UNREACHABLE, UNKNOWN, CONFIG, STATE = 23, 18, 10, 11


@pytest.fixture
def run(box_state: Path) -> Run:
    """run("status") is `holdfast status --state <the test's box>`."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--state", str(box_state)])

    return command


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
        found = told(run("status", "--json"))
        assert found.pop("disk").startswith("there is no audit log at")
        assert found == {
            "state": "serving",
            "release": "0.1.0",
            "address": "127.0.0.1:8001",
            "metrics_address": "127.0.0.1:9464",
            "started": "2026-09-21T13:13:20.000000Z",
            "uptime_seconds": 3601.0,
            "audit": {"records": 1100, "queue": 1, "failure": ""},
            "certificates": [],
            "certificates_failure": "",
            "gpus": [],
            "checkpoints_blocked": [],
            "models": [
                {
                    "model": "digits",
                    "active": 2,
                    "canary": None,
                    "canary_per_mille": 0,
                    "shadow": None,
                    "previous": 1,
                    "tuning": None,
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
            "edition": None,
        }

    def test_editions_are_shown_where_makers_count_them(
        self, control: FakeControl, run: Run
    ) -> None:
        assert "Edition" not in run("versions").stdout
        control.models[0].versions[1].edition = 2026_11
        lines = run("versions").stdout.splitlines()
        assert lines[0].split()[:3] == ["Model", "Version", "Edition"]
        assert [line.split()[2] for line in lines[1:4]] == ["-", "202611", "-"]
        (model,) = told(run("versions", "--json"))
        assert [line["edition"] for line in model["versions"]] == [None, 202611, None]

    def test_a_tuned_model_says_how_it_runs(self, control: FakeControl, run: Run) -> None:
        control.models[0].tuning.CopyFrom(
            wire.Tuning(rows_max=16, delay_us_max=400, lanes=2, threads=1, bucket_rows=[1, 16])
        )
        words = (
            "tuned: digits: 2 lanes on 1 thread each, up to 16 rows, delay 400 us, buckets 1, 16"
        )
        for command in ("versions", "status"):
            assert words in " ".join(run(command).stdout.split())
        (model,) = told(run("status", "--json"))["models"]
        assert model["tuning"]["bucket_rows"] == [1, 16]

    def test_no_version_is_null(self, control: FakeControl, run: Run) -> None:
        control.models[0].active = control.models[0].previous = 0
        (model,) = told(run("versions", "--json"))
        assert (model["active"], model["previous"]) == (None, None)

    def test_an_unknown_model(self, control: FakeControl, run: Run) -> None:
        result = run("versions", "wine")
        assert result.exit_code == UNKNOWN
        assert "error [model.unknown]" in result.stderr


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
        serving = ("status", "versions", "compare", "audit", "drift")
        decisions = ("activate", "canary", "promote", "shadow", "rollback", "withdraw", "retire")
        for name in (*serving, *decisions):
            assert f" {name} " in shown

    @pytest.mark.parametrize("name", ["audit", "drift"])
    def test_a_group_alone_shows_its_help(self, name: str) -> None:
        assert "Commands" in CliRunner().invoke(app, [name]).output

    def test_version(self) -> None:
        assert CliRunner().invoke(app, ["--version"]).stdout.startswith("holdfast 0.")

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            ("activate di", ["digits", "digits-old"]),
            ("promote w", ["wine"]),
            ("canary digits ", ["1", "2", "12"]),
            ("shadow digits 1", ["1", "12"]),
            ("shadow gone ", []),
        ],
    )
    def test_models_and_versions_are_completed_from_the_store(
        self, box_state: Path, words: str, found: list[str]
    ) -> None:
        for name in ("digits/1", "digits/2", "digits/12", "digits-old/1", "wine/1"):
            (box_state / "store" / name).mkdir(parents=True)
        line = f"holdfast --state {box_state} {words}"
        told = subprocess.run(
            [sys.executable, "-c", "from tui.cli import main; main()"],
            env={
                "_HOLDFAST_COMPLETE": "complete_bash",
                "_TYPER_COMPLETE_ARGS": line,
                "COMP_WORDS": line,
                "COMP_CWORD": str(line.count(" ")),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == found


@pytest.mark.parametrize(
    "words", [["status"], ["audit", "tail"], ["key", "status"], ["versions"], ["compare", "digits"]]
)
def test_whoever_may_not_enter_the_state_directory_is_told_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    result = run(*words)
    assert result.exit_code == STATE
    assert "may not be read by this user" in result.stderr
    assert "remedy: run this as root" in result.stderr


def test_settings_that_may_not_be_read_are_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    settings = tmp_path / "box.toml"
    settings.write_text("[sever]\n")
    result = CliRunner().invoke(app, ["status", "--config", str(settings)])
    assert result.exit_code == CONFIG
    assert "remedy:" in result.stderr
