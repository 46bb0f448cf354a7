"""`holdfast audit export` as Parquet: what another program reads is what the log holds."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from appliance.audit.kinds import Failure, Gap, Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import encode
from appliance.audit.tree import leaf_hash
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.signing import SigningKey
from tui import parquet
from tui.cli import app

Run = Callable[..., Result]
CONFIG_WRONG = 10


@pytest.fixture
def log(box_state: Path) -> Iterator[Path]:
    """The file of a log of eight records, all covered by its checkpoint."""
    state = StateConfig(directory=str(box_state))
    key = SigningKey.load_or_generate(state.box_key)
    refused = Failure(
        request_id="r-1",
        model="digits",
        version=1,
        principal="token:pr\u00e6s",
        peer="",
        code="request.invalid",
        message="no \u0000 input",
    )
    with AuditLog.open(state.audit_log, key=key, clock=SystemClock()) as opened:
        opened.append([refused, *(Gap(count=number, reason="full") for number in range(6))])
        opened.append([Stop(reason="done")])
    return state.audit_log


@pytest.fixture
def run(box_state: Path) -> Run:
    """run("export", FILE) is `holdfast --state <the box> audit export FILE`."""
    return lambda *words: CliRunner().invoke(
        app, ["--state", str(box_state), "audit", *map(str, words)]
    )


def test_it_reads_as_the_records_and_their_leaves(
    log: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_RECORDS", 3)
    target = tmp_path / "log.parquet"
    found = json.loads(run("export", target, "--json").stdout)
    assert found["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    file = pq.ParquetFile(target)
    table = file.read()
    with AuditReader(log) as reader:
        entries = list(reader.records())
    columns = {name: table.column(name).to_pylist() for name in parquet.COLUMNS if name != "time"}

    assert (file.num_row_groups, found["records"]) == (3, 8)
    assert [body.encode() for body in columns["record"]] == [encode(entry) for entry in entries]
    assert columns["leaf"] == [leaf_hash(encode(entry)) for entry in entries]
    assert columns["sequence"] == list(range(8))
    assert list(zip(*(columns[name] for name in parquet.COLUMNS[2:8]), strict=True)) == [
        entry.record.columns() for entry in entries
    ]
    assert table.column("time").cast(pa.int64()).to_pylist() == [entry.wall_ns for entry in entries]
    assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]"
    note = Path(found["checkpoint"]).read_bytes()
    assert file.schema_arrow.metadata[b"holdfast.checkpoint"] == note


def test_the_form_may_be_named_and_nothing_may_be_found(
    log: Path, run: Run, tmp_path: Path
) -> None:
    target = tmp_path / "records"
    assert run("export", target, "--format", "parquet", "--category", "decision").exit_code == 0
    assert pq.read_table(target).num_rows == 0


def test_without_its_library_the_remedy_is_told_and_nothing_left(
    log: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("export", tmp_path / "a.parquet")
    assert result.exit_code == CONFIG_WRONG
    assert "holdfast[parquet]" in " ".join(result.stderr.split())
    assert list(tmp_path.glob("*a.parquet*")) == []


def test_an_export_that_retention_cuts_short_leaves_the_earlier_one(
    log: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, firsts = tmp_path / "a.csv", iter((0, 5))
    target.write_text("earlier")
    monkeypatch.setattr(AuditReader, "first", lambda _: next(firsts))
    result = run("export", target, "--force")
    assert "retention removed records" in " ".join(result.stderr.split())
    assert target.read_text() == "earlier"
    assert [path.name for path in tmp_path.glob("*a.csv*")] == ["a.csv"]


def test_what_breaks_off_leaves_no_file(
    log: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "encode", lambda _: 1 / 0)
    assert run("export", tmp_path / "a.parquet").exit_code != 0
    assert list(tmp_path.glob("*a.parquet*")) == []


def test_records_that_no_checkpoint_covers_yet_are_told(box_state: Path, tmp_path: Path) -> None:
    state = StateConfig(directory=str(box_state))
    key = SigningKey.load_or_generate(state.box_key)
    with AuditLog.open(state.audit_log, key=key, clock=SystemClock()) as opened:
        opened.append([Gap(count=1, reason="full")])
        opened.checkpoint()
        opened.append([Gap(count=2, reason="full")])
        words = ["--state", str(box_state), "audit", "export", str(tmp_path / "a.csv")]
        told = CliRunner().invoke(app, words)
        found = json.loads(CliRunner().invoke(app, [*words, "--force", "--json"]).stdout)
    assert "1 younger record, which no checkpoint covers yet" in told.stdout
    assert (found["records"], found["left_out"]) == (1, 1)
