"""Checkpoints: written as the published format says, opened only when this box signed just that."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.checkpoint import (
    Checkpoint,
    open_checkpoint,
    origin_of,
    read_checkpoint,
    sign_checkpoint,
)
from appliance.audit.note import sign_note
from appliance.errors import AuditBroken
from appliance.signing import SigningKey

KEY = SigningKey.generate()
ORIGIN = origin_of(KEY.public)


def test_the_origin_is_the_start_of_the_key_id() -> None:
    assert f"holdfast/{KEY.public.key_id[:16]}" == ORIGIN


def test_the_example_of_the_specification_reads() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
        "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    checkpoint = read_checkpoint(note)

    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert checkpoint.root.hex().startswith("0ac5186a9186")


@given(st.integers(0, (1 << 62)), st.binary(min_size=32, max_size=32))
def test_a_signed_checkpoint_opens_as_it_was(size: int, root: bytes) -> None:
    note = sign_checkpoint(size, root, KEY)
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)

    assert open_checkpoint(note, KEY.public) == checkpoint
    assert read_checkpoint(note) == checkpoint
    assert note.splitlines()[:4] == [ORIGIN, str(size), base64.b64encode(root).decode(), ""]


def test_another_boxes_checkpoint_is_refused() -> None:
    note = sign_checkpoint(3, bytes(32), SigningKey.generate())

    with pytest.raises(AuditBroken, match="not by the key"):
        open_checkpoint(note, KEY.public)


def test_a_checkpoint_of_another_log_is_refused_even_when_this_key_signed_it() -> None:
    text = Checkpoint(origin="holdfast/other", size=3, root=bytes(32)).text()

    with pytest.raises(AuditBroken, match="about the log holdfast/other"):
        open_checkpoint(sign_note(text, ORIGIN, KEY), KEY.public)


ROOT = base64.b64encode(bytes(32)).decode()


FORMS = {
    "no root": f"{ORIGIN}\n3\n",
    "zero before": f"{ORIGIN}\n03\n{ROOT}\n",
    "negative": f"{ORIGIN}\n-3\n{ROOT}\n",
    "a fourth line": f"{ORIGIN}\n3\n{ROOT}\nmore\n",
    "no origin": f"\n3\n{ROOT}\n",
    "31 bytes": f"{ORIGIN}\n3\n{base64.b64encode(bytes(31)).decode()}\n",
    "35 bytes": f"{ORIGIN}\n3\n{base64.b64encode(bytes(35)).decode()}\n",
    "not base64": f"{ORIGIN}\n3\nAAAAA=\n",
    "another base64": f"{ORIGIN}\n3\n{ROOT[:-2]}B=\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_text_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(AuditBroken, match="not a checkpoint of this log"):
        open_checkpoint(sign_note(text, ORIGIN, KEY), KEY.public)
