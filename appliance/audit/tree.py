"""The Merkle tree of the audit log. Pure.

Knows: RFC 6962 section 2.1: leaf = SHA-256(0x00 || bytes), node = SHA-256(0x01 || left || right), and
that the root of no leaves is SHA-256 of nothing. Rules: a frontier is enough to append and to know the
root; it never needs the leaves again. Leaves to others: what a leaf holds, and where hashes are kept.

A tree of n leaves is a row of perfect subtrees, one for each bit set in n, the largest on the left. Their
roots are the frontier: at most 64 hashes for any log that fits on a disk.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Self

HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of the leaf that holds `data`."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of the node above two subtrees."""
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: how many leaves, and the roots of its perfect subtrees."""

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = size
        self._hashes = list(hashes)

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

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Each trailing 1 bit of the size is a subtree that it completes."""
        size, hashes = self._size, self._hashes
        self._size = size + 1
        while size & 1:
            leaf = sha256(b"\1" + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)

    def root(self) -> bytes:
        """The 32-byte root hash of all leaves so far."""
        if not self._hashes:
            return sha256().digest()
        *larger, root = self._hashes
        for left in reversed(larger):
            root = node_hash(left, root)
        return root

    def copy(self) -> Self:
        """An independent frontier of the same leaves."""
        return type(self)(self._size, self._hashes)
