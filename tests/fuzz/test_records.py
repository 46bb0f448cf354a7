"""Canonical records, receipts and growth proofs: what an auditor opens from a stranger's disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import checker
from appliance.audit.checker import NotProven
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import growth_of, receipt_of
from appliance.audit.record import decode
from appliance.clock import SystemClock
from appliance.signing import SigningKey
from tests.fuzz.mutating import fuzzed, json_mutants, mutants, refused_or_taken, saved

GOLDEN = Path(__file__).parents[1] / "golden" / "audit"
RECORDS = [
    line
    for number in "12"
    for line in (GOLDEN / number / "records.jsonl").read_bytes().splitlines()
]
KEY = SigningKey.generate()


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A receipt and a growth proof of a small log."""
    path = tmp_path_factory.mktemp("log") / "log.db"
    with AuditLog.open(path, key=KEY, clock=SystemClock(), checkpoint_records=3) as log:
        for _ in range(7):
            log.append([Stop(reason="stopped")])
    with AuditReader(path) as log:
        notes = log.checkpoints()
        return [receipt_of(log, 2), receipt_of(log, 0), growth_of(log, notes[0], notes[-1])]


def _file(data: bytes) -> None:
    for check in (checker.check_receipt, checker.check_growth):
        try:
            check(data, KEY.public.raw)
        except NotProven:
            continue
        return
    raise NotProven("neither")


@fuzzed
@given(mutants(RECORDS) | json_mutants(RECORDS))
def test_any_record_is_read_or_refused(data: bytes) -> None:
    refused_or_taken(_decoded, data)


def _decoded(data: bytes) -> None:
    decode(data)


@fuzzed
@given(st.data())
def test_any_receipt_is_proven_or_not(evidence: list[bytes], data: st.DataObject) -> None:
    """Only NotProven comes out of the checker, which an auditor runs alone."""
    case = data.draw(mutants(evidence) | json_mutants(evidence))
    refused_or_taken(_file, case, NotProven)


@pytest.mark.parametrize("path", saved("records"), ids=lambda path: path.name)
def test_saved_cases(path: Path) -> None:
    refused_or_taken(_decoded, path.read_bytes())
    refused_or_taken(_file, path.read_bytes(), NotProven)
    refused_or_taken(_public, path.read_bytes(), NotProven, UnicodeDecodeError)


def _public(data: bytes) -> None:
    checker.read_public_key(data.decode())
