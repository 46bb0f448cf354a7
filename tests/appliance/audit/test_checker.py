"""The checker alone: Ed25519 against RFC 8032 and the library, and files that are mutilated in any way."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import checker
from appliance.audit.checker import NotProven, ed25519_verifies
from appliance.audit.checkpoint import sign_checkpoint
from appliance.audit.cosignature import cosign
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import growth_of, receipt_of
from appliance.signing import SigningKey

# RFC 8032 section 7.1, tests 1 to 3: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(public: str, message: str, signature: str) -> None:
    key, text, signed = map(bytes.fromhex, (public, message, signature))

    assert ed25519_verifies(key, text, signed)
    assert not ed25519_verifies(key, text + b"x", signed)
    assert not ed25519_verifies(key, text, signed[:-1])
    assert not ed25519_verifies(key[:-1], text, signed)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.data())
def test_it_says_what_the_library_says(seed: bytes, message: bytes, data: st.DataObject) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519_verifies(public, message, signature)

    spoiled = bytearray(public + signature)
    place = data.draw(st.integers(0, len(spoiled) - 1))
    spoiled[place] ^= 1 << data.draw(st.integers(0, 7))
    key, signed = bytes(spoiled[:32]), bytes(spoiled[32:])
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signed, message)
    except InvalidSignature:
        assert not ed25519_verifies(key, message, signed)
    else:
        assert ed25519_verifies(key, message, signed)


def test_a_scalar_as_large_as_the_order_is_refused() -> None:
    """RFC 8032 section 5.1.7: otherwise there would be a second signature of the same message."""
    public, message, signature = (bytes.fromhex(text) for text in VECTORS[1])
    scalar = int.from_bytes(signature[32:], "little") + 2**252
    scalar += 27742317777372353535851937790883648493

    assert not ed25519_verifies(public, message, signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "point",
    [
        (2**255 - 19).to_bytes(32, "little"),
        (2**255 - 1).to_bytes(32, "little"),
        (1 | 1 << 255).to_bytes(32, "little"),
        (2).to_bytes(32, "little"),
    ],
    ids=["zero again", "over the prime", "minus zero", "not on the curve"],
)
def test_what_names_no_point_is_no_key(point: bytes) -> None:
    assert not ed25519_verifies(point, b"", bytes(64))


@pytest.fixture(scope="module")
def evidence(
    tmp_path_factory: pytest.TempPathFactory, clock_class: Callable[[], object]
) -> dict[str, Path]:
    """A receipt, a consistency proof, a cosigned checkpoint and the keys, from a log of 40 records."""
    directory = tmp_path_factory.mktemp("evidence")
    box, witness = SigningKey.generate(), SigningKey.generate()
    box.save(directory / "box.pem")
    witness.save(directory / "witness.pem")
    SigningKey.generate().save(directory / "other.pem")
    log = directory / "log.db"
    with AuditLog.open(log, key=box, clock=clock_class(), checkpoint_records=10) as writer:  # type: ignore[arg-type]
        for number in range(8):
            writer.append([Stop(reason=f"{number} and {other}") for other in range(5)])
    with AuditReader(log) as reader:
        notes = reader.checkpoints(10)
        note = notes[-1] + cosign(notes[-1], witness, seconds=1_700_000_000)
        (directory / "receipt").write_bytes(receipt_of(reader, 23, cosigned=note))
        (directory / "consistency").write_bytes(growth_of(reader, notes[1], note))
    (directory / "checkpoint").write_text(note)
    return {path.name: path for path in directory.iterdir()}


KINDS = ("receipt", "consistency", "checkpoint")


@pytest.mark.parametrize("kind", KINDS)
def test_an_auditor_needs_only_this_file_and_python(kind: str, evidence: dict[str, Path]) -> None:
    command = [sys.executable, "-I", "-S", checker.__file__, kind, evidence[kind]]
    command += ["--key", evidence["box.pub"], "--witness", evidence["witness.pub"]]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert "verifies" in checked.stdout
    assert "cosigned it at 1700000000 s" in checked.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_proved(
    kind: str, evidence: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [kind, str(evidence[kind]), "--key", str(evidence["box.pub"])]

    assert checker.main([*words, "--witness", str(evidence["witness.pub"])]) == 0
    assert "cosigned it at 1700000000 s" in capsys.readouterr().out
    spoiled = evidence["checkpoint"].read_text().replace("\n40\n", "\n41\n")
    with pytest.raises(NotProven, match="does not fit the checkpoint"):
        checker.cosigned_at(spoiled, checker.read_public_key(evidence["witness.pub"].read_text()))


@pytest.mark.parametrize("kind", KINDS)
def test_another_key_or_witness_proves_nothing(
    kind: str, evidence: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file, key, other = (str(evidence[name]) for name in (kind, "box.pub", "other.pub"))

    assert checker.main([kind, file, "--key", other]) == 1
    assert checker.main([kind, file, "--key", key, "--witness", other]) == 1
    assert checker.main([kind, file, "--key", file]) == 2
    assert checker.main([kind, f"{file}.missing", "--key", key]) == 2
    assert "NOT PROVEN" in capsys.readouterr().err


@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_is_passed_over(
    kind: str, evidence: dict[str, Path], data: st.DataObject
) -> None:
    """What still verifies after a change says the same as before: only layout and witnesses' lines differ."""
    public = checker.read_public_key(evidence["box.pub"].read_text())
    before = evidence[kind].read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    after = before[:place] + data.draw(st.binary(max_size=2)) + before[place + 1 :]
    try:
        lines, _ = checker._checked(kind, after, public)
    except (NotProven, UnicodeDecodeError):
        return
    assert lines == checker._checked(kind, before, public)[0]


@given(st.binary(max_size=300))
@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_refused_and_never_crash_it(kind: str, junk: bytes) -> None:
    with pytest.raises((NotProven, UnicodeDecodeError)):
        checker._checked(kind, junk, bytes(32))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(["format", "index", "record", "path", "checkpoint", "key_changes"]), JSON)
def test_a_receipt_with_anything_in_one_field(
    evidence: dict[str, Path], field: str, value: object
) -> None:
    said = json.loads(evidence["receipt"].read_bytes())
    public = checker.read_public_key(evidence["box.pub"].read_text())
    if value == said[field]:
        return
    with pytest.raises(NotProven):
        checker.check_receipt(json.dumps(said | {field: value}).encode(), public)


@given(JSON)
def test_a_key_change_that_is_none(evidence: dict[str, Path], value: object) -> None:
    said = json.loads(evidence["receipt"].read_bytes())
    public = checker.read_public_key(evidence["box.pub"].read_text())
    begun = {"category": "key_change", "key": "box", "old_key_id": sha256(public).hexdigest()}
    junk = {"record": begun | {"new_public": value, "signature": value}}
    unsigned = {"record": begun | {"new_public": "AAAA", "signature": "AAAA"}}
    for change in (value, {"record": value}, {"record": begun}, junk, unsigned):
        with pytest.raises(NotProven):
            checker.check_receipt(
                json.dumps(said | {"key_changes": [json.dumps(change)]}).encode(), public
            )


def test_a_record_that_names_another_place_is_refused() -> None:
    """Only the holder of the box key can make one; a receipt still means what it says."""
    key = SigningKey.generate()
    record = b'{"sequence":5}'
    note = sign_checkpoint(1, checker.leaf_hash(record), key)
    receipt = {
        "format": checker.RECEIPT_FORMAT,
        "index": 0,
        "record": record.decode(),
        "path": [],
        "checkpoint": note,
        "key_changes": [],
    }
    with pytest.raises(NotProven, match="another place"):
        checker.check_receipt(json.dumps(receipt).encode(), key.public.raw)


def test_two_logs_of_one_key_do_not_grow_into_each_other() -> None:
    key = SigningKey.generate()
    notes = [sign_checkpoint(1, bytes(32), key, origin=origin) for origin in ("one", "other")]
    proof = {"format": checker.CONSISTENCY_FORMAT, "old": notes[0], "new": notes[1]}
    data = json.dumps(proof | {"path": [], "key_changes": []}).encode()

    with pytest.raises(NotProven, match="two logs: one and other"):
        checker.check_growth(data, key.public.raw)


def test_a_key_file_with_base64_in_several_lines_reads() -> None:
    pem = "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n"
    text = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + bytes(range(32))).decode()

    assert checker.read_public_key(pem.format(text[:30], text[30:])) == bytes(range(32))
    with pytest.raises(NotProven):
        checker.read_public_key(pem.format(text[:30], text[30:-4]))
