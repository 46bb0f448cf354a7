"""`holdfast audit`, on a log that a box wrote; no runtime is needed."""

import csv
import hashlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2 as sqlite
from typer.testing import CliRunner, Result

from appliance import notes
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.kinds import Boot, Decision, Failure, Outcome, Verified
from appliance.audit.log import AuditLog
from appliance.audit.tree import Frontier, leaf_hash
from appliance.config import StateConfig
from appliance.deployment import Deployment
from appliance.exits import INTERRUPTED
from appliance.signing import SigningKey
from tests.tui.conftest import NOW_NS
from tui.cli import app

Run = Callable[..., Result]
AUDIT_FAILED, STATE_UNUSABLE, KEY_UNUSABLE = 24, 11, 12
BEFORE = Deployment(model="digits")
AFTER = Deployment(model="digits", active=1)


class StandingClock:
    """Time stands still."""

    def wall_ns(self) -> int:
        return NOW_NS

    def monotonic_ns(self) -> int:
        return 1


@pytest.fixture
def log(box_state: Path) -> Iterator[AuditLog]:
    """The open log of a box that booted, took one decision and refused one request."""
    state = StateConfig(directory=str(box_state))
    key = SigningKey.load_or_generate(state.box_key)
    with AuditLog.open(state.audit_log, key=key, clock=StandingClock(), boot_id="b") as opened:
        opened.append(
            [
                Boot(release="0.1.0", config_sha256="0" * 64),
                Decision(
                    decision_id="d-1",
                    model="digits",
                    act="activate",
                    version=1,
                    actor="alice",
                    reason="first \x1b[31mversion",
                    before=BEFORE,
                    after=AFTER,
                ),
                Outcome(
                    decision_id="d-1", model="digits", result="done", message="", deployment=AFTER
                ),
                Failure(
                    request_id="r-1",
                    model="digits",
                    version=1,
                    principal="",
                    peer="ipv4:127.0.0.1:50000",
                    code="request.invalid",
                    message="no such input",
                ),
            ]
        )
        opened.checkpoint()
        yield opened


@pytest.fixture
def run(box_state: Path) -> Run:
    """run("tail") is `holdfast audit tail --state <the test's box>`."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["audit", *arguments, "--state", str(box_state)])

    return command


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


class TestTail:
    def test_lists_the_last_records_oldest_first(self, log: AuditLog, run: Run) -> None:
        lines = [line.split() for line in run("tail", "-n", "3").stdout.splitlines()]
        time = "2026-09-21T14:13:20Z"
        assert lines[1:] == [
            ["1", time, "decision", "digits/1", "activate", "d-1", "alice"],
            ["2", time, "outcome", "digits", "done", "d-1", "-"],
            ["3", time, "failure", "digits/1", "request.invalid", "r-1", "-"],
        ]

    def test_of_one_category_as_json(self, log: AuditLog, run: Run) -> None:
        (entry,) = told(run("tail", "--category", "decision", "--json"))
        assert entry["sequence"] == 1
        assert entry["record"]["category"] == "decision"
        assert entry["record"]["actor"] == "alice"

    def test_of_one_person_result_and_time(self, log: AuditLog, run: Run) -> None:
        def places(*options: str) -> list[int]:
            return [entry["sequence"] for entry in told(run("tail", *options, "--json"))]

        assert places("--principal", "alice") == [1]
        assert places("--result", "request.invalid") == [3]
        assert places("--since", "2026-09-21T14:13:20Z") == [0, 1, 2, 3]
        assert places("--since", "2026-09-21T14:13:21Z") == []
        assert places("--until", "2026-09-21T14:13:20Z") == []
        assert run("tail", "--since", "yesterday").exit_code == 2

    def test_of_a_model_that_nobody_asked(self, log: AuditLog, run: Run) -> None:
        assert told(run("tail", "--model", "wine", "--json")) == []

    def test_an_unknown_category_names_the_known_ones(self, log: AuditLog, run: Run) -> None:
        result = run("tail", "--category", "infrence")
        assert result.exit_code == AUDIT_FAILED
        assert "inference" in result.stderr

    def test_without_a_log(self, run: Run) -> None:
        assert run("tail").exit_code == STATE_UNUSABLE


class TestStatus:
    def test_what_it_holds_and_how_long_the_disk_lasts(self, log: AuditLog, run: Run) -> None:
        assert "too young to tell" in " ".join(run("status").stdout.split())
        found = told(run("status", "--json"))
        assert (found["records"], found["first"], found["sealed_files"]) == (4, 0, 0)
        assert log.seal()
        assert told(run("status", "--json"))["sealed_files"] == 1


class TestExport:
    def test_json_lines_are_the_leaves_and_the_checkpoint_covers_them(
        self, log: AuditLog, run: Run, tmp_path: Path
    ) -> None:
        log.checkpoint()
        target = tmp_path / "log.jsonl"
        found = told(run("export", str(target), "--json"))
        frontier = Frontier()
        for line in target.read_bytes().splitlines():
            frontier.append(leaf_hash(line))
        checkpoint = read_checkpoint(Path(found["checkpoint"]).read_text("utf-8"))
        assert (checkpoint.size, checkpoint.root) == (4, frontier.root())
        assert found["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
        assert run("export", str(target)).exit_code == AUDIT_FAILED
        assert run("export", str(target), "--force").exit_code == 0

    def test_csv_of_what_is_sought(self, log: AuditLog, run: Run, tmp_path: Path) -> None:
        log.append(
            [
                Failure(
                    request_id="=1+1",
                    model="@sum",
                    version=0,
                    principal="",
                    peer="",
                    code="model.unknown",
                    message="",
                )
            ]
        )
        log.checkpoint()
        target = tmp_path / "log.csv"
        assert run("export", str(target), "--category", "failure").exit_code == 0
        with target.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["event_id"], row["model"]) for row in rows] == [
            ("r-1", "digits"),
            ("'=1+1", "'@sum"),
        ]
        assert json.loads(rows[1]["record"])["record"]["request_id"] == "=1+1"

    def test_what_no_checkpoint_covers_yet_is_left_out(
        self, log: AuditLog, run: Run, tmp_path: Path
    ) -> None:
        log.checkpoint()
        log.append([Boot(release="0.1.0", config_sha256="0" * 64)])
        found = told(run("export", str(tmp_path / "a.jsonl"), "--json"))
        assert (log.size, found["records"], found["end"]) == (5, 4, 4)

    def test_another_form_is_refused(self, log: AuditLog, run: Run, tmp_path: Path) -> None:
        assert run("export", str(tmp_path / "a.xlsx")).exit_code == 2


class TestShow:
    def test_every_record_of_a_decision(self, log: AuditLog, run: Run) -> None:
        shown = run("show", "d-1").stdout
        assert "Record 1: decision" in shown
        assert "Record 2: outcome" in shown
        assert "active 1, previous -, retired -" in shown

    def test_what_a_client_wrote_cannot_drive_the_terminal(self, log: AuditLog, run: Run) -> None:
        shown = run("show", "d-1").stdout
        assert "\x1b" not in shown
        assert r"first \x1b[31mversion" in shown

    def test_json(self, log: AuditLog, run: Run) -> None:
        (entry,) = told(run("show", "r-1", "--json"))
        assert entry["record"]["code"] == "request.invalid"

    def test_an_unknown_id(self, log: AuditLog, run: Run) -> None:
        result = run("show", "r-2")
        assert result.exit_code == AUDIT_FAILED
        assert "error [audit.unknown]" in result.stderr


class TestVerify:
    def test_says_what_is_proven_and_what_is_not(self, log: AuditLog, run: Run) -> None:
        result = run("verify")
        assert result.exit_code == 0
        assert "The audit log verifies." in result.stdout
        assert "4 records are in order and whole" in result.stdout
        assert "A log alone cannot show" in result.stdout
        assert result.stdout.endswith(log_note(log))
        assert result.stderr == ""

    def test_json(self, log: AuditLog, run: Run, box_state: Path) -> None:
        found = told(run("verify", "--json"))
        assert (found["records"], found["checkpointed"], found["outside"]) == (4, 4, None)
        assert found["log"] == str(box_state / "audit" / "log.db")
        assert len(bytes.fromhex(found["root"])) == 32
        assert found["checkpoint"] == log_note(log)

    def test_against_a_checkpoint_that_left_the_box(
        self, log: AuditLog, run: Run, tmp_path: Path
    ) -> None:
        note = tmp_path / "note.txt"
        note.write_text(log_note(log))
        log.append([Boot(release="0.1.0", config_sha256="0" * 64)])
        found = told(run("verify", "--against", str(note), "--json"))
        assert (found["records"], found["outside"]) == (5, 4)
        assert "No checkpoint covers the last 1 yet." in found["promise"]

    def test_a_changed_record_is_found(self, log: AuditLog, run: Run, box_state: Path) -> None:
        log.close()
        connection = sqlite.connect(str(box_state / "audit" / "log.db"), isolation_level=None)
        connection.execute("DROP TRIGGER record_no_update")
        connection.execute("UPDATE record SET result = 'retire' WHERE sequence = 1")
        connection.close()
        result = run("verify")
        assert result.exit_code == AUDIT_FAILED
        assert "error [audit.broken]: record 1: column result" in result.stderr
        assert result.stdout == ""

    def test_checkpoints_that_cannot_be_read_are_a_finding_on_record(
        self, log: AuditLog, run: Run, box_state: Path
    ) -> None:
        log.close()
        path = box_state / "audit" / "log.db"
        with closing(sqlite.connect(str(path))) as connection:
            asked = "SELECT rootpage FROM sqlite_schema WHERE name = 'checkpoint'"
            ((page,),) = connection.execute(asked)
            ((size,),) = connection.execute("PRAGMA page_size")
        with path.open("r+b") as file:
            file.seek(size * (page - 1))
            file.write(b"\xff" * size)
        for options in ((), ("--key", str(box_state / "keys" / "box.pub"))):
            result = run("verify", *options)
            assert result.exit_code == AUDIT_FAILED
            assert "error [audit.broken]: the checkpoints cannot be read" in result.stderr
        left = [notes.read_note(path) for path in notes.left(StateConfig(directory=str(box_state)))]
        assert [note.ok for note in left if isinstance(note, Verified)] == [False, False]

    def test_without_the_public_key(self, log: AuditLog, run: Run, box_state: Path) -> None:
        (box_state / "keys" / "box.pub").rename(box_state / "elsewhere.pub")
        result = run("verify")
        assert result.exit_code == KEY_UNUSABLE
        assert "--key" in result.stderr
        assert run("verify", "--key", str(box_state / "elsewhere.pub")).exit_code == 0

    def test_with_the_key_of_another_box(self, log: AuditLog, run: Run, tmp_path: Path) -> None:
        other = SigningKey.generate()
        other.public.save(tmp_path / "other.pub")
        result = run("verify", "--key", str(tmp_path / "other.pub"))
        assert result.exit_code == KEY_UNUSABLE
        assert other.public.key_id[:16] in result.stderr

    def test_an_unreadable_checkpoint(self, log: AuditLog, run: Run, tmp_path: Path) -> None:
        result = run("verify", "--against", str(tmp_path / "none"))
        assert result.exit_code == AUDIT_FAILED
        assert "cannot read the checkpoint" in result.stderr

    def test_ctrl_c_ends_without_a_traceback(
        self, log: AuditLog, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("tui.commands.audit.verify_log", interrupted)
        result = run("verify")
        assert result.exit_code == INTERRUPTED
        assert result.stderr == "\ninterrupted\n"

    def test_progress_is_shown_to_a_person_only(self, log: AuditLog, box_state: Path) -> None:
        """On a terminal the bar is on standard error; standard output is the same as in a pipe."""
        person, terminal = pty.openpty()
        child = subprocess.run(
            [
                *(sys.executable, "-c", "from tui.cli import main; main()"),
                *("audit", "verify", "--state", str(box_state)),
            ],
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm"},
            check=True,
        )
        os.close(terminal)
        shown = b""
        while b"Verifying" not in shown:  # at the end of what there is reading fails
            shown += os.read(person, 65_536)
        os.close(person)
        assert child.stdout.startswith(b"The audit log verifies.\n")


def log_note(log: AuditLog) -> str:
    """The last checkpoint that the log at hand holds."""
    from appliance.audit.reader import AuditReader

    with AuditReader(log._database.path) as reader:
        return reader.checkpoints()[-1]
