"""Who somebody is: bearer metadata, certificates, the token list, the trust store, the denylist, region names."""

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.access import Role, issue_token, read_tokens
from appliance.certificates.certificate import Certificate
from appliance.certificates.denylist import Denylist
from appliance.clock import SystemClock
from appliance.config import SharedMemoryConfig
from appliance.modelkeys import load_public
from appliance.signing import SigningKey
from appliance.trust import SIGNERS_FILE, Signer, TrustStore, add_signer
from runtime.access.principal import COMMON_NAME, URI, Principal, certificate_name, stated_role
from runtime.access.tokens import Tokens
from runtime.regions import Regions, is_local
from tests.fuzz.mutating import fuzzed, json_mutants, mutants, refused_or_taken, saved

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
DENYLIST = b"# lost\nserial 0A:1b:2C\nuri spiffe://site/client/line-3  # stolen\n\n"
ID = b"spiffe://site/client/line-3"


class Box:
    """A directory with a token list and a trust store in it, and what they say."""

    def __init__(self, root: Path) -> None:
        self.tokens, self.trust = root / "tokens.json", root / "trust"
        self.secret, _ = issue_token(
            self.tokens, "line-3", Role.CLIENT, models=("digits",), days=1, now_ns=0
        )
        self.key = SigningKey.generate().public
        entry = Signer(
            key_id=self.key.key_id,
            name="Ada",
            models=("d*",),
            since="2026-01-01",
            until="2027-01-01",
        )
        add_signer(self.trust, self.key, entry)
        self.listed, self.signers = (
            self.tokens.read_bytes(),
            (self.trust / SIGNERS_FILE).read_bytes(),
        )
        self.pem = next(self.trust.glob("*.pub")).read_bytes()
        self.pem_path = root / "any.pub"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    return Box(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def certificate() -> bytes:
    """A client's certificate, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "line-3")])
    names = [x509.UniformResourceIdentifier(ID.decode()), x509.DNSName("line-3")]
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _listed(box: Box) -> Callable[[bytes], None]:
    def _tokens(data: bytes) -> None:
        box.tokens.write_bytes(data)
        for token in read_tokens(box.tokens):
            token.holds(0)

    return _tokens


def _trusted(box: Box) -> Callable[[bytes], None]:
    def _signers(data: bytes) -> None:
        (box.trust / SIGNERS_FILE).write_bytes(data)
        store = TrustStore.read(box.trust)
        store.listed()
        store.check(box.key.raw, "digits", now=NOW, signed_at=None)

    return _signers


def _key(box: Box) -> Callable[[bytes], None]:
    def _public(data: bytes) -> None:
        box.pem_path.write_bytes(data)
        load_public(box.pem_path)

    return _public


def _denied(data: bytes) -> None:
    Denylist.parse(data.decode(), where="denied")


def _certificate(data: bytes) -> None:
    pem = data if b"-----" in data else ssl.DER_cert_to_PEM_cert(data).encode()
    made = Certificate.from_pem(pem, where="shown")
    reason = Denylist(frozenset({"a"}), frozenset({"b"})).reason(made, "c")
    assert isinstance(reason, str)
    assert isinstance(made.name, str)
    assert made.state(NOW)


def _name(data: bytes) -> None:
    for shown in ({COMMON_NAME: [data]}, {URI: [data]}):
        stated_role(certificate_name(shown), "site")


@fuzzed
@given(st.data())
def test_any_token_list_is_read_or_refused(box: Box, data: st.DataObject) -> None:
    refused_or_taken(_listed(box), data.draw(mutants([box.listed]) | json_mutants([box.listed])))


@fuzzed
@given(st.data())
def test_any_trust_store_is_read_or_refused(box: Box, data: st.DataObject) -> None:
    case = data.draw(mutants([box.signers]) | json_mutants([box.signers]))
    refused_or_taken(_trusted(box), case)
    refused_or_taken(_key(box), data.draw(mutants([box.pem])))


@fuzzed
@given(st.data())
def test_any_bearer_metadata_finds_nobody_but_its_owner(box: Box, data: st.DataObject) -> None:
    box.tokens.write_bytes(box.listed)
    known = Principal("token:line-3", Role.CLIENT)
    tokens = Tokens(box.tokens, SystemClock(), lambda token: known)
    honest = f"Bearer {box.secret}"
    shown = data.draw(mutants([honest.encode()]) | st.binary(max_size=300))

    def _found(value: bytes) -> None:
        text = value.decode("latin-1")
        tokens.find(text)
        assert box.secret in text

    assert refused_or_taken(_found, shown) is not None  # of 1970: even the right one has expired


@fuzzed
@given(mutants([DENYLIST]))
def test_any_denylist_is_read_or_refused(data: bytes) -> None:
    refused_or_taken(_denied, data, UnicodeDecodeError)


@fuzzed
@given(st.data())
def test_any_certificate_is_read_or_refused(certificate: bytes, data: st.DataObject) -> None:
    """Also one that an authority signed: it is the client who wrote what stands in it."""
    refused_or_taken(_certificate, data.draw(mutants([certificate])))
    pem = ssl.DER_cert_to_PEM_cert(certificate).encode()
    refused_or_taken(_certificate, data.draw(mutants([pem])))
    refused_or_taken(_name, data.draw(mutants([ID, b"line-3"])))


@fuzzed
@given(
    mutants([b"/holdfast-client-a", b"../holdfast-client-a", b"sem.holdfast-client-a"]),
    st.sampled_from([0, 1, 63, 64, 65, -1, 1 << 63, (1 << 64) - 1]),
    st.sampled_from([0, 1, 64, 65, 1 << 31, (1 << 64) - 1]),
)
def test_any_region_stays_within_its_directory(
    box: Box, key: bytes, offset: int, byte_size: int
) -> None:
    directory = box.trust.parent / "shm"
    directory.mkdir(exist_ok=True)
    (directory / "holdfast-client-a").write_bytes(bytes(64))
    regions = Regions(SharedMemoryConfig(allowed=True), directory=directory)

    def _registered(data: bytes) -> None:
        text = data.decode(errors="replace")
        is_local(text)
        regions.register(text[:300], text, offset, byte_size)
        assert text.removeprefix("/") == "holdfast-client-a"
        assert offset + byte_size <= 64
        regions.find(text[:300], 0, 1).read()

    refused_or_taken(_registered, key)


@pytest.mark.parametrize("path", saved("access"), ids=lambda path: path.name)
def test_saved_cases(box: Box, path: Path) -> None:
    data = path.read_bytes()
    for act in (_listed(box), _trusted(box), _key(box), _name):
        refused_or_taken(act, data)
    refused_or_taken(_denied, data, UnicodeDecodeError)
    refused_or_taken(_certificate, data)
