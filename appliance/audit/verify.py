"""Re-reads a whole audit log and says whether it is what was written, or where it breaks.

Knows: everything that must hold: sequences without gaps, canonical bytes, columns that agree with them,
leaves that fit, and every checkpoint's signature and root at its size. Rules: the first broken place is
named exactly; nothing is claimed that a log cannot prove; a running writer is not held up. Leaves to
others: taking checkpoints off the box, printing.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.cosignature import Cosigned, cosigned_by, witness_name
from appliance.audit.keyring import KeyRing
from appliance.audit.kinds import KeyChange
from appliance.audit.pages import (
    AFTER_ALL,
    checkpoint_rows,
    count_records,
    last_checkpoints,
    pages,
    reading_checkpoints,
    subtree_rows,
)
from appliance.audit.reader import AuditReader
from appliance.audit.record import EVIDENCE_REMEDY
from appliance.audit.schema import LEAF, CheckpointRow, broken, checkpoint_of, entry_of
from appliance.audit.shelf import Shelf
from appliance.audit.tilecheck import TileCheck
from appliance.audit.tree import Frontier
from appliance.clock import timestamp
from appliance.database import SQLITE_ERRORS
from appliance.errors import AuditBroken, AuditError
from appliance.signing import PublicKey

Progress = Callable[[int, int], None]
_NS = 1_000_000_000
# What Holdfast promises of its log, in the words that its documents use too.
PROMISE = (
    "Every answer acknowledged to a client is on stable storage if the drive honours flush; after a power "
    "cut the log ends at a record boundary; removal or change of any record older than the last checkpoint "
    "that left the box is detectable."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found whole: `records` with tree root `root` (32 bytes), `checkpoints` that all fit.

    `checkpointed` records are covered by the last checkpoint; `outside` by one from off the box, if given,
    which `cosigned` witnesses vouch for too. The first `removed` records are gone, as the configuration asks:
    of those only hashes were compared.
    """

    records: int
    removed: int = 0
    root: bytes
    checkpoints: int
    checkpointed: int
    outside: int | None
    cosigned: tuple[Cosigned, ...] = ()

    @property
    def promise(self) -> str:
        """What this does and does not prove, in plain words."""
        there = self.records - self.removed
        but = ", but those that retention did" if self.removed else ""
        lines = [
            f"{there:,} records are in order and whole; {self.checkpoints:,} checkpoints fit them.",
            f"Nobody without the box key has changed or removed any of the first {self.checkpointed:,}{but}.",
        ]
        if self.removed:
            lines.append(
                f"The first {self.removed:,} were removed by retention: their hashes fit what follows, "
                "what they said cannot be shown any more."
            )
        if self.records > self.checkpointed:
            lines.append(f"No checkpoint covers the last {self.records - self.checkpointed:,} yet.")
        if self.outside is None:
            lines.append(
                "A log alone cannot show that whoever holds the box key rewrote it, or cut it back to "
                "an earlier checkpoint. Compare it with a checkpoint that left the box."
            )
        else:
            lines.append(
                f"The first {self.outside:,} are those that the checkpoint from off the box signed: "
                "not even the holder of the box key has changed one since it left, or removed one"
                f"{' but by retention, which is recorded' if self.removed else ''}."
            )
            if self.records > self.outside:
                lines.append(
                    f"Of the last {self.records - self.outside:,} it can show nothing: they came after it."
                )
        for name, seconds in self.cosigned:
            lines.append(f"The witness {name} saw that checkpoint at {timestamp(seconds * _NS)}.")
        lines.append(
            "No log can show that what was recorded is true, or that nothing was left out before it was."
        )
        lines.append(f"The promise: {PROMISE}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Someone's word about the first `size` records: `root` gives the signed root or AuditBroken."""

    size: int
    root: Callable[[], bytes]
    outside: bool


def verify(
    path: Path,
    public: PublicKey,
    *,
    against: str | None = None,
    witnesses: Sequence[PublicKey] = (),
    progress: Progress | None = None,
) -> Verification:
    """Check the log at `path`, of the box one of whose public keys is given, as of now.

    Keys before and after it are trusted by the changes in the log. `against` is a checkpoint note that
    left the box earlier, which each of `witnesses` must have cosigned; `progress` is told (done, total) records now
    and then. Raises AuditBroken naming the first broken place, StateError when there is no log, AuditError
    when `against` is no checkpoint of this box.
    """
    ring = KeyRing(public, changes=_changes(path))
    outside = [] if against is None else [_outside(against, ring)]
    cosigned = _cosigned(against or "", witnesses)
    while (walk := _walked(path, ring, outside, progress)) is None:
        pass
    return Verification(
        records=walk.frontier.size,
        removed=walk.removed,
        root=walk.frontier.root(),
        checkpoints=walk.checkpoints,
        checkpointed=walk.checkpointed,
        outside=outside[0].size if outside else None,
        cosigned=cosigned,
    )


def _walked(
    path: Path, ring: KeyRing, outside: list["_Claim"], progress: Progress | None
) -> "_Walk | None":
    """A walk over the whole log; None when retention removed a file before it was reached: then begin anew."""
    with closing(Shelf(path)) as shelf:
        walk = _Walk(shelf, ring)
        try:
            walk.run(outside, progress)
        except _RemovedMeanwhile:
            return None
        except SQLITE_ERRORS as error:
            raise broken(walk.frontier.size, f"the file is damaged here: {error}") from error
    return walk


class _RemovedMeanwhile(Exception):
    """A file that this walk still had to read was removed, as the configuration asks."""


def _changes(path: Path) -> list[KeyChange]:
    """The changes of keys that the log tells of, before the walk, for the walk needs all keys.

    None when they cannot be read: then the walk says where the log breaks.
    """
    with AuditReader(path) as reader:
        try:
            records = [entry.record for entry in reader.key_changes()]
        except AuditError:
            return []
    return [record for record in records if isinstance(record, KeyChange)]


def _outside(note: str, ring: KeyRing) -> _Claim:
    """What `note` claims; whether a key of the log signed it is asked when its place in the log is reached."""
    try:
        size = read_checkpoint(note).size
    except AuditBroken as error:
        raise _unusable(error) from error

    def root() -> bytes:
        try:
            return ring.open(note).root
        except AuditBroken as error:
            raise _unusable(error) from error

    return _Claim(size=size, root=root, outside=True)


def _unusable(error: AuditBroken) -> AuditError:
    return AuditError(f"the checkpoint to compare with: {error}", remedy=error.remedy)


def _cosigned(note: str, witnesses: Sequence[PublicKey]) -> tuple[Cosigned, ...]:
    """The cosignatures of all of `witnesses`; AuditError when one of them has given none."""
    found: list[Cosigned] = []
    for public in witnesses:
        try:
            given = cosigned_by(note, [public]) if note else []
        except AuditBroken as error:
            raise _unusable(error) from error
        if not given:
            raise AuditError(
                f"the witness {witness_name(public)} has not cosigned the checkpoint",
                remedy="give a checkpoint with --against that left after the witness was asked",
            )
        found += given
    return tuple(found)


class _Walk:
    """One pass over records and checkpoints side by side; the tree is remade from the records alone."""

    def __init__(self, shelf: Shelf, ring: KeyRing) -> None:
        self._shelf = shelf
        self._ring = ring
        self._newest = ""
        self.frontier = Frontier()
        self.removed = 0
        self.checkpoints = 0
        self.checkpointed = 0

    def run(self, outside: list[_Claim], progress: Progress | None) -> None:
        signed, end = self._ends()
        self._pass_over_removed()
        claims = heapq.merge(self._stored(signed), outside, key=lambda claim: claim.size)
        claim = self._settle(next(claims, None), claims)
        sequence = self.frontier.size
        for file in self._shelf.files():
            if file.first != sequence:
                self._shelf.refresh()
                # Retention takes the oldest files first: with an older one still there this was somebody else.
                if self._shelf.first() > sequence:
                    raise _RemovedMeanwhile
                raise broken(sequence, "the sealed file that holds it was taken away")
            tiles = TileCheck(file.database, sequence)
            for page in pages(file.database, before=end):
                for row in page:
                    entry_of(row, sequence)
                    self.frontier.append(row[LEAF])
                    sequence += 1
                    tiles.add(row, self.frontier)
                    if claim is not None and claim.size == sequence:
                        claim = self._settle(claim, claims)
                if progress is not None:
                    progress(sequence, end)
            if file.end not in (AFTER_ALL, sequence):
                raise broken(sequence, "it is missing; the sealed file ends before its name says")
            tiles.finish()
        if claim is not None:
            claim.root()  # a note that no key of this log signed says nothing about it
            raise _cut_short(claim, sequence)
        # A damaged page can hide from a walk what the search for the last one found.
        if (self.checkpointed, sequence) != (signed, end):
            raise broken(sequence, "the file is damaged here: the walk ends before the log does")
        if not self._ring.vouches(self._newest):
            raise AuditBroken(
                f"checkpoint {signed}: it is signed by a key from before the one given, and no later one "
                "vouches for that",
                remedy=EVIDENCE_REMEDY,
            )

    def _ends(self) -> tuple[int, int]:
        """The size of the last checkpoint and of the log, in this order.

        Fixed before the walk, so that a writer that goes on meanwhile cannot make them disagree.
        """
        file = next(self._shelf.newest_first(), None)
        with reading_checkpoints():
            newest = [] if file is None else last_checkpoints(file.database, 1)
        if file is None or not newest:
            raise AuditBroken("the log has no checkpoint", remedy=EVIDENCE_REMEDY)
        self._newest = newest[0][2]
        return newest[0][0], count_records(file.database.connection)

    def _pass_over_removed(self) -> None:
        """Begin at the checkpoint that the oldest file left begins with, which what is left of others must fit."""
        oldest = next(self._shelf.files())
        first = oldest.first
        if not first:
            return
        row = next(checkpoint_rows(oldest.database, up_to=first), None)
        if row is None or row[0] != first:
            raise broken(first, "the checkpoint that its file begins with is missing")
        _, self.frontier = checkpoint_of(row, self._ring.open)
        self.removed = first
        kept = Frontier()
        for file in self._shelf.files(end=first, removed=True):
            if file.removed:
                for _, _, root in subtree_rows(file.database, 1, 0, first):
                    kept.append(root)
        # Whole tiles are the leaves of a tree of their own, whose nodes are those of the log's above them.
        if not self.frontier.to_bytes().startswith(kept.to_bytes()) or kept.size != first // 256:
            raise broken(
                0, f"the hashes kept of the removed records do not fit those after {first}"
            )

    def _stored(self, up_to: int) -> Iterator[_Claim]:
        before = None
        for file in self._shelf.files():
            for row in checkpoint_rows(file.database, up_to=up_to):
                if 0 <= row[0] < file.first:
                    raise broken(file.first, f"a file with checkpoint {row[0]} is in its place")
                # A file begins with the checkpoint that the one before it ends with.
                if row[0] != before:
                    before = row[0]
                    yield _Claim(size=row[0], root=partial(self._signed_root, row), outside=False)

    def _signed_root(self, row: CheckpointRow) -> bytes:
        checkpoint, _ = checkpoint_of(row, self._ring.open)
        return checkpoint.root

    def _settle(self, claim: _Claim | None, claims: Iterator[_Claim]) -> _Claim | None:
        """Check every claim about the tree as it is now and return the next one to wait for."""
        while claim is not None and claim.size <= self.frontier.size:
            if claim.outside and claim.size < self.frontier.size:
                raise AuditError(
                    f"the checkpoint to compare with covers {claim.size} records, which retention removed",
                    remedy="compare with a later one",
                )
            if claim.root() != self.frontier.root():
                raise self._misfit(claim)
            if not claim.outside:
                self.checkpoints += 1
                self.checkpointed = claim.size
            claim = next(claims, None)
        return claim

    def _misfit(self, claim: _Claim) -> AuditBroken:
        if claim.outside:
            why = f"checkpoint {claim.size} from off the box: its records are not those of this log"
        else:
            why = (
                f"checkpoint {claim.size}: its root does not fit; "
                f"a record from {self.checkpointed} to {claim.size - 1} was replaced"
            )
        return AuditBroken(why, remedy=EVIDENCE_REMEDY)


def _cut_short(claim: _Claim, end: int) -> AuditBroken:
    whose = "a checkpoint from off the box" if claim.outside else "a checkpoint"
    return broken(end, f"it is missing; {whose} covers {claim.size} records")
