"""Proofs over the tree: the published vectors, any size and place, and any changed byte."""

import contextlib
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.checker import (
    NotProven,
    check_consistency,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)
from appliance.audit.proofs import consistency_proof, inclusion_proof, root_over
from appliance.audit.tree import Frontier, consistency_path, inclusion_path
from appliance.errors import AuditBroken, UnknownRecord

# The leaves and roots of the test vectors of certificate-transparency-go (merkle_tree_test), RFC 6962's form.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOT_8 = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


class Kept:
    """Hashes as a log keeps them: every leaf, and the subtrees that a frontier completed."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        frontier = Frontier()
        for leaf in leaves:
            frontier.append(leaf)
        self.size, self.root = frontier.size, frontier.root()
        self._leaves = leaves
        self._subtrees = {(tree.level, tree.number): tree.hash for tree in frontier.completed}
        self.read = 0
        self.gone = Frontier()

    def leaves(self, first: int, stop: int) -> Sequence[bytes]:
        self.read += stop - first
        return self._leaves[first:stop]

    def subtrees(self, level: int, first: int, stop: int) -> Sequence[bytes]:
        self.read += stop - first
        return [
            self._subtrees[level, number]
            for number in range(first, stop)
            if (level, number) in self._subtrees
        ]

    def edge(self) -> Frontier:
        return self.gone


def kept(count: int) -> Kept:
    return Kept([leaf_hash(str(number).encode()) for number in range(count)])


LARGE = kept(70_000)


def root_by_definition(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_by_definition(leaves[:middle]), root_by_definition(leaves[middle:]))


def test_the_published_paths_come_out() -> None:
    """RFC 6962 section 2.1.3 names them for a tree of seven leaves."""
    assert inclusion_path(0, 7) == [range(1, 2), range(2, 4), range(4, 7)]
    assert inclusion_path(3, 7) == [range(2, 3), range(2), range(4, 7)]
    assert inclusion_path(4, 7) == [range(5, 6), range(6, 7), range(4)]
    assert inclusion_path(6, 7) == [range(4, 6), range(4)]
    assert consistency_path(3, 7) == [range(2, 3), range(3, 4), range(2), range(4, 7)]
    assert consistency_path(4, 7) == [range(4, 7)]
    assert consistency_path(6, 7) == [range(4, 6), range(6, 7), range(4)]


def test_the_published_tree_of_eight() -> None:
    log = Kept([leaf_hash(data) for data in LEAVES])

    assert log.root.hex() == ROOT_8
    assert [hash_.hex() for hash_ in inclusion_proof(log, 5, 8)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [hash_.hex() for hash_ in consistency_proof(log, 6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(st.integers(1, 600), st.data())
def test_any_record_of_any_log_is_proven(size: int, data: st.DataObject) -> None:
    log = kept(size)
    index = data.draw(st.integers(0, size - 1))
    leaf = leaf_hash(str(index).encode())
    path = inclusion_proof(log, index, size)

    assert log.root == root_over(log, range(size)) == root_by_definition(log.leaves(0, size))
    assert root_from_inclusion(index, size, leaf, path) == log.root
    if size > 1:
        other = data.draw(st.integers(0, size - 1).filter(lambda number: number != index))
        with contextlib.suppress(NotProven):
            assert root_from_inclusion(other, size, leaf, path) != log.root


@given(st.integers(1, 600), st.data())
def test_any_growth_is_proven(size: int, data: st.DataObject) -> None:
    log = kept(size)
    old = data.draw(st.integers(1, size))
    old_root = root_over(log, range(old))
    path = consistency_proof(log, old, size)

    check_consistency(old, size, old_root, log.root, path)
    with pytest.raises(NotProven):
        check_consistency(old, size, sha256(old_root).digest(), log.root, path)
    with pytest.raises(NotProven):
        check_consistency(old, size, old_root, sha256(log.root).digest(), path)


@given(st.data())
def test_a_proof_with_one_hash_more_less_or_changed_proves_nothing(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 300))
    log, old = kept(size), data.draw(st.integers(1, size - 1))
    growth, inclusion = consistency_proof(log, old, size), inclusion_proof(log, old, size)
    old_root, leaf = root_over(log, range(old)), leaf_hash(str(old).encode())
    place = data.draw(st.integers(0, min(len(growth), len(inclusion)) - 1))
    for spoil in (
        lambda path: [*path, bytes(32)],
        lambda path: path[:-1],
        lambda path: [*path[:place], sha256(path[place]).digest(), *path[place + 1 :]],
    ):
        with pytest.raises(NotProven):
            check_consistency(old, size, old_root, log.root, spoil(growth))
        with contextlib.suppress(NotProven):
            assert root_from_inclusion(old, size, leaf, spoil(inclusion)) != log.root


@given(st.integers(0, 69_999), st.integers(1, 70_000))
def test_a_proof_of_a_large_log_reads_few_hashes(index: int, old: int) -> None:
    LARGE.read = 0
    path = inclusion_proof(LARGE, index, LARGE.size)
    read = LARGE.read

    assert (
        root_from_inclusion(index, LARGE.size, leaf_hash(str(index).encode()), path) == LARGE.root
    )
    assert read <= 4 * 255
    check_consistency(
        old,
        LARGE.size,
        root_over(LARGE, range(old)),
        LARGE.root,
        consistency_proof(LARGE, old, LARGE.size),
    )


def test_places_that_there_are_not() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_path(index, size)
        with pytest.raises(NotProven):
            root_from_inclusion(index, size, bytes(32), [])
    for old, size in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="no beginning"):
            consistency_path(old, size)
        with pytest.raises(NotProven):
            check_consistency(old, size, bytes(32), bytes(32), [])
    with pytest.raises(NotProven):
        check_consistency(3, 3, bytes(32), bytes(32), [bytes(32)])
    with pytest.raises(NotProven, match="too few"):
        check_consistency(3, 4, bytes(32), bytes(32), [])


@given(st.integers(1, 600), st.data())
def test_what_was_removed_is_not_needed_for_what_comes_after(
    size: int, data: st.DataObject
) -> None:
    log = kept(size)
    first = data.draw(st.integers(0, size - 1))
    index = data.draw(st.integers(first, size - 1))
    for leaf in log.leaves(0, first):
        log.gone.append(leaf)
    whole, log._leaves = log._leaves, [b"gone"] * first + list(log.leaves(first, size))

    path = inclusion_proof(log, index, size)
    assert root_from_inclusion(index, size, whole[index], path) == log.root
    if first:
        check_consistency(
            first, size, log.gone.root(), log.root, consistency_proof(log, first, size)
        )


def test_what_was_removed_cannot_be_proven_itself() -> None:
    log = kept(12)
    for leaf in log.leaves(0, 6):
        log.gone.append(leaf)
    with pytest.raises(UnknownRecord, match="record 2 was removed"):
        inclusion_proof(log, 3, 12)


def test_a_log_that_lost_hashes_says_so() -> None:
    log = kept(300)
    log._subtrees.clear()

    with pytest.raises(AuditBroken, match="not all the hashes of records 0 to 255"):
        inclusion_proof(log, 299, 300)
