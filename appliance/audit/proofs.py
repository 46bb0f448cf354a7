"""Proofs over the audit log's tree, made from few kept hashes.

Knows: which kept hashes make up a proof's hash. Rules: a proof reads at most 255 leaves and 255 hashes of each
level at either end, however long the log; of records that were removed the subtrees and the frontier at their
end stand in for the leaves. Leaves to others: keeping the hashes (`audit.log`), finding them (`audit.reader`),
which ranges a proof needs (`audit.tree`), checking it (`audit.checker`).
"""

from collections.abc import Sequence
from typing import Protocol

from appliance.audit.record import EVIDENCE_REMEDY
from appliance.audit.tree import (
    LEVEL_BITS,
    Frontier,
    consistency_path,
    inclusion_path,
    node_hash,
    perfect_subtrees,
    root_of,
)
from appliance.errors import AuditBroken, UnknownRecord


class Hashes(Protocol):
    """Where hashes are kept; `audit.reader.AuditReader` is one."""

    def leaves(self, first: int, stop: int) -> Sequence[bytes]:
        """The leaf hashes of the records with first <= sequence < stop, in order."""

    def subtrees(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        """The hashes of the subtrees of `level` with first <= number < stop, in order."""

    def edge(self) -> Frontier:
        """The frontier where the leaves begin that are still kept."""


def inclusion_proof(hashes: Hashes, index: int, size: int) -> list[bytes]:
    """What proves that record `index` is in the log's first `size`; ValueError unless index < size.

    Raises AuditBroken when a hash is missing, UnknownRecord when it was removed.
    """
    kept = _Kept(hashes)
    return [kept.root(leaves) for leaves in inclusion_path(index, size)]


def consistency_proof(hashes: Hashes, old: int, size: int) -> list[bytes]:
    """What proves that the first `size` records begin with the first `old`; ValueError unless 0 < old <= size.

    Raises AuditBroken when a hash is missing, UnknownRecord when it was removed.
    """
    kept = _Kept(hashes)
    return [kept.root(leaves) for leaves in consistency_path(old, size)]


def root_over(hashes: Hashes, leaves: range) -> bytes:
    """The 32-byte root over `leaves`, a range of a path or range(size). Raises as `inclusion_proof`."""
    return _Kept(hashes).root(leaves)


class _Kept:
    """The kept hashes for one proof: leaves from `first` on, and the roots of what was removed before it."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        edge = hashes.edge()
        self._first = edge.size
        self._removed = dict(zip(perfect_subtrees(range(edge.size)), edge.hashes, strict=True))

    def root(self, leaves: range) -> bytes:
        return root_of([self._perfect(subtree) for subtree in perfect_subtrees(leaves)])

    def _perfect(self, leaves: range) -> bytes:
        """The root of a perfect subtree, from the largest kept hashes that fit in it."""
        level = (len(leaves).bit_length() - 1) // LEVEL_BITS
        if not level and leaves.start < self._first:
            return self._around_the_edge(leaves)
        start, stop = leaves.start >> level * LEVEL_BITS, leaves.stop >> level * LEVEL_BITS
        read = self._hashes
        frontier = Frontier()
        for kept in read.subtrees(level, start, stop) if level else read.leaves(start, stop):
            frontier.append(kept)
        if frontier.size != stop - start:
            raise AuditBroken(
                f"the log has not all the hashes of records {leaves.start} to {leaves.stop - 1}",
                remedy=EVIDENCE_REMEDY,
            )
        return frontier.root()

    def _around_the_edge(self, leaves: range) -> bytes:
        if leaves in self._removed:
            return self._removed[leaves]
        if len(leaves) == 1:
            raise UnknownRecord(
                f"record {leaves.start} was removed with others of its age, and its hash with it",
                remedy="prove it with a receipt or checkpoint from before, or with a copy of its file",
            )
        middle = (leaves.start + leaves.stop) // 2
        return node_hash(
            self._perfect(range(leaves.start, middle)), self._perfect(range(middle, leaves.stop))
        )
