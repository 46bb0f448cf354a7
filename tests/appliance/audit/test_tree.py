"""The Merkle tree against RFC 6962: its published vectors and its own recursive definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.tree import HASH_BYTES, Frontier, leaf_hash, node_hash

# The leaves and roots of the Certificate Transparency reference implementation's Merkle tree tests.
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
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def defined_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word: split at the largest power of two below the length."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


def frontier_of(leaves: list[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf_hash(leaf))
    return frontier


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert frontier_of(LEAVES[:size]).root().hex() == ROOTS[size]
    assert defined_root(LEAVES[:size]).hex() == ROOTS[size]


def test_leaves_and_nodes_are_hashed_apart() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")

    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_a_frontier_has_the_root_of_the_definition(leaves: list[bytes]) -> None:
    frontier = frontier_of(leaves)

    assert frontier.size == len(leaves)
    assert frontier.root() == defined_root(leaves)


@given(st.lists(st.binary(max_size=4), max_size=40), st.lists(st.binary(max_size=4), max_size=40))
def test_a_stored_frontier_goes_on_where_it_stopped(first: list[bytes], then: list[bytes]) -> None:
    stored = frontier_of(first).to_bytes()
    frontier = Frontier.from_bytes(len(first), stored)
    for leaf in then:
        frontier.append(leaf_hash(leaf))

    assert len(stored) == HASH_BYTES * len(first).bit_count()
    assert frontier.root() == defined_root(first + then)


@pytest.mark.parametrize(("size", "length"), [(0, 32), (3, 32), (4, 64), (5, 63), (-1, 32)])
def test_a_frontier_of_the_wrong_length_is_refused(size: int, length: int) -> None:
    with pytest.raises(ValueError, match="no frontier"):
        Frontier.from_bytes(size, bytes(length))


def test_a_copy_grows_alone() -> None:
    original = frontier_of(LEAVES[:3])
    root = original.root()
    twin = original.copy()
    twin.append(leaf_hash(LEAVES[3]))

    assert (original.size, original.root()) == (3, root)
    assert twin.root().hex() == ROOTS[4]
