"""Re-reads a whole audit log and says whether it is what was written, or where it breaks.

Knows: everything that must hold: sequences without gaps, canonical bytes, columns that agree with them,
leaves that fit, and every checkpoint's signature and root at its size. Rules: the first broken place is
named exactly; nothing is claimed that a log cannot prove; a running writer is not held up. Leaves to
others: taking checkpoints off the box, printing.
"""

import heapq
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.audit.checkpoint import open_checkpoint
from appliance.audit.pages import checkpoint_rows, count_records, last_checkpoints, pages
from appliance.audit.record import EVIDENCE_REMEDY
from appliance.audit.schema import LEAF, SCHEMA, CheckpointRow, broken, checkpoint_of, entry_of
from appliance.audit.tree import Frontier
from appliance.database import SQLITE_ERRORS, Connection, Database
from appliance.errors import AuditBroken, AuditError
from appliance.signing import PublicKey

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found whole: `records` with tree root `root` (32 bytes), `checkpoints` that all fit.

    `checkpointed` records are covered by the last checkpoint; `outside` by one from off the box, if given.
    """

    records: int
    root: bytes
    checkpoints: int
    checkpointed: int
    outside: int | None

    @property
    def promise(self) -> str:
        """What this does and does not prove, in plain words."""
        lines = [
            f"{self.records} records are in order and whole; {self.checkpoints} checkpoints fit them.",
            f"Nobody without the box key has changed or removed any of the first {self.checkpointed}.",
        ]
        if self.records > self.checkpointed:
            lines.append(f"No checkpoint covers the last {self.records - self.checkpointed} yet.")
        if self.outside is None:
            lines.append(
                "A log alone cannot show that whoever holds the box key rewrote it, or cut it back to "
                "an earlier checkpoint. Compare it with a checkpoint that left the box."
            )
        else:
            lines.append(
                f"The first {self.outside} are those that the checkpoint from off the box signed: "
                "not even the holder of the box key has changed or removed one since it left."
            )
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
    progress: Progress | None = None,
) -> Verification:
    """Check the log at `path`, written by the box whose public key is given, as of now.

    `against` is a checkpoint note that left the box earlier; `progress` is told (done, total) records now
    and then. Raises AuditBroken naming the first broken place, StateError when there is no log, AuditError
    when `against` is no checkpoint of this box.
    """
    outside = [] if against is None else [_outside(against, public)]
    with closing(Database.read(path, SCHEMA)) as database:
        walk = _Walk(database.connection, public)
        try:
            walk.run(outside, progress)
        except SQLITE_ERRORS as error:
            raise broken(walk.frontier.size, f"the file is damaged here: {error}") from error
    return Verification(
        records=walk.frontier.size,
        root=walk.frontier.root(),
        checkpoints=walk.checkpoints,
        checkpointed=walk.checkpointed,
        outside=outside[0].size if outside else None,
    )


def _outside(note: str, public: PublicKey) -> _Claim:
    try:
        checkpoint = open_checkpoint(note, public)
    except AuditBroken as error:
        raise AuditError(f"the checkpoint to compare with: {error}", remedy=error.remedy) from error
    return _Claim(size=checkpoint.size, root=lambda: checkpoint.root, outside=True)


class _Walk:
    """One pass over records and checkpoints side by side; the tree is remade from the records alone."""

    def __init__(self, connection: Connection, public: PublicKey) -> None:
        self._connection = connection
        self._public = public
        self.frontier = Frontier()
        self.checkpoints = 0
        self.checkpointed = 0

    def run(self, outside: list[_Claim], progress: Progress | None) -> None:
        signed, end = self._ends()
        claims = heapq.merge(self._stored(signed), outside, key=lambda claim: claim.size)
        claim = self._settle(next(claims, None), claims)
        sequence = 0
        for page in pages(self._connection, before=end):
            for row in page:
                entry_of(row, sequence)
                self.frontier.append(row[LEAF])
                sequence += 1
                if claim is not None and claim.size == sequence:
                    claim = self._settle(claim, claims)
            if progress is not None:
                progress(sequence, end)
        if claim is not None:
            raise _cut_short(claim, sequence)
        # A damaged page can hide from a walk what the search for the last one found.
        if (self.checkpointed, sequence) != (signed, end):
            raise broken(sequence, "the file is damaged here: the walk ends before the log does")

    def _ends(self) -> tuple[int, int]:
        """The size of the last checkpoint and of the log, in this order.

        Fixed before the walk, so that a writer that goes on meanwhile cannot make them disagree.
        """
        newest = last_checkpoints(self._connection, 1)
        if not newest:
            raise AuditBroken("the log has no checkpoint", remedy=EVIDENCE_REMEDY)
        return newest[0][0], count_records(self._connection)

    def _stored(self, up_to: int) -> Iterator[_Claim]:
        for row in checkpoint_rows(self._connection, up_to=up_to):
            yield _Claim(size=row[0], root=partial(self._signed_root, row), outside=False)

    def _signed_root(self, row: CheckpointRow) -> bytes:
        checkpoint, _ = checkpoint_of(row, self._public)
        return checkpoint.root

    def _settle(self, claim: _Claim | None, claims: Iterator[_Claim]) -> _Claim | None:
        """Check every claim about the tree as it is now and return the next one to wait for."""
        while claim is not None and claim.size <= self.frontier.size:
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
