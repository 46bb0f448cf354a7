"""Witnesses: what they cosign, what they refuse, and what they keep."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import checker
from appliance.audit.checkpoint import origin_of, read_checkpoint, sign_checkpoint
from appliance.audit.cosignature import Cosigned, cosign, cosigned_by, witness_name
from appliance.audit.kinds import Inference
from appliance.audit.note import key_hash, signature_line, split_note
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import (
    growth_path,
)
from appliance.audit.tree import Frontier
from appliance.audit.witness import Witness
from appliance.errors import (
    AuditBroken,
    StateError,
    UnknownLog,
    WitnessRefused,
)
from appliance.signing import SigningKey

Make = Callable[..., Inference]


WITNESS = SigningKey.generate()


def test_the_cosignature_of_the_specification_has_its_key_hash() -> None:
    """The key hash covers the name, the type 0x04 and the key, so no box signature passes for one."""
    note = sign_checkpoint(3, bytes(32), WITNESS)
    line = cosign(note, WITNESS, seconds=1_679_315_147)
    witnessed = note + line

    assert line.startswith(f"\u2014 {witness_name(WITNESS.public)} ")
    assert cosigned_by(witnessed, [WITNESS.public]) == [
        Cosigned(witness_name(WITNESS.public), 1_679_315_147)
    ]
    assert cosigned_by(note, [WITNESS.public]) == []
    assert cosigned_by(witnessed, [SigningKey.generate().public]) == []
    with pytest.raises(AuditBroken, match="does not fit"):
        cosigned_by(sign_checkpoint(4, bytes(32), WITNESS) + line, [WITNESS.public])


@pytest.fixture
def witness(tmp_path: Path, key: SigningKey, clock_class: Callable[[], object]) -> Witness:
    logs = {origin_of(key.public): (key.public,)}
    return Witness(tmp_path / "witness", WITNESS, logs, clock_class())  # type: ignore[arg-type]


def test_a_witness_follows_a_log_as_it_grows(
    grown: Path, witness: Witness, key: SigningKey
) -> None:
    with AuditReader(grown) as log:
        size = 0
        for note in log.checkpoints(100):
            new = read_checkpoint(note)
            known = witness.latest(new.origin)
            proof = growth_path(log, read_checkpoint(known), new) if size else []
            answer = witness.add(size, proof, note)
            assert answer.size == new.size
            assert cosigned_by(note + answer.cosignature, [WITNESS.public])
            size = new.size
        # Asked again, it says so again; asked from elsewhere, it tells what it has.
        assert witness.add(size, [], note).cosignature
        assert witness.add(0, [], note) == ("", 600)
        with pytest.raises(WitnessRefused, match="no proof leads"):
            witness.add(700, [], note)
        with pytest.raises(WitnessRefused, match="no proof leads"):
            witness.add(600, [bytes(32)] * 64, note)


def test_a_witness_refuses_a_rewritten_log(
    grown: Path, witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    with AuditReader(grown) as log:
        notes = log.checkpoints(100)
    witness.add(0, [], notes[3])
    size = read_checkpoint(notes[3]).size
    for forged, proof in (
        (sign_checkpoint(size, bytes(32), key), []),
        (sign_checkpoint(size + 1, bytes(32), key), [bytes(32)] * 3),
    ):
        with pytest.raises(WitnessRefused, match="did not grow"):
            witness.add(size, proof, forged)
    assert read_checkpoint(witness.latest(origin_of(key.public))).size == size


def test_a_witness_signs_for_nobody_it_does_not_know(witness: Witness, key: SigningKey) -> None:
    stranger = SigningKey.generate()

    with pytest.raises(UnknownLog):
        witness.add(0, [], sign_checkpoint(1, bytes(32), stranger))
    with pytest.raises(WitnessRefused, match="not cosigned"):
        witness.add(0, [], sign_checkpoint(1, bytes(32), stranger, origin=origin_of(key.public)))
    with pytest.raises(WitnessRefused, match="not cosigned"):
        witness.add(0, [], "no note")


def test_a_witness_that_cannot_keep_does_not_cosign(
    witness: Witness, key: SigningKey, tmp_path: Path
) -> None:
    (tmp_path / "witness").write_text("in the way")
    with pytest.raises(StateError):
        witness.add(0, [], sign_checkpoint(1, bytes(32), key))


def test_two_at_once_cannot_take_a_witness_back(
    grown: Path, witness: Witness, key: SigningKey
) -> None:
    """Both prove growth from the same size; one of them wins, the other is told the new size."""
    with AuditReader(grown) as log:
        notes = log.checkpoints(100)[1:]
        witness.add(0, [], notes[0])
        old = read_checkpoint(notes[0])
        asked = [(note, growth_path(log, old, read_checkpoint(note))) for note in notes[1:]]
    answers = []
    threads = [
        threading.Thread(target=lambda a=a: answers.append(witness.add(old.size, a[1], a[0])))  # type: ignore[misc]
        for a in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bool(answer.cosignature) for answer in answers) == 1
    assert len({answer.size for answer in answers}) == 1


def test_a_witness_counts_under_its_own_name_alone() -> None:
    """A cosignature does not cover the name: under another one it would make two witnesses of one."""
    note = sign_checkpoint(3, bytes(32), WITNESS)
    line = cosign(note, WITNESS, seconds=7)
    _, signatures = split_note(note + line)
    raw = signatures[-1][1]
    renamed = signature_line("auditor", key_hash("auditor", WITNESS.public, b"\x04") + raw[4:])

    assert cosigned_by(note + renamed, [WITNESS.public]) == []
    assert checker.cosigned_at(note + renamed, WITNESS.public.raw) == []
    assert len(checker.cosigned_at(note + line + renamed, WITNESS.public.raw)) == 1


def test_an_empty_log_has_one_root(witness: Witness, key: SigningKey) -> None:
    with pytest.raises(WitnessRefused, match="one root"):
        witness.add(0, [], sign_checkpoint(0, bytes(32), key))
    assert witness.add(0, [], sign_checkpoint(0, Frontier().root(), key)).cosignature
    with pytest.raises(WitnessRefused, match="one root"):
        witness.add(0, [bytes(32)], sign_checkpoint(1, bytes(32), key))


def test_strangers_lines_cannot_make_a_witness_forget(witness: Witness, key: SigningKey) -> None:
    """Whoever has one of the box's checkpoints may hang lines on it: none of them is kept."""
    name = witness_name(WITNESS.public)
    false = signature_line(name, key_hash(name, WITNESS.public, b"\x04") + bytes(72))
    note = sign_checkpoint(1, bytes(32), key)
    large = note + false + signature_line("x", bytes(76)) * 560
    assert len(large) < 64 << 10

    assert witness.add(0, [], large).cosignature
    kept = witness.latest(origin_of(key.public))
    assert kept.startswith(note)
    assert len(kept) < 1000
    assert witness.add(1, [], note).size == 1


@pytest.mark.parametrize("kept", ["", "junk", "other", "bare"])
def test_a_witness_whose_file_was_changed_signs_nothing(
    witness: Witness, key: SigningKey, tmp_path: Path, kept: str
) -> None:
    """Emptied, spoiled, of another log, or the box's own older checkpoint put back."""
    other = SigningKey.generate()
    note = sign_checkpoint(2, bytes(32), key)
    witness.add(0, [], note)
    texts = {
        "other": sign_checkpoint(1, bytes(32), other) + cosign(note, WITNESS, seconds=1),
        "bare": sign_checkpoint(1, bytes(32), key),
    }
    (file,) = (tmp_path / "witness").iterdir()
    file.write_text(texts.get(kept, kept))
    for size in (0, 1, 2):
        with pytest.raises(StateError, match="cannot read what was cosigned"):
            witness.add(size, [], note)


def test_killed_before_it_is_kept_it_has_not_cosigned(
    witness: Witness, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not on stable storage never leaves: the same size may be asked for again."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    note = sign_checkpoint(2, bytes(32), key)
    with monkeypatch.context() as patched:
        patched.setattr("appliance.audit.witness.write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            witness.add(0, [], note)
    assert witness.latest(origin_of(key.public)) == ""
    assert witness.add(0, [], note).cosignature
