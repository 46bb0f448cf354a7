"""The checker and the library are two readings of one format: on every mutant they say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import checker
from appliance.audit.checkpoint import open_checkpoint, origin_of, sign_checkpoint
from appliance.audit.cosignature import cosign, cosigned_by, witness_name
from appliance.audit.note import key_hash, note_text, signature_line
from appliance.audit.tree import (
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
)
from appliance.errors import AuditBroken
from appliance.signing import PublicKey, SigningKey

BOX, WITNESS, OTHER = (SigningKey.generate() for _ in range(3))
ORIGIN, NAME = origin_of(BOX.public), witness_name(WITNESS.public)
NOTE = sign_checkpoint(41, bytes(range(32)), BOX)
LINES = {
    "other box": sign_checkpoint(41, bytes(range(32)), OTHER, origin=ORIGIN).split("\n\n")[1],
    "false box": signature_line(ORIGIN, key_hash(ORIGIN, BOX.public) + bytes(64)),
    "short": signature_line("x", bytes(4)),
    "stranger": signature_line("x", bytes(9)),
    "witness": cosign(NOTE, WITNESS, seconds=7),
    "later": cosign(NOTE, WITNESS, seconds=8),
    "false witness": signature_line(NAME, key_hash(NAME, WITNESS.public, b"\x04") + bytes(72)),
    "no stamp": signature_line(NAME, key_hash(NAME, WITNESS.public, b"\x04") + b"1"),
    "renamed": signature_line("me", key_hash("me", WITNESS.public, b"\x04") + bytes(72)),
    "control": "\u2014 a\x01b AAAAAAAA\n",
    "wide space": "\u2014 a\u3000b AAAAAAAA\n",
    "hyphen": NOTE.split("\n\n")[1].replace("\u2014", "-"),
    "again": NOTE.split("\n\n")[1],
    "much": signature_line("x", bytes(70 << 10)),
}
TRICKS = [
    "\r",
    "\n",
    "\n\n",
    "\u2028",
    "\u00a0",
    "\u2014",
    "\x85",
    "\x00",
    "\u202e",
    "=",
    "+",
    " ",
    "0",
    "",
]


def by_library(note: str, keys: list[PublicKey]) -> object:
    try:
        found = open_checkpoint(note, *keys, origin=ORIGIN)
        cosigned = [tuple(each) for each in cosigned_by(note, [WITNESS.public])]
    except AuditBroken:
        return None
    return (found.origin, found.size, found.root, cosigned)


def by_checker(note: str, keys: list[PublicKey]) -> object:
    try:
        found = checker.open_checkpoint(note, [key.raw for key in keys])
        cosigned = checker.cosigned_at(note, WITNESS.public.raw)
    except checker.NotProven:
        return None
    return (*found, cosigned)


@given(st.lists(st.sampled_from(sorted(LINES)), max_size=3), st.booleans(), st.data())
def test_both_say_the_same_of_any_note(names: list[str], first: bool, data: st.DataObject) -> None:
    """Lines above or below the box's own, then one spot of it replaced by what deceives the eye."""
    text, own = NOTE.split("\n\n")
    lines = "".join(LINES[name] for name in names)
    note = f"{text}\n\n{lines}{own}" if first else f"{text}\n\n{own}{lines}"
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, min(len(note), 400)))
        gone = data.draw(st.integers(0, 2))
        note = note[:at] + data.draw(st.sampled_from(TRICKS)) + note[at + gone :]
    for keys in ([BOX.public], [OTHER.public, BOX.public]):
        library = by_library(note, keys)
        assert by_checker(note, keys) == library
        if library is not None:
            assert note_text(note) == note_text(NOTE), (
                "nothing but the text that was signed verifies"
            )


@pytest.mark.parametrize("order", [("again", "false box"), ("false box", "again")])
def test_a_false_signature_counts_wherever_it_stands(order: tuple[str, str]) -> None:
    note = note_text(NOTE) + "\n" + "".join(LINES[name] for name in order)
    assert by_library(note, [BOX.public]) is by_checker(note, [BOX.public]) is None


def test_a_note_with_other_line_ends_is_none() -> None:
    note = NOTE.replace("\n", "\r\n")
    assert by_library(note, [BOX.public]) is by_checker(note, [BOX.public]) is None


LEAVES = [leaf_hash(bytes([number])) for number in range(34)]


def root(leaves: range) -> bytes:
    frontier = Frontier()
    for number in leaves:
        frontier.append(LEAVES[number])
    return root_of(list(frontier.hashes))


def mutants(path: list[bytes]) -> list[list[bytes]]:
    """A path with one hash too few, too many, changed, doubled, or two of them swapped."""
    found = [[*path, bytes(32)], [bytes(32), *path], [*path, *path[-1:]] if path else [b""]]
    for place, beside in enumerate(path):
        found += [
            path[:place] + path[place + 1 :],
            [*path[:place], node_hash(beside, beside), *path[place + 1 :]],
            [*path[:place], beside[:31], *path[place + 1 :]],
        ]
        if place and path[place - 1] != beside:
            found.append([*path[: place - 1], beside, path[place - 1], *path[place + 1 :]])
    return [each for each in found if each != path]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33])
def test_no_mutant_of_any_proof_holds(size: int) -> None:
    """Around powers of two, from none to all: the one path proves growth, for its own sizes and roots only."""
    whole = root(range(size))
    for old in range(1, size + 1):
        before = root(range(old))
        path = [root(leaves) for leaves in consistency_path(old, size)]
        checker.check_consistency(old, size, before, whole, path)
        forged = [(old, size, before, whole, mutant) for mutant in mutants(path)]
        forged += [(old, size, whole, before, path)] if old != size else []
        forged += [(old, size, bytes(32), whole, path), (old, size, before, bytes(32), path)]
        forged += [(0, size, before, whole, path), (size + 1, size, before, whole, path)]
        forged += [(-1, size, before, whole, path)]
        for case in forged:
            with pytest.raises(checker.NotProven):
                checker.check_consistency(*case)
    for index in range(size):
        path = [root(leaves) for leaves in inclusion_path(index, size)]
        assert checker.root_from_inclusion(index, size, LEAVES[index], path) == whole
        for place, mutant in [(index, each) for each in mutants(path)] + [
            (other, path) for other in range(-1, size + 1) if other != index
        ]:
            try:
                found = checker.root_from_inclusion(place, size, LEAVES[index], mutant)
            except checker.NotProven:
                continue
            assert found != whole
