"""Receipts and consistency proofs as files that leave the box.

Knows: their form, JSON that `audit.checker` reads. Rules: what is written was checked first, by the code that
an auditor runs; a receipt discloses one record and nothing of any other but hashes. Leaves to others: proofs
(`audit.proofs`), where the file goes.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from appliance.audit.checker import (
    CONSISTENCY_FORMAT,
    RECEIPT_FORMAT,
    NotProven,
    Receipt,
    check_consistency,
    check_growth,
    check_receipt,
    leaf_hash,
    root_from_inclusion,
)
from appliance.audit.checkpoint import Checkpoint, read_checkpoint
from appliance.audit.kinds import Failure, Inference
from appliance.audit.proofs import Hashes, consistency_proof, inclusion_proof
from appliance.audit.record import EVIDENCE_REMEDY, Entry, encode
from appliance.errors import AuditBroken, NotCovered, Unproven
from appliance.signing import PublicKey

_UNPROVEN = (
    "take the whole file as it left the box, and the public key of the box that wrote the log"
)


class Evidence(Hashes, Protocol):
    """What a receipt needs of a log; `audit.reader.AuditReader` has it."""

    def at(self, sequence: int) -> Entry:
        """The record in this place; UnknownRecord."""

    def checkpoint_from(self, size: int) -> str | None:
        """The first checkpoint of at least `size` records, None when there is none yet."""

    def key_changes(self) -> Sequence[Entry]:
        """Every change of the box's key, in order."""


def receipt_of(log: Evidence, sequence: int, *, cosigned: str = "") -> bytes:
    """The receipt of record `sequence`: the file's bytes, UTF-8 JSON.

    `cosigned` is a checkpoint of the log that witnesses have cosigned; it is used when it covers the record.
    Raises UnknownRecord, NotCovered when no checkpoint covers the record yet, AuditBroken when the log
    does not hold what its checkpoint signed.
    """
    record = encode(log.at(sequence))
    note = _covering(log, sequence, cosigned)
    checkpoint = read_checkpoint(note)
    path = inclusion_proof(log, sequence, checkpoint.size)
    if root_from_inclusion(sequence, checkpoint.size, leaf_hash(record), path) != checkpoint.root:
        raise AuditBroken(
            f"the log does not hold what its checkpoint over {checkpoint.size} records signed",
            remedy="run `holdfast audit verify`: it names the first broken place",
        )
    return _file(
        format=RECEIPT_FORMAT,
        index=sequence,
        record=record.decode(),
        path=_texts(path),
        checkpoint=note,
        key_changes=_changes(log, checkpoint),
    )


def growth_of(log: Evidence, old: str, new: str) -> bytes:
    """The proof that checkpoint `new` of this log grew from `old`: the file's bytes, UTF-8 JSON.

    Raises Unproven when it did not, AuditBroken when one is no checkpoint, UnknownRecord as `growth_path`.
    """
    path = growth_path(log, read_checkpoint(old), read_checkpoint(new))
    return _file(
        format=CONSISTENCY_FORMAT,
        old=old,
        new=new,
        path=_texts(path),
        key_changes=_changes(log, read_checkpoint(new)),
    )


def growth_path(log: Hashes, old: Checkpoint, new: Checkpoint) -> list[bytes]:
    """The hashes that prove that `new` of this log grew from `old`; Unproven when they do not.

    Raises UnknownRecord when the records around the end of `old` were removed.
    """
    try:
        path = consistency_proof(log, old.size, new.size)
        check_consistency(old.size, new.size, old.root, new.root, path)
    except (ValueError, NotProven) as error:
        raise Unproven(
            f"the log did not grow from the checkpoint over {old.size} records: {error}",
            remedy=EVIDENCE_REMEDY,
        ) from error
    return path


def answer_among(entries: Sequence[Entry]) -> Entry:
    """The record to prove of one request: the newest that tells what the client got, else the newest."""
    told = [
        entry
        for entry in entries
        if isinstance(entry.record, Failure)
        or (isinstance(entry.record, Inference) and entry.record.route != "shadow")
    ]
    return (told or entries)[-1]


def open_receipt(data: bytes, public: PublicKey) -> Receipt:
    """The receipt in a file's bytes when it verifies under the box key `public`; Unproven otherwise."""
    try:
        return check_receipt(data, public.raw)
    except NotProven as error:
        raise Unproven(f"the receipt does not verify: {error}", remedy=_UNPROVEN) from error


def open_growth(data: bytes, public: PublicKey) -> tuple[Checkpoint, Checkpoint, str]:
    """Both checkpoints of a consistency proof that verifies, and the later one's note; Unproven otherwise."""
    try:
        old, new, note = check_growth(data, public.raw)
    except NotProven as error:
        raise Unproven(f"the proof does not verify: {error}", remedy=_UNPROVEN) from error
    return Checkpoint(**old._asdict()), Checkpoint(**new._asdict()), note


def _covering(log: Evidence, sequence: int, cosigned: str) -> str:
    if cosigned and read_checkpoint(cosigned).size > sequence:
        return cosigned
    note = log.checkpoint_from(sequence + 1)
    if note is None:
        raise NotCovered(
            f"no checkpoint covers record {sequence} yet",
            remedy="try again in a minute: a checkpoint is signed as [audit] checkpoint_seconds says",
        )
    return note


def _changes(log: Evidence, checkpoint: Checkpoint) -> list[str]:
    return [
        encode(entry).decode() for entry in log.key_changes() if entry.sequence < checkpoint.size
    ]


def _texts(path: Iterable[bytes]) -> list[str]:
    return [base64.b64encode(hash_).decode() for hash_ in path]


def _file(**said: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"
