"""`holdfast audit receipt` and its sisters, as an operator and an auditor give them; and the console's `k`."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import segno
from typer.testing import CliRunner, Result

from appliance import notes
from appliance.audit.cosignature import cosign
from appliance.audit.kinds import Exported, Failure, Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.errors import NotCovered
from appliance.notes import read_note
from appliance.signing import SigningKey
from tests.tui.conftest import FakeGateway, snapshot
from tests.tui.piloting import until
from tui.app import ConsoleApp
from tui.checkpoints import Newest, newest_checkpoint
from tui.cli import app
from tui.qr import QUIET_MODULES, qr_lines
from tui.screens.checkpoint import CheckpointScreen
from tui.screens.trouble import TroubleScreen

Run = Callable[..., Result]
CONFIG_WRONG, STATE_UNUSABLE, KEY_UNUSABLE, AUDIT_FAILED = 10, 11, 12, 24


@pytest.fixture
def box(tmp_path: Path) -> StateConfig:
    """A closed log of 300 records, the middle one a refused request."""
    state = StateConfig(directory=str(tmp_path / "box"))
    key = SigningKey.load_or_generate(state.box_key)
    refused = Failure(
        request_id="r-1",
        model="digits",
        version=1,
        principal="",
        peer="ipv4:127.0.0.1:50000",
        code="request.invalid",
        message="no such input",
    )
    with AuditLog.open(
        state.audit_log, key=key, clock=SystemClock(), checkpoint_records=100
    ) as log:
        log.append([Stop(reason=str(number)) for number in range(150)])
        log.append([refused])
        log.append([Stop(reason=str(number)) for number in range(149)])
    return state


@pytest.fixture
def run(box: StateConfig) -> Run:
    """run("checkpoint") is `holdfast --state <the box> audit checkpoint`."""
    return lambda *words: CliRunner().invoke(
        app, ["--state", str(box.root), "audit", *map(str, words)]
    )


def told(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_a_receipt_goes_from_the_operator_to_an_auditor(
    run: Run, box: StateConfig, tmp_path: Path
) -> None:
    key, file, checker = box.box_key.with_suffix(".pub"), tmp_path / "r.json", tmp_path / "c.py"
    assert run("receipt", "r-1", "--output", file).exit_code == 0
    assert run("checker", "--output", checker).exit_code == 0
    shown = run("check-receipt", file, "--key", key)
    said = json.loads(run("check-receipt", file, "--key", key, "--json").stdout)
    alone = subprocess.run(
        [sys.executable, "-I", "-S", checker, "receipt", file, "--key", key],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "The receipt verifies." in shown.stdout
    assert "no such input" in shown.stdout
    assert (said["sequence"], said["size"]) == (150, 300)
    assert said["record"]["record"]["request_id"] == "r-1"
    assert '"request_id": "r-1"' in alone.stdout
    (left,) = [read_note(path) for path in notes.left(box)]
    assert isinstance(left, Exported)
    assert (left.what, left.first, left.end) == ("receipt", 150, 151)
    assert left.sha256 == sha256(file.read_bytes()).hexdigest()
    assert run("receipt", "r-1").stdout == file.read_text()
    assert run("receipt", "--record", 150).stdout == file.read_text()


def test_of_an_id_with_several_records_it_is_said_which_one_is_taken(
    run: Run, box: StateConfig
) -> None:
    with AuditReader(box.audit_log) as reader:
        (first,) = reader.show("r-1")
    with AuditLog.open(
        box.audit_log, key=SigningKey.load_or_generate(box.box_key), clock=SystemClock()
    ) as log:
        log.append([first.record])
    remark = "r-1 has 2 records; this is the receipt of record 300, --record takes another."
    assert told(run("receipt", "r-1")) == remark


def test_what_does_not_verify_is_refused_with_a_remedy(
    run: Run, box: StateConfig, tmp_path: Path
) -> None:
    file, other = tmp_path / "r.json", tmp_path / "other.pem"
    key = box.box_key.with_suffix(".pub")
    SigningKey.generate().save(other)
    run("receipt", "r-1", "-o", file)
    wrong = run("check-receipt", file, "--key", other.with_suffix(".pub"))
    assert wrong.exit_code == AUDIT_FAILED
    assert "not signed by this key" in told(wrong)
    unwitnessed = run("check-receipt", file, "--key", key, "--witness", other.with_suffix(".pub"))
    assert unwitnessed.exit_code == AUDIT_FAILED
    assert "has not cosigned" in told(unwitnessed)
    file.write_text(file.read_text().replace("no such input", "no such imput"))
    forged = run("check-receipt", file, "--key", key)
    assert forged.exit_code == AUDIT_FAILED
    assert "not the one that the log holds" in told(forged)
    assert run("check-receipt", tmp_path / "none", "--key", key).exit_code == AUDIT_FAILED
    assert run("check-receipt", file, "--key", tmp_path / "none").exit_code == KEY_UNUSABLE
    assert run("receipt").exit_code == CONFIG_WRONG
    assert run("receipt", "r-1", "--record", 3).exit_code == CONFIG_WRONG
    assert run("receipt", "nobody's").exit_code == AUDIT_FAILED
    assert run("receipt", "--record", 300).exit_code == AUDIT_FAILED


def test_without_a_runtime_nobody_signs_for_a_record_that_is_too_young(
    run: Run, box: StateConfig
) -> None:
    with AuditLog.open(box.audit_log, key=SigningKey.load(box.box_key), clock=SystemClock()) as log:
        log.append([Stop(reason="young")])
        young = run("receipt", "--record", 300)
        assert young.exit_code == AUDIT_FAILED
        assert "no checkpoint covers record 300 yet, and the runtime" in told(young)
        assert "start the runtime: it signs a checkpoint" in told(young)
    assert run("receipt", "--record", 300).exit_code == 0


def test_a_checkpoint_is_shown_kept_and_compared_with_later(
    run: Run, box: StateConfig, tmp_path: Path
) -> None:
    file, key = tmp_path / "kept.note", box.box_key.with_suffix(".pub")
    note = run("checkpoint").stdout
    assert run("checkpoint", "-o", file).exit_code == 0
    assert file.read_text() == note
    said = json.loads(run("checkpoint", "--json").stdout)
    assert (said["size"], said["note"]) == (300, note)
    with AuditLog.open(box.audit_log, key=SigningKey.load(box.box_key), clock=SystemClock()) as log:
        log.append([Stop(reason="more")])

    assert "came after it" in " ".join(run("verify", "--against", file).stdout.split())
    assert run("consistency", file, "-o", tmp_path / "grown.json").exit_code == 0
    grown = run("check-consistency", tmp_path / "grown.json", "--key", key)
    assert "grew from 300 records to 301" in " ".join(grown.stdout.split())
    numbers = json.loads(
        run("check-consistency", tmp_path / "grown.json", "--key", key, "--json").stdout
    )
    assert (numbers["old_size"], numbers["size"]) == (300, 301)
    (tmp_path / "later.note").write_text(run("checkpoint").stdout)
    backwards = run("consistency", tmp_path / "later.note", file)
    assert backwards.exit_code == AUDIT_FAILED
    assert run("consistency", tmp_path / "none").exit_code == AUDIT_FAILED


def test_cosignatures_are_shown_wherever_the_checkpoint_goes(
    run: Run, box: StateConfig, tmp_path: Path
) -> None:
    witness = SigningKey.generate()
    witness.save(tmp_path / "w.pem")
    public, key = tmp_path / "w.pub", box.box_key.with_suffix(".pub")
    note = run("checkpoint").stdout
    box.cosigned.parent.mkdir()
    box.cosigned.write_text(note + cosign(note, witness, seconds=1_700_000_000))

    assert run("checkpoint").stdout == box.cosigned.read_text()
    run("receipt", "r-1", "-o", tmp_path / "r.json")
    shown = run("check-receipt", tmp_path / "r.json", "--key", key, "--witness", public)
    assert "at 2023-11-14T22:13:20+00:00" in shown.stdout
    run("consistency", box.cosigned, box.cosigned, "-o", tmp_path / "g.json")
    grown = run("check-consistency", tmp_path / "g.json", "--key", key, "--witness", public)
    assert "holdfast-witness/" in grown.stdout
    verified = run("verify", "--against", box.cosigned, "--witness", public)
    assert "saw that checkpoint at" in " ".join(verified.stdout.split())
    assert run("verify", "--against", box.cosigned, "--witness", key).exit_code == AUDIT_FAILED


def test_evidence_that_cannot_be_recorded_is_still_given_and_says_so(
    run: Run, box: StateConfig
) -> None:
    (box.root / "notes").write_text("in the way")
    given = run("receipt", "r-1")
    assert given.exit_code == 0
    assert "That it left is not recorded" in told(given)


def test_without_a_log_there_is_nothing_to_prove(run: Run, box: StateConfig) -> None:
    box.audit_log.unlink()
    for words in (("checkpoint",), ("receipt", "r-1")):
        assert run(*words).exit_code == STATE_UNUSABLE


def test_a_code_holds_the_text_to_the_last_module(run: Run) -> None:
    """What is drawn is read back into modules and compared with the library's own."""
    note = run("checkpoint").stdout
    lines = qr_lines(note)
    drawn = [
        [int((cell in " ▄") if upper else (cell in " ▀")) for cell in line]
        for line in lines
        for upper in (True, False)
    ]
    code = segno.make_qr(note, error="l", mode="byte", encoding="utf-8", boost_error=False)
    wanted = [[int(dark) for dark in row] for row in code.matrix_iter(border=QUIET_MODULES)]
    assert drawn[: len(wanted)] == wanted
    assert len({len(line) for line in lines}) == 1
    assert lines[0] in run("checkpoint", "--qr").stdout
    assert "\x1b" not in run("checkpoint", "--qr").stdout
    with pytest.raises(ValueError, match=r"(?i)data"):
        qr_lines("x" * 3000)


@pytest.mark.parametrize(("size", "fits"), [((80, 24), False), ((120, 50), True)])
async def test_the_console_shows_it_under_k(
    box: StateConfig, size: tuple[int, int], fits: bool
) -> None:
    console = ConsoleApp(
        FakeGateway(snapshot()),
        actor="alice",
        tick_seconds=3600,
        checkpoint=partial(newest_checkpoint, box),
    )
    async with console.run_test(size=size) as pilot:
        await pilot.press("k")
        await until(pilot, lambda: isinstance(console.screen, CheckpointScreen))
        dialog = console.screen.query_one(".dialog").region
        assert abs(2 * dialog.x + dialog.width - size[0]) <= 1
        note, code = (str(console.screen.query_one(name).render()) for name in ("#note", "#code"))
        assert note == newest_checkpoint(box).note
        assert ("█" in code) is fits
        assert ("holdfast audit checkpoint --qr" in code) is not fits
        await pilot.press("k")
        assert not isinstance(console.screen, CheckpointScreen)


async def test_a_checkpoint_without_a_cosignature_tells_of_the_last_one_with_it(
    run: Run, box: StateConfig
) -> None:
    earlier, witness = run("checkpoint").stdout, SigningKey.generate()
    box.cosigned.parent.mkdir()
    box.cosigned.write_text(earlier + cosign(earlier, witness, seconds=1_700_000_000))
    with AuditLog.open(
        box.audit_log, key=SigningKey.load_or_generate(box.box_key), clock=SystemClock()
    ) as log:
        log.append([Stop(reason="later")])
    remark = "No witness has cosigned it yet; the last one that a witness did is over 300 records."
    shown = run("checkpoint")
    assert shown.stdout == newest_checkpoint(box).note
    assert told(shown) == remark
    console = ConsoleApp(
        FakeGateway(snapshot()),
        actor="alice",
        tick_seconds=3600,
        checkpoint=partial(newest_checkpoint, box),
    )
    async with console.run_test(size=(80, 24)) as pilot:
        await pilot.press("k")
        await until(pilot, lambda: isinstance(console.screen, CheckpointScreen))
        assert str(console.screen.query_one("#remark").render()) == remark


async def test_the_console_says_why_there_is_none() -> None:
    def none() -> Newest:
        raise NotCovered("the log has no checkpoint yet", remedy="wait")

    console = ConsoleApp(FakeGateway(snapshot()), actor="alice", tick_seconds=3600, checkpoint=none)
    async with console.run_test() as pilot:
        await pilot.press("k")
        await until(pilot, lambda: isinstance(console.screen, TroubleScreen))
