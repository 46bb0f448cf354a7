"""A witness: it keeps the latest checkpoint of other boxes' logs and cosigns one that grew from it.

Knows: the rules of https://c2sp.org/tlog-witness (add-checkpoint) and a file a log. Rules: nothing is cosigned
that does not follow from what was cosigned before; the new checkpoint is on stable storage before the
cosignature leaves; checking and keeping are one act. Leaves to others: the wire, whose logs to witness.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.audit.checker import NotProven, check_consistency
from appliance.audit.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from appliance.audit.cosignature import cosign, cosigned_by
from appliance.audit.note import KEY_HASH_BYTES, key_hash, signature_line, split_note
from appliance.audit.tree import Frontier
from appliance.clock import Clock
from appliance.errors import AuditBroken, StateError, UnknownLog, WitnessRefused
from appliance.files import write_file
from appliance.signing import PublicKey, SigningKey

PROOF_HASHES_MAX = 63
_NS = 1_000_000_000
_FORKED = "keep both checkpoints: the log was rewritten or cut back; find out by whom"


class Answer(NamedTuple):
    """The line to add to the checkpoint, "" when the old size was not the witness's `size`."""

    cosignature: str
    size: int


class Witness:
    """Cosigns the logs in `logs`: their names, and the keys that may sign each. Any thread."""

    def __init__(
        self,
        directory: Path,
        key: SigningKey,
        logs: Mapping[str, Sequence[PublicKey]],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._key = key
        self._logs = logs
        self._clock = clock
        self._lock = threading.Lock()

    def add(self, old_size: int, proof: Sequence[bytes], note: str) -> Answer:
        """Cosign the checkpoint `note` when `proof` shows that it grew from the one of `old_size` seen last.

        `old_size` 0, without a proof, is for a log not seen before. Raises UnknownLog, WitnessRefused when
        the signature, the proof or the roots do not fit, StateError when it cannot be kept.
        """
        checkpoint = self._opened(note)
        if old_size > checkpoint.size or len(proof) > PROOF_HASHES_MAX:
            raise WitnessRefused(
                f"no proof leads from {old_size} records to {checkpoint.size}",
                remedy="prove the growth from the size that the witness has",
            )
        with self._lock:
            known = self._known(checkpoint.origin)
            if old_size != known.size:
                return Answer("", known.size)
            _check_growth(known, checkpoint, proof)
            seconds = self._clock.wall_ns() // _NS
            cosignature = cosign(note, self._key, seconds=seconds)
            kept = self._signed(note, checkpoint.origin) + cosignature
            write_file(self._file(checkpoint.origin), kept.encode())
        return Answer(cosignature, checkpoint.size)

    def latest(self, origin: str) -> str:
        """The checkpoint of the log `origin` that was cosigned last, "" when none was; StateError."""
        try:
            return self._file(origin).read_text("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise _forgotten(origin, error) from error

    def _known(self, origin: str) -> Checkpoint:
        """What was cosigned last of the log `origin`: the empty log before the first time.

        Raises StateError when the file does not hold what this witness put there.
        """
        kept = self.latest(origin)
        if not kept and not self._file(origin).exists():
            return Checkpoint(origin=origin, size=0, root=Frontier().root())
        try:
            checkpoint = open_checkpoint(kept, *self._logs[origin], origin=origin)
            cosigned = cosigned_by(kept, [self._key.public])
        except AuditBroken as error:
            raise _forgotten(origin, error) from error
        if not cosigned:
            raise _forgotten(origin, "it is not cosigned by this witness")
        return checkpoint

    def _signed(self, note: str, origin: str) -> str:
        """`note` with the lines of the log's own keys alone: a stranger's could make the file unreadable."""
        text, signatures = split_note(note)
        known = {key_hash(origin, key) for key in self._logs[origin]}
        lines = {
            signature_line(name, signature)
            for name, signature in signatures
            if name == origin and signature[:KEY_HASH_BYTES] in known
        }
        return f"{text}\n{''.join(sorted(lines))}"

    def _opened(self, note: str) -> Checkpoint:
        """What `note` says, signed by a key of the log it names."""
        try:
            origin = read_checkpoint(note).origin
            keys = self._logs.get(origin, ())
            if not keys:
                raise UnknownLog(
                    f"this witness does not watch the log {origin}",
                    remedy="add the box's public key to [witness] logs",
                )
            return open_checkpoint(note, *keys, origin=origin)
        except AuditBroken as error:
            raise WitnessRefused(f"not cosigned: {error}", remedy=error.remedy) from error

    def _file(self, origin: str) -> Path:
        return self._directory / f"{hashlib.sha256(origin.encode()).hexdigest()[:16]}.note"


def _forgotten(origin: str, why: object) -> StateError:
    return StateError(
        f"cannot read what was cosigned of {origin}: {why}",
        remedy="restore the file: without it the witness would forget what it saw",
    )


def _check_growth(known: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    try:
        if known.size:
            check_consistency(known.size, new.size, known.root, new.root, proof)
        elif proof or (not new.size and new.root != known.root):
            raise NotProven("an empty log has one root, and what follows it needs no proof")
    except NotProven as error:
        raise WitnessRefused(
            f"not cosigned: {new.origin} with {new.size} records did not grow from the checkpoint "
            f"over {known.size} that was cosigned: {error}",
            remedy=_FORKED,
        ) from error
