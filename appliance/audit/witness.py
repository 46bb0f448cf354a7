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
from appliance.audit.cosignature import cosign
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
            known = self.latest(checkpoint.origin)
            size = read_checkpoint(known).size if known else 0
            if old_size != size:
                return Answer("", size)
            if known:
                _check_growth(read_checkpoint(known), checkpoint, proof)
            seconds = self._clock.wall_ns() // _NS
            cosignature = cosign(note, self._key, seconds=seconds)
            write_file(self._file(checkpoint.origin), (note + cosignature).encode())
        return Answer(cosignature, checkpoint.size)

    def latest(self, origin: str) -> str:
        """The checkpoint of the log `origin` that was cosigned last, "" when none was; StateError."""
        try:
            return self._file(origin).read_text("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(
                f"cannot read what was cosigned of {origin}: {error}",
                remedy="restore the file: without it the witness would forget what it saw",
            ) from error

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


def _check_growth(known: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    if not known.size:
        return  # of an empty log nothing can be taken away
    try:
        check_consistency(known.size, new.size, known.root, new.root, proof)
    except NotProven as error:
        raise WitnessRefused(
            f"not cosigned: {new.origin} with {new.size} records did not grow from the checkpoint "
            f"over {known.size} that was cosigned: {error}",
            remedy=_FORKED,
        ) from error
