"""Signed notes against the published vectors of the format, and against mutilation."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.note import (
    NOTE_BYTES_MAX,
    key_hash,
    note_text,
    open_note,
    sign_note,
)
from appliance.errors import AuditBroken
from appliance.signing import SigningKey

# The example key and note of golang.org/x/mod/sumdb/note, which the format descends from.
GO_NAME = "PeterNeumann"
GO_PUBLIC = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
GO_KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(GO_SEED))

NAME = "holdfast/test"
KEY = SigningKey.generate()
NOTE = sign_note("one line\nanother\n", NAME, KEY)


def test_the_published_note_opens_and_is_made_again_byte_for_byte() -> None:
    assert key_hash(GO_NAME, GO_KEY.public).hex() == "c74f20a3"
    assert GO_KEY.public.raw == base64.b64decode(GO_PUBLIC)[1:]
    assert open_note(GO_NOTE, GO_NAME, GO_KEY.public) == GO_TEXT
    assert sign_note(GO_TEXT, GO_NAME, GO_KEY) == GO_NOTE


def test_the_text_may_hold_empty_lines() -> None:
    text = "a poem\n\nin two parts\n"

    assert open_note(sign_note(text, NAME, KEY), NAME, KEY.public) == text


def test_signatures_of_strangers_are_ignored() -> None:
    stranger = SigningKey.generate()
    theirs = sign_note("one line\nanother\n", "witness/a", stranger).rpartition("\n\n")[2]

    assert open_note(NOTE + theirs, NAME, KEY.public) == "one line\nanother\n"
    assert open_note(NOTE + theirs, "witness/a", stranger.public) == "one line\nanother\n"


def test_a_note_nobody_known_signed_names_who_did() -> None:
    with pytest.raises(AuditBroken, match="signed by holdfast/test, not by the key someone/else"):
        open_note(NOTE, "someone/else", KEY.public)


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_any_changed_letter_is_refused(place: int, letter: str) -> None:
    changed = NOTE[:place] + letter + NOTE[place + 1 :]
    if changed == NOTE:
        return
    with pytest.raises(AuditBroken):
        open_note(changed, NAME, KEY.public)


@given(st.integers(0, len(NOTE) - 1))
def test_a_note_cut_short_is_refused(length: int) -> None:
    with pytest.raises(AuditBroken):
        open_note(NOTE[:length], NAME, KEY.public)


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    head, _, signature = NOTE[:-2].rpartition(" ")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = alphabet[alphabet.index(last) ^ 1]
    respelt = f"{head} {signature[:-1]}{spare}=\n"

    assert base64.b64decode(f"{signature[:-1]}{spare}=") == base64.b64decode(f"{signature}=")
    with pytest.raises(AuditBroken, match="not a signature line"):
        open_note(respelt, NAME, KEY.public)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n\u2014 name AAAA\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n\u2014 name AAAAA\n",
        "text\n\n\u2014 na+me AAAAAAAA\n",
        "te\txt\n\n\u2014 name AAAAAAAA\n",
        "x" * NOTE_BYTES_MAX + "\n\n\u2014 name AAAAAAAA\n",
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(AuditBroken):
        note_text(note)
