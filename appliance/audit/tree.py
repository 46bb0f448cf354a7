"""The Merkle tree of the audit log. Pure.

Knows: RFC 6962 section 2.1: leaf = SHA-256(0x00 || bytes), node = SHA-256(0x01 || left || right), and
that the root of no leaves is SHA-256 of nothing; sections 2.1.1 and 2.1.2: which hashes prove that a leaf
is in a tree and that a tree grew from a smaller one. Rules: a frontier is enough to append and to know the
root; it never needs the leaves again. Leaves to others: what a leaf holds, where hashes are kept
(`audit.hashes`), checking proofs (`audit.checker`, which an auditor may run alone).

A tree of n leaves is a row of perfect subtrees, one for each bit set in n, the largest on the left. Their
roots are the frontier: at most 64 hashes for any log that fits on a disk.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple, Self

HASH_BYTES = 32
# A proof reads at most so many leaves at either end; between them kept hashes of larger subtrees stand in.
LEVEL_BITS = 8


class Subtree(NamedTuple):
    """The root `hash` of the perfect subtree over leaves number * 256**level to (number + 1) * 256**level - 1."""

    level: int
    number: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of the leaf that holds `data`."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of the node above two subtrees."""
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: how many leaves, and the roots of its perfect subtrees.

    `completed` gathers the subtrees of 256, 65,536, ... leaves that were filled since it was made; whoever
    keeps them takes them out.
    """

    __slots__ = ("_hashes", "_size", "completed")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = size
        self._hashes = list(hashes)
        self.completed: list[Subtree] = []

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Self:
        """The frontier of `size` leaves written by `to_bytes`; ValueError when the lengths disagree."""
        if size < 0 or len(data) != size.bit_count() * HASH_BYTES:
            raise ValueError(f"{len(data)} bytes are no frontier of {size} leaves")
        starts = range(0, len(data), HASH_BYTES)
        return cls(size, (data[start : start + HASH_BYTES] for start in starts))

    def to_bytes(self) -> bytes:
        """The subtree roots one after the other, largest subtree first, 32 bytes each."""
        return b"".join(self._hashes)

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The subtree roots, largest subtree first: those of `perfect_subtrees(range(size))`."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Each trailing 1 bit of the size is a subtree that it completes."""
        size, hashes = self._size, self._hashes
        self._size = size + 1
        height = 0
        while size & 1:
            leaf = sha256(b"\1" + hashes.pop() + leaf).digest()
            size >>= 1
            height += 1
            if not height & 7:
                self.completed.append(Subtree(height // LEVEL_BITS, size, leaf))
        hashes.append(leaf)

    def root(self) -> bytes:
        """The 32-byte root hash of all leaves so far."""
        return root_of(self._hashes)

    def copy(self) -> Self:
        """An independent frontier of the same leaves, with nothing completed yet."""
        return type(self)(self._size, self._hashes)


def root_of(hashes: list[bytes]) -> bytes:
    """The root over perfect subtrees that stand side by side, each smaller than the one before it."""
    if not hashes:
        return sha256().digest()
    *larger, root = hashes
    for left in reversed(larger):
        root = node_hash(left, root)
    return root


def inclusion_path(index: int, size: int) -> list[range]:
    """The leaves under each hash that proves leaf `index` in a tree of `size`, from the leaf's sibling up.

    RFC 6962 section 2.1.1. ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    path = []
    leaves = range(size)
    while len(leaves) > 1:
        left, right = _halves(leaves)
        leaves, beside = (left, right) if index in left else (right, left)
        path.append(beside)
    return path[::-1]


def consistency_path(old: int, size: int) -> list[range]:
    """The leaves under each hash that proves that a tree of `old` leaves grew into one of `size`.

    RFC 6962 section 2.1.2. ValueError unless 0 < old <= size.
    """
    if not 0 < old <= size:
        raise ValueError(f"a tree of {old} leaves is no beginning of one of {size}")
    path = []
    leaves, known = range(size), True
    while leaves.stop != old:
        left, right = _halves(leaves)
        if old <= left.stop:
            leaves, beside = left, right
        else:
            leaves, beside, known = right, left, False
        path.append(beside)
    if not known:
        path.append(leaves)
    return path[::-1]


def perfect_subtrees(leaves: range) -> list[range]:
    """The largest aligned perfect subtrees that together are `leaves`, left to right.

    `leaves` is one of a path's ranges or range(size): what it begins with is aligned to its whole length.
    """
    size = len(leaves)
    bits = [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]
    starts = [leaves.start]
    for length in bits:
        starts.append(starts[-1] + length)
    return [range(first, after) for first, after in pairwise(starts)]


def _halves(leaves: range) -> tuple[range, range]:
    """Both sides of the node over `leaves`: the largest power of two below their number, and the rest."""
    middle = leaves.start + (1 << (len(leaves) - 1).bit_length() - 1)
    return range(leaves.start, middle), range(middle, leaves.stop)
