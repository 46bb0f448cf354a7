"""The reader: finds what was asked for, in order, beside a running writer and without holding it up."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit import pages as paging
from appliance.audit.kinds import (
    CATEGORIES,
    AnyRecord,
    Boot,
    Decision,
    Failure,
    Gap,
    Inference,
    Outcome,
)
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.record import Entry
from appliance.deployment import Deployment
from appliance.errors import AuditBroken, AuditError, StateError, UnknownRecord

Open = Callable[..., AuditLog]
Make = Callable[..., Inference]


def failure(number: int, model: str) -> Failure:
    return Failure(
        request_id=f"request-{number}",
        model=model,
        version=0,
        principal="",
        peer="",
        code="model.unknown",
        message="",
    )


def decision(number: int, model: str, version: int) -> Decision:
    deployment = Deployment(model=model)
    return Decision(
        decision_id=f"decision-{number}",
        model=model,
        act="activate",
        version=version,
        actor="ada",
        reason="test",
        before=deployment,
        after=deployment,
    )


def outcome(number: int, model: str, version: int, result: str = "done") -> Outcome:
    return Outcome(
        decision_id=f"decision-{number}",
        model=model,
        result=result,  # type: ignore[arg-type]
        message="",
        deployment=Deployment(model=model, active=version),
    )


def sequences(entries) -> list[int]:
    return [entry.sequence for entry in entries]


def plainly(entries: list[Entry], model: str | None, category: str | None) -> list[int]:
    """What a search should find, by looking at every entry."""
    return [
        entry.sequence
        for entry in entries
        if category in (None, entry.record.columns()[0])
        and model in (None, entry.record.columns()[1])
    ]


@pytest.fixture
def mixed(open_log: Open, path: Path, inference: Make) -> Path:
    """120 records of two models and several kinds."""
    records: list[AnyRecord] = [Boot(release="0", config_sha256="0" * 64)]
    for number in range(30):
        records += [inference(number), inference(number, model="wine")]
        records.append(failure(number, "digits" if number % 3 else "unheard-of"))
        if number % 10 == 0:
            records += [decision(number, "wine", 1), outcome(number, "wine", 1)]
            records.append(Gap(count=1, reason="test"))
    with open_log() as log:
        for start in range(0, len(records), 7):
            log.append(records[start : start + 7])
    return path


MODELS = st.sampled_from([None, "digits", "wine", "unheard-of", "nothing"])
WANTED = st.sampled_from([None, *CATEGORIES])


@given(model=MODELS, category=WANTED, count=st.integers(0, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tail_is_the_end_of_a_plain_search(
    mixed: Path, model: str | None, category: str | None, count: int
) -> None:
    with AuditReader(mixed) as reader:
        wanted = plainly(list(reader.records()), model, category)
        found = sequences(reader.tail(count, model=model, category=category))

    assert found == (wanted[-count:] if count else [])


@given(
    model=MODELS, category=WANTED, since=st.integers(0, 110), span=st.integers(0, 110) | st.none()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_are_what_a_plain_search_finds(
    mixed: Path, model: str | None, category: str | None, since: int, span: int | None
) -> None:
    until = None if span is None else since + span
    with AuditReader(mixed) as reader:
        everything = list(reader.records())
        found = sequences(
            reader.records(
                model=model, category=category, since_sequence=since, until_sequence=until
            )
        )

    assert sequences(everything) == list(range(len(everything)))
    wanted = plainly(everything, model, category)
    assert found == [
        one for one in wanted if since <= one < (len(everything) if until is None else until)
    ]


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_the_size_of_a_page_does_not_show(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(paging, "PAGE_RECORDS", rows)
    monkeypatch.setattr(paging, "FETCH_RECORDS", 2)
    monkeypatch.setattr(paging, "PAGE_BYTES", 3000)
    with AuditReader(mixed) as reader:
        assert sequences(reader.records()) == list(range(reader.size()))


def test_an_unknown_category_names_the_known_ones(mixed: Path) -> None:
    with AuditReader(mixed) as reader, pytest.raises(UnknownRecord) as caught:
        reader.tail(1, category="inferences")

    assert "inference, failure" in caught.value.remedy


def test_show_finds_everything_about_a_request_or_a_decision(mixed: Path) -> None:
    with AuditReader(mixed) as reader:
        kinds = [entry.record.columns()[:2] for entry in reader.show("request-3")]
        assert kinds == [("inference", "digits"), ("inference", "wine"), ("failure", "unheard-of")]
        assert len(reader.show("request-3", count=1)) == 1
        assert [entry.record.columns()[0] for entry in reader.show("decision-10")] == [
            "decision",
            "outcome",
        ]
        with pytest.raises(UnknownRecord, match="no record of 'request-99'"):
            reader.show("request-99")


def test_boot_learns_how_each_model_stands_and_what_was_left_open(
    open_log: Open, path: Path
) -> None:
    with open_log() as log:
        log.append([decision(1, "digits", 1), outcome(1, "digits", 1)])
        log.append([decision(2, "wine", 4), outcome(2, "wine", 4)])
        log.append([decision(3, "digits", 2), outcome(3, "digits", 1, "failed")])
        log.append([decision(4, "wine", 5), decision(5, "digits", 2)])
    with AuditReader(path) as reader:
        assert reader.last_outcomes() == {
            "digits": Deployment(model="digits", active=1),
            "wine": Deployment(model="wine", active=4),
        }
        assert [one.decision_id for one in reader.open_decisions()] == ["decision-4", "decision-5"]


def test_a_new_log_has_nothing_to_tell(open_log: Open, path: Path) -> None:
    open_log().close()
    with AuditReader(path) as reader:
        assert reader.size() == 0
        assert reader.tail(5) == []
        assert list(reader.records()) == []
        assert reader.last_outcomes() == {}
        assert reader.open_decisions() == []
        assert reader.first_since(0) == 0
        assert len(reader.checkpoints(5)) == 1


def test_first_since_finds_the_place_of_a_time(
    open_log: Open, path: Path, clock, inference: Make
) -> None:
    start = clock.wall_ns()
    with open_log() as log:
        for number in range(5):
            log.append([inference(number)])
            clock.advance(1)
    with AuditReader(path) as reader:
        assert reader.first_since(0) == 0
        assert reader.first_since(start + 2_000_000_000) == 2
        assert reader.first_since(start + 2_000_000_001) == 3
        assert reader.first_since(clock.wall_ns()) == 5


def test_a_reader_follows_a_running_writer(open_log: Open, path: Path, inference: Make) -> None:
    log = open_log()
    log.append([inference(0)])
    reader = AuditReader(path)
    stream = reader.records()
    assert next(stream).sequence == 0
    log.append([inference(1)])

    assert next(stream).sequence == 1
    assert reader.size() == 2
    log.close()
    reader.close()


def test_a_stream_left_standing_does_not_hold_the_write_ahead_log(
    open_log: Open, path: Path, inference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_BYTES", 1000)
    monkeypatch.setattr(paging, "FETCH_RECORDS", 1)
    log = open_log()
    log.append([inference(number) for number in range(50)])
    with AuditReader(path) as reader:
        stream = reader.records()
        next(stream)
        log.append([inference(number) for number in range(50)])
        busy, in_log, _ = log._database.connection.execute(
            "PRAGMA wal_checkpoint(TRUNCATE)"
        ).fetchone()
        assert (busy, in_log) == (0, 0)
        assert len(list(stream)) == 99
    log.close()


def test_a_record_that_was_tampered_with_is_not_shown(mixed: Path, tamper) -> None:
    tamper(mixed, "UPDATE record SET model = 'wine' WHERE sequence = 1")

    with AuditReader(mixed) as reader:
        with pytest.raises(AuditBroken, match="record 1: column model is 'wine' but its bytes say"):
            reader.records(model="wine").__next__()
        assert reader.tail(5)


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no audit log at"):
        AuditReader(tmp_path / "log.db")


def test_a_file_that_cannot_be_read_further_is_an_audit_error(mixed: Path) -> None:
    content = bytearray(mixed.read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    mixed.write_bytes(content)

    with AuditReader(mixed) as reader, pytest.raises(AuditError) as caught:
        list(reader.records())
    assert "holdfast audit verify" in caught.value.remedy


class Stuck:
    """A damaged file: whatever is asked for, it gives the same row."""

    format = 2

    def __init__(self) -> None:
        self.connection = self

    def execute(self, *_: object) -> "Stuck":
        return self

    def fetchall(self) -> list[tuple[object, ...]]:
        return [(7, b"", "")]

    def fetchmany(self, _: int) -> list[tuple[object, ...]]:
        return [] if self.read else [self._row()]

    def _row(self) -> tuple[object, ...]:
        self.read = True
        return (7, *(b"",) * 9)

    def close(self) -> None:
        self.read = False

    read = False


def test_a_damaged_page_is_not_read_without_end() -> None:
    with pytest.raises(AuditBroken, match=r"^checkpoint 7: it stands behind 7"):
        list(paging.checkpoint_rows(Stuck(), up_to=9))  # type: ignore[arg-type]
    with pytest.raises(AuditBroken, match=r"^record 7: it stands behind record 7"):
        list(paging.pages(Stuck()))  # type: ignore[arg-type]
