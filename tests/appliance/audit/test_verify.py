"""Verification: what it says of a whole log, of one still growing, and against a checkpoint kept elsewhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit.checkpoint import sign_checkpoint
from appliance.audit.cosignature import cosign, witness_name
from appliance.audit.keyring import key_change
from appliance.audit.kinds import Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import PROMISE, verify
from appliance.errors import AuditBroken, AuditError, StateError
from appliance.signing import SigningKey

Make = Callable[..., Inference]
COUNT = 40


def checkpoint_at(path: Path, size: int) -> str:
    with AuditReader(path) as reader:
        return next(note for note in reader.checkpoints(100) if f"\n{size}\n" in note)


def test_a_whole_log_verifies_and_says_what_that_means(whole: Path, key: SigningKey) -> None:
    told: list[tuple[int, int]] = []
    result = verify(whole, key.public, progress=lambda done, total: told.append((done, total)))

    assert (result.records, result.checkpoints, result.checkpointed) == (40, 5, 40)
    assert result.outside is None
    assert told == [(40, 40)]
    assert result.promise.splitlines() == [
        "40 records are in order and whole; 5 checkpoints fit them.",
        "Nobody without the box key has changed or removed any of the first 40.",
        (
            "A log alone cannot show that whoever holds the box key rewrote it, or cut it back to an "
            "earlier checkpoint. Compare it with a checkpoint that left the box."
        ),
        "No log can show that what was recorded is true, or that nothing was left out before it was.",
        f"The promise: {PROMISE}",
    ]


def test_records_no_checkpoint_covers_are_counted(
    whole: Path, key: SigningKey, clock, inference: Make, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    shutil.copy(whole, path)
    log = AuditLog.open(path, key=key, clock=clock, checkpoint_records=10)
    log.append([inference(number) for number in range(3)])
    result = verify(path, key.public)
    log.close()

    assert (result.records, result.checkpointed) == (43, 40)
    assert "No checkpoint covers the last 3 yet." in result.promise


def test_another_boxes_key_does_not_verify_it(whole: Path) -> None:
    with pytest.raises(AuditBroken, match=r"^checkpoint 0: signed by holdfast/"):
        verify(whole, SigningKey.generate().public)


@pytest.mark.parametrize("size", [0, 10, 20, 30, 40])
def test_a_checkpoint_that_left_the_box_is_confirmed(
    whole: Path, key: SigningKey, size: int
) -> None:
    result = verify(whole, key.public, against=checkpoint_at(whole, size))

    assert result.outside == size
    assert (
        f"The first {size} are those that the checkpoint from off the box signed" in result.promise
    )


def test_a_log_cut_back_to_a_checkpoint_shows_only_against_one_that_left_the_box(
    changed: Callable[..., Path], whole: Path, key: SigningKey
) -> None:
    path = changed(
        "DELETE FROM record WHERE sequence >= 20", "DELETE FROM checkpoint WHERE size > 20"
    )

    assert verify(path, key.public).records == 20
    message = "^record 20: it is missing; a checkpoint from off the box covers 40 records"
    with pytest.raises(AuditBroken, match=message):
        verify(path, key.public, against=checkpoint_at(whole, 40))


def test_a_log_rewritten_by_the_holder_of_the_key_shows_only_against_one_that_left_the_box(
    whole: Path, key: SigningKey, write_log, inference: Make, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    write_log(path, [inference(number, model="another") for number in range(COUNT)])

    assert verify(path, key.public).records == COUNT
    with pytest.raises(
        AuditBroken, match=r"^checkpoint 30 from off the box: its records are not those"
    ):
        verify(path, key.public, against=checkpoint_at(whole, 30))


def test_a_checkpoint_to_compare_with_must_be_this_boxes(whole: Path, key: SigningKey) -> None:
    for note in ("no note", checkpoint_at(whole, 10).replace("\n10\n", "\n11\n")):
        with pytest.raises(AuditError, match=r"^the checkpoint to compare with: ") as caught:
            verify(whole, key.public, against=note)
        assert not isinstance(caught.value, AuditBroken)


def test_a_missing_log_is_named(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(StateError, match="there is no audit log"):
        verify(tmp_path / "log.db", key.public)


def test_the_promise_is_the_one_that_the_documents_give() -> None:
    for page in ("security.md", "operations.md"):
        text = " ".join((Path(__file__).parents[3] / "docs" / page).read_text().split())
        assert PROMISE in text, page


def test_witnesses_must_have_cosigned_what_is_compared_with(whole: Path, key: SigningKey) -> None:
    witness = SigningKey.generate()
    note = checkpoint_at(whole, 20)
    cosigned = note + cosign(note, witness, seconds=1_700_000_000)
    result = verify(whole, key.public, against=cosigned, witnesses=[witness.public])

    assert result.cosigned == ((witness_name(witness.public), 1_700_000_000),)
    assert "saw that checkpoint at 2023-11-14T22:13:20" in result.promise
    assert "Of the last 20 it can show nothing: they came after it." in result.promise
    for against in (note, None):
        with pytest.raises(AuditError, match="has not cosigned"):
            verify(whole, key.public, against=against, witnesses=[witness.public])
    spoiled = note + cosign(checkpoint_at(whole, 10), witness, seconds=1)
    with pytest.raises(AuditError, match="does not fit"):
        verify(whole, key.public, against=spoiled, witnesses=[witness.public])


def test_a_larger_checkpoint_of_another_box_says_nothing(whole: Path, key: SigningKey) -> None:
    stranger = sign_checkpoint(400, bytes(32), SigningKey.generate())
    with pytest.raises(AuditError, match="the checkpoint to compare with: signed by"):
        verify(whole, key.public, against=stranger)


def test_a_log_verifies_across_a_change_of_its_key(
    tmp_path: Path, key: SigningKey, clock, inference: Make
) -> None:
    """The checkpoint after the change is signed by the new key, under the log's name."""
    path, new = tmp_path / "log.db", SigningKey.generate()
    with AuditLog.open(path, key=key, clock=clock) as log:
        log.append([inference(0)])
        log.change_key(new, reason="yearly", by="op")
        log.append([inference(1)])
    for trusted in (key, new):
        result = verify(path, trusted.public)
        assert (result.records, result.checkpointed) == (3, 3)


def test_a_forged_log_that_hands_itself_over_to_the_given_key_is_refused(
    tmp_path: Path, key: SigningKey, clock, inference: Make
) -> None:
    """Anybody can sign for somebody else's public key; only that key can vouch for what came before it."""
    path, forger = tmp_path / "log.db", SigningKey.generate()
    with AuditLog.open(path, key=forger, clock=clock) as log:
        log.append([inference(0)])
        log.append([key_change(forger, key.public, reason="yearly", by="op")])

    with pytest.raises(AuditBroken, match="no later one vouches for that"):
        verify(path, key.public)
