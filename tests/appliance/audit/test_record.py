"""Records as bytes: one form only, the golden one, and nothing else is read."""

import base64
import json
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.kinds import CATEGORIES, AnyRecord, Gap, Inference
from appliance.audit.record import Entry, decode, encode
from appliance.errors import AuditBroken

BOX = "0" * 64


def entry(record: AnyRecord, sequence: int = 0) -> Entry:
    return Entry(
        sequence=sequence, wall_ns=1, monotonic_ns=2, boot_id="boot", box=BOX, record=record
    )


GAP = encode(entry(Gap(count=3, reason="the queue was full")))


def test_there_is_a_sample_of_every_kind(golden: ModuleType) -> None:
    found = {record.columns()[0] for record in golden.samples()}

    assert found == set(CATEGORIES)


def test_every_kind_is_read_back_as_it_was(golden: ModuleType) -> None:
    for record in golden.samples():
        assert decode(encode(entry(record))) == entry(record)


def test_bytes_are_sorted_json_without_spaces_or_fractions(golden: ModuleType) -> None:
    for record in golden.samples():
        body = encode(entry(record))
        plain = json.loads(body, parse_float=lambda text: pytest.fail(f"a fraction: {text}"))

        assert (
            json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            == body
        )


def test_columns_say_what_a_record_can_be_found_by(golden: ModuleType) -> None:
    assert [record.columns() for record in golden.samples()] == [
        ("boot", "", 0, None, "", ""),
        ("decision", "digits", 2, "decision-1", "activate", "Ægir"),
        ("outcome", "digits", 0, "decision-1", "done", ""),
        ("inference", "digits", 2, "request-1", "ok", "spiffe://site/client/press-4"),
        ("failure", "digits", 0, "request-2", "request.invalid", ""),
        ("gap", "", 0, None, "", ""),
        ("stop", "", 0, None, "", ""),
        ("inference", "digits", 2, "request-3", "ok", "spiffe://site/client/press-4"),
        ("decision", "digits", 2, "decision-2", "activate", "Ægir"),
        ("refusals", "", 0, None, "request.invalid", "token:press-4"),
        ("feedback", "digits", 2, "request-1", "", "token:press-4"),
        ("erased", "digits", 0, "request-3", "done", "ægir"),
        ("drift", "digits", 2, golden.digest("report"), "drift", "holdfast"),
        ("installed", "digits", 3, golden.digest("bundle 3"), "proven", "ægir"),
        ("verified", "", 0, None, "ok", "auditor"),
        ("exported", "", 0, None, "records", "auditor"),
        ("sealed", "", 0, None, "", ""),
        ("removed", "", 0, None, "", ""),
        ("clock_step", "", 0, None, "back", ""),
        ("key_change", "", 0, golden.digest("new"), "box", "ægir"),
        ("access_changed", "", 0, "token:press-4", "revoked", "ægir"),
        (
            "denylist_changed",
            "",
            0,
            golden.digest("serial 2f\nuri spiffe://site/client/press-4\n"),
            "",
            "",
        ),
    ]


def test_small_answers_and_the_drift_vector_are_base64(golden: ModuleType) -> None:
    answer = next(record for record in golden.samples() if isinstance(record, Inference))
    plain = json.loads(encode(entry(answer)))["record"]

    assert base64.b64decode(plain["vector"]) == answer.vector
    assert base64.b64decode(plain["outputs"][0]["data"]) == answer.outputs[0].data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sequence":0', b'"sequence": 0'),
        (b'"sequence":0', b'"sequence":-0'),
        (b'"count":3', b'"count":3,"count":3'),
        (b'"wall_ns":1}', b'"wall_ns":1} '),
        (b"full", b"f\\u0075ll"),
    ],
)
def test_another_spelling_of_the_same_record_is_refused(old: bytes, new: bytes) -> None:
    changed = GAP.replace(old, new)

    assert changed != GAP
    with pytest.raises(AuditBroken, match="not in canonical form"):
        decode(changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"count":3', b'"count":3.0'),
        (b'"count":3', b'"count":-3'),
        (b'"count":3', b'"count":3,"extra":1'),
        (b'"gap"', b'"gasp"'),
        (b'"box":"0', b'"box":"'),
        (b'"wall_ns":1}', b'"wall_ns":1'),
        (b"boot_id", b"\xe2oot_id"),
        (b"full", b"f\xe2ll"),
    ],
)
def test_what_is_no_record_is_refused(old: bytes, new: bytes) -> None:
    changed = GAP.replace(old, new)

    assert changed != GAP
    with pytest.raises(AuditBroken, match="no audit record"):
        decode(changed)


def test_unsorted_keys_are_refused() -> None:
    backwards = json.dumps(dict(reversed(json.loads(GAP).items())), separators=(",", ":")).encode()

    with pytest.raises(AuditBroken, match="not in canonical form"):
        decode(backwards)


def test_a_record_from_before_a_field_was_added_still_reads(golden: ModuleType) -> None:
    """A deployment gains roles over the releases; what was recorded without one stays evidence."""
    outcome = next(record for record in golden.samples() if record.columns()[0] == "outcome")
    older = encode(entry(outcome)).replace(b',"retired":[]', b"")

    assert decode(older) == entry(outcome)
    with pytest.raises(AuditBroken, match="not in canonical form"):
        decode(older.replace(b":", b": ", 1))


@given(st.integers(0, len(GAP) - 1), st.integers(1, 255))
def test_a_changed_byte_never_reads_as_the_same_record(place: int, flip: int) -> None:
    changed = bytearray(GAP)
    changed[place] ^= flip
    try:
        read = decode(bytes(changed))
    except AuditBroken:
        return
    assert read != msgspec.json.decode(GAP, type=Entry)
