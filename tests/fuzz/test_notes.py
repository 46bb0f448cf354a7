"""Signed notes, checkpoints and cosignatures: what other boxes and clients send a witness."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import checker
from appliance.audit.checker import NotProven
from appliance.audit.checkpoint import open_checkpoint, origin_of, read_checkpoint, sign_checkpoint
from appliance.audit.cosignature import cosign, cosigned_by
from appliance.audit.note import sign_note
from appliance.audit.witness import Witness
from appliance.clock import SystemClock
from appliance.signing import SigningKey
from tests.fuzz.mutating import fuzzed, mutants, refused_or_taken, saved

KEY, WITNESS = SigningKey.generate(), SigningKey.generate()
ORIGIN = origin_of(KEY.public)
NOTE = sign_checkpoint(5, b"\7" * 32, KEY)
COSIGNED = NOTE + cosign(NOTE, WITNESS, seconds=1_800_000_000)
NOTES = [NOTE.encode(), COSIGNED.encode()]
TEXT = NOTE.rpartition("\n\n")[0].encode() + b"\n"


def _opened(data: bytes) -> None:
    """All that is done to a note that was sent."""
    note = data.decode()
    read_checkpoint(note)
    cosigned_by(note, [WITNESS.public])
    open_checkpoint(note, KEY.public)


def _alone(data: bytes) -> None:
    """The same by the auditor's checker."""
    note = data.decode()
    checker.cosigned_at(note, WITNESS.public.raw)
    checker.open_checkpoint(note, [KEY.public.raw])


def _both(data: bytes) -> None:
    house = refused_or_taken(_opened, data, UnicodeDecodeError)
    alone = refused_or_taken(_alone, data, UnicodeDecodeError, NotProven)
    assert house is not None or alone is None, "the house took what the auditor's checker refuses"


@fuzzed
@given(mutants(NOTES))
def test_any_note_is_opened_or_refused(data: bytes) -> None:
    _both(data)


@fuzzed
@given(mutants([TEXT]))
def test_any_text_that_the_key_signed_is_opened_or_refused(data: bytes) -> None:
    """A box that lies: what it says is odd, and signed."""
    text = data.decode(errors="replace").rstrip("\n") + "\n"
    _both(sign_note(text, ORIGIN, KEY).encode())


@fuzzed
@given(
    st.one_of(mutants(NOTES), st.sampled_from(NOTES)),
    st.integers(0, 2**64 - 1),
    st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), max_size=70),
)
def test_any_checkpoint_is_cosigned_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, old: int, proof: list[bytes]
) -> None:
    directory = tmp_path_factory.getbasetemp() / f"witness-{threading.get_ident()}"
    directory.mkdir(exist_ok=True)
    witness = Witness(directory, WITNESS, {ORIGIN: [KEY.public]}, SystemClock())

    def _added(note: bytes) -> None:
        answer = witness.add(old, proof, note.decode())
        assert answer.size in (0, 5)

    refused_or_taken(_added, data, UnicodeDecodeError)


@pytest.mark.parametrize("path", saved("notes"), ids=lambda path: path.name)
def test_saved_cases(path: Path) -> None:
    _both(path.read_bytes())
