"""OpenSSF model signatures: what the tool signed is read, what is not such a file is refused.

`tests/golden/make_modelsigning.py` made the golden files with model-signing 1.1.1, and lets that tool verify
what is made here.
"""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import attestation, errors
from appliance.attestation import attest, open_attestation, read_unverified
from appliance.files import sha256_file
from appliance.modelkeys import P256SigningKey, hint_of, load_public
from appliance.signing import SigningKey, typed_message

TOOL = Path(__file__).parent.parent / "golden" / "modelsigning"
KEY = P256SigningKey.generate()
SIGNER = SigningKey.generate()
FILES = {"b": "00" * 32, "a/c": "11" * 32}


def forged(change, key=KEY) -> bytes:
    """A signature file whose statement was changed by `change` and signed again."""
    told = json.loads(attest("m", FILES, {}, KEY))
    statement = json.loads(base64.b64decode(told["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    told["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    sig = key.sign(typed_message(attestation.PAYLOAD_TYPE, payload))
    told["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    return json.dumps(told).encode()


@pytest.mark.parametrize("name", ["tree/model.sig", "single.sig"])
def test_what_the_tool_signed_is_read(name):
    key = load_public(TOOL / "trainer.pub")
    found, said = open_attestation((TOOL / name).read_bytes(), [KEY.public, key])
    assert found is key
    tree = TOOL / "tree"
    digests = {
        "tree/model.sig": {
            str(path.relative_to(tree)): sha256_file(path)
            for path in tree.rglob("*")
            if path.is_file() and path.name != "model.sig"
        },
        "single.sig": {".": sha256_file(tree / "model.onnx")},
    }
    assert said.files == digests[name]
    assert said.additions == {}


def test_what_is_made_has_the_tools_own_form():
    """Field by field, but for the order of keys, which JSON does not keep."""
    tools = json.loads((TOOL / "tree" / "model.sig").read_bytes())
    ours = json.loads(attest("m", FILES, {"signed_at": "x"}, KEY))

    def payload(told):
        return json.loads(base64.b64decode(told["dsseEnvelope"].pop("payload")))

    def shape(value):
        if isinstance(value, dict):
            return {name: shape(item) for name, item in value.items()}
        return [shape(value[0])] if isinstance(value, list) and value else type(value)

    their, our = payload(tools), payload(ours)
    assert our["predicate"].pop("holdfast") == {"signed_at": "x"}
    assert shape(our) == shape(their)
    assert shape(ours) == shape(tools)
    assert ours["mediaType"] == tools["mediaType"]
    for name in ("_type", "predicateType"):
        assert our[name] == their[name]


@given(
    files=st.dictionaries(st.text(min_size=1), st.binary(min_size=32, max_size=32)),
    additions=st.dictionaries(st.text(), st.text()),
)
def test_a_statement_survives_its_bytes(files, additions):
    digests = {name: value.hex() for name, value in files.items()}
    for key in (KEY, SIGNER):
        data = attest("m", digests, additions, key)
        assert data == attest("m", digests, additions, key)
        found, said = open_attestation(data, [KEY.public, SIGNER.public])
        assert (found.raw, said.name) == (key.public.raw, "m")
        assert (said.files, said.additions) == (digests, additions)
        assert read_unverified(data) == said


def test_a_stranger_is_not_believed():
    with pytest.raises(errors.BundleUntrusted) as refused:
        open_attestation(attest("m", FILES, {}, KEY), [SIGNER.public])
    assert hint_of(KEY.public)[:16] in str(refused.value)
    with pytest.raises(errors.BundleUntrusted):
        open_attestation(attest("m", FILES, {}, KEY), [])


def test_a_file_without_a_hint_is_held_against_the_only_key():
    told = json.loads(attest("m", FILES, {}, KEY))
    told["verificationMaterial"]["publicKey"] = {}
    data = json.dumps(told).encode()
    assert open_attestation(data, [KEY.public])[1].files == FILES
    with pytest.raises(errors.BundleUntrusted):
        open_attestation(data, [KEY.public, SIGNER.public])
    with pytest.raises(errors.BundleSignature):
        open_attestation(data, [SIGNER.public])


def _other(statement, *path, value):
    for name in path[:-1]:
        statement = statement[name]
    statement[path[-1]] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda s: _other(s, "_type", value="x"),
        lambda s: _other(s, "predicateType", value="x"),
        lambda s: _other(s, "subject", value=[]),
        lambda s: _other(s, "subject", 0, "digest", value={}),
        lambda s: _other(s, "subject", 0, "digest", "sha256", value="00" * 32),
        lambda s: _other(s, "predicate", "serialization", "method", value="shards"),
        lambda s: _other(s, "predicate", "resources", 0, "algorithm", value="blake3"),
        lambda s: _other(s, "predicate", "resources", 0, "digest", value="no hex"),
        lambda s: _other(s, "predicate", "resources", 0, "name", value="b"),
        lambda s: _other(s, "predicate", value=None),
    ],
)
def test_a_signed_statement_of_another_kind_is_refused(change):
    with pytest.raises(errors.BundleError):
        open_attestation(forged(change), [KEY.public])
    assert read_unverified(forged(change)) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("mediaType",), "x"),
        (("dsseEnvelope", "payloadType"), "x"),
        (("dsseEnvelope", "payload"), "?"),
        (("dsseEnvelope", "signatures"), []),
        (("dsseEnvelope", "signatures"), [{"sig": "", "keyid": ""}] * 9),
        (("verificationMaterial", "tlogEntries"), [{}]),
        (("verificationMaterial",), None),
    ],
)
def test_an_envelope_of_another_kind_is_refused(path, value):
    told = json.loads(attest("m", FILES, {}, KEY))
    _other(told, *path, value=value)
    with pytest.raises(errors.BundleError):
        open_attestation(json.dumps(told).encode(), [KEY.public])


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff", b"x" * ((4 << 20) + 1)])
def test_what_is_no_signature_file_is_refused(data):
    with pytest.raises(errors.BundleError):
        open_attestation(data, [KEY.public])


@given(data=st.data())
def test_a_changed_byte_changes_nothing_that_is_believed(data):
    whole = bytearray((TOOL / "tree" / "model.sig").read_bytes())
    key = load_public(TOOL / "trainer.pub")
    _, said = open_attestation(bytes(whole), [key])
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        _, found = open_attestation(bytes(whole), [key])
    except errors.BundleError:
        return
    assert found == said


def test_an_envelope_has_one_signature_whoever_the_other_is_of():
    told = json.loads(attest("m", FILES, {}, KEY))
    told["dsseEnvelope"]["signatures"] *= 2
    with pytest.raises(errors.BundleError):
        open_attestation(json.dumps(told).encode(), [KEY.public])
