"""A site's authority: what it issues, renews and revokes, and what it refuses."""

import shutil
import ssl
import stat
import subprocess
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.certificates import ROLES, Authority, Certificate, Denylist, State, spiffe_id
from appliance.certificates.authority import latest, read_ledger, refuse_inside
from appliance.certificates.certificate import utc_now
from appliance.errors import CertificateError

DAY_NS = 86_400 * 10**9
SITE = "plant-7.example"


class HandClock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_ns = 1_800_000_000 * 10**9

    def wall_ns(self):
        return self.now_ns

    def monotonic_ns(self):
        return self.now_ns

    @property
    def now(self):
        return utc_now(self.now_ns)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "site"


@pytest.fixture
def authority(directory, clock):
    return Authority.create(directory, site=SITE, clock=clock)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_look_at_an_authority(authority, directory):
    assert mode(directory) == 0o700
    assert mode(directory / "authority.key") == 0o600
    assert mode(directory / "authority.pem") == 0o644


def test_a_client_is_named_by_its_uri_and_nothing_else(authority, clock):
    made = authority.issue("client", "line-3")
    assert made.certificate.uris == (f"spiffe://{SITE}/client/line-3",)
    assert made.certificate.hosts == ()
    assert made.certificate.issued_by(authority.root)
    assert made.certificate.fits(made.key_pem)
    assert made.certificate.state(clock.now) is State.VALID


def test_a_server_answers_to_names_and_addresses(authority):
    made = authority.issue("server", "box", ["Box.Plant", "10.0.0.7", "[::1]"])
    assert made.certificate.hosts == ("box.plant", "10.0.0.7", "::1")
    assert made.certificate.name == f"spiffe://{SITE}/server/box"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_openssl_takes_what_was_issued_for_its_side_of_tls_only(tmp_path, directory):
    from appliance.clock import SystemClock

    authority = Authority.create(directory, site=SITE, clock=SystemClock())
    for role, hosts, purpose, other in (
        ("server", ["127.0.0.1"], "sslserver", "sslclient"),
        ("client", [], "sslclient", "sslserver"),
    ):
        path = tmp_path / f"{role}.pem"
        path.write_bytes(authority.issue(role, role, hosts).certificate.pem())
        for wanted, code in ((purpose, 0), (other, 2)):
            done = subprocess.run(
                [
                    "openssl",
                    "verify",
                    "-purpose",
                    wanted,
                    "-CAfile",
                    directory / "authority.pem",
                    path,
                ],
                capture_output=True,
                check=False,
            )
            assert done.returncode == code, done


@pytest.mark.parametrize(
    ("role", "name", "hosts"),
    [
        ("king", "x", []),
        ("client", "a/b", []),
        ("client", "", []),
        ("client", "x" * 64, []),
        ("client", "x", ["host"]),
        ("server", "x", []),
        ("server", "x", ["host:80"]),
        ("server", "x", ["a..b"]),
    ],
)
def test_what_makes_no_certificate_is_refused_and_leaves_no_trace(authority, role, name, hosts):
    with pytest.raises(CertificateError):
        authority.issue(role, name, hosts)
    assert authority.ledger.issued == ()


def test_a_certificate_never_outlives_its_authority(directory, clock):
    authority = Authority.create(directory, site=SITE, years=1, clock=clock)
    clock.now_ns += 360 * DAY_NS
    assert authority.issue("client", "x").certificate.not_after == authority.root.not_after
    clock.now_ns += 10 * DAY_NS
    with pytest.raises(CertificateError, match="itself expired"):
        authority.issue("client", "x")


def test_standing_over_a_life(authority, clock):
    certificate = authority.issue("client", "x", days=90).certificate
    begin = clock.now
    standing = [certificate.state(begin + timedelta(days=days)) for days in (-1, 0, 59, 61, 89, 90)]
    assert standing == [
        State.EARLY, State.VALID, State.VALID, State.DUE, State.DUE, State.EXPIRED
    ]  # fmt: skip
    assert certificate.state(begin - timedelta(minutes=59)) is State.VALID


def test_renewing_keeps_names_and_key_unless_a_new_one_is_asked_for(authority, clock):
    first = authority.issue("server", "box", ["box.plant"])
    clock.now_ns += 70 * DAY_NS
    second = authority.renew(first.certificate)
    assert second.key_pem == b""
    assert second.certificate.fits(first.key_pem)
    assert second.certificate.hosts == first.certificate.hosts
    assert second.certificate.not_after > first.certificate.not_after
    third = authority.renew(second.certificate, new_key=True)
    assert third.certificate.fits(third.key_pem)
    assert not third.certificate.fits(first.key_pem)
    assert [item.serial for item in latest(authority.ledger).values()] == [third.certificate.serial]


def test_only_what_was_issued_here_and_stands_is_renewed(authority, tmp_path, clock):
    stranger = Authority.create(tmp_path / "other", site=SITE, clock=clock)
    with pytest.raises(CertificateError, match="not issued here"):
        authority.renew(stranger.issue("client", "x").certificate)
    made = authority.issue("client", "x")
    authority.revoke("x", "left")
    with pytest.raises(CertificateError, match="revoked"):
        authority.renew(made.certificate)


def test_the_denylist_is_there_from_the_start_and_denies_nobody(authority, directory):
    assert Denylist.read(directory / "denied.txt").size == 0


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028"])
def test_a_reason_begins_no_line_of_the_denylist(authority, directory, end):
    made, other = authority.issue("client", "late"), authority.issue("client", "early")
    authority.revoke("late", f"lost{end}serial {other.certificate.serial}{end}nonsense")
    denylist = Denylist.read(directory / "denied.txt")
    assert denylist.size == 1
    assert denylist.reason(made.certificate)


def test_a_serial_is_known_however_other_tools_print_it(authority):
    serial = authority.issue("client", "late").certificate.serial.upper()
    pairs = [serial[i : i + 2] for i in range(0, len(serial), 2)]
    (revoked,) = authority.revoke("00:" + ":".join(pairs), "lost")
    assert revoked.serial == serial.lower()


@pytest.mark.parametrize("by", ["serial", "name", "uri"])
def test_revoking_writes_the_denylist(authority, directory, by):
    made, other = authority.issue("client", "late"), authority.issue("client", "early")
    which = {"serial": made.certificate.serial, "name": "late", "uri": made.certificate.name}[by]
    (revoked,) = authority.revoke(which, "lost\nlaptop # 3")
    assert revoked.serial == made.certificate.serial
    assert authority.revoke(which, "again") == ()
    denylist = Denylist.read(directory / "denied.txt")
    assert denylist.reason(made.certificate)
    assert not denylist.reason(other.certificate)
    with pytest.raises(CertificateError, match="nothing was issued"):
        authority.revoke("nobody", "x")


def test_an_authority_opens_again_with_its_passphrase_only(directory, clock):
    Authority.create(directory, site=SITE, passphrase=b"secret", clock=clock).issue("client", "x")
    assert b"ENCRYPTED" in (directory / "authority.key").read_bytes()
    for wrong in (None, b"other"):
        with pytest.raises(CertificateError, match="does not open"):
            Authority.open(directory, passphrase=wrong, clock=clock)
    again = Authority.open(directory, passphrase=b"secret", clock=clock)
    assert [item.uri for item in again.ledger.issued] == [f"spiffe://{SITE}/client/x"]
    assert read_ledger(directory) == again.ledger


def test_a_directory_that_is_no_authority_is_refused(authority, directory, tmp_path, clock):
    with pytest.raises(CertificateError, match="already"):
        Authority.create(directory, site=SITE, clock=clock)
    with pytest.raises(CertificateError, match="cannot read the authority's key"):
        Authority.open(tmp_path / "none", clock=clock)
    with pytest.raises(CertificateError, match="cannot read the ledger"):
        read_ledger(tmp_path / "none")
    other = Authority.create(tmp_path / "other", site=SITE, clock=clock)
    (directory / "authority.pem").write_bytes(other.root.pem())
    with pytest.raises(CertificateError, match="is not the key of"):
        Authority.open(directory, clock=clock)
    (directory / "authority.key").write_bytes(_ed25519())
    with pytest.raises(CertificateError, match="no P-256 key"):
        Authority.open(directory, clock=clock)


def _ed25519():
    from appliance.signing import SigningKey

    return SigningKey.generate().pem()


def test_the_state_directory_is_no_place_for_an_authority(tmp_path):
    state = tmp_path / "state"
    for inside in (state, state / "ca", state / "x" / ".." / "ca"):
        with pytest.raises(CertificateError, match="inside the state directory"):
            refuse_inside(inside, state)
    refuse_inside(tmp_path / "ca", state)


def test_what_a_certificate_says_without_names(directory, authority):
    assert authority.root.uris == authority.root.hosts == ()
    assert authority.root.name.endswith(f"O={SITE}")
    assert not authority.root.fits(b"no key")
    with pytest.raises(CertificateError, match="no certificate"):
        Certificate.from_pem(b"nothing", where="here")
    context = ssl.create_default_context(cafile=directory / "authority.pem")
    assert len(context.get_ca_certs()) == 1


@given(site=st.text(max_size=80), role=st.sampled_from(ROLES), name=st.text(max_size=80))
def test_an_id_is_whole_or_refused(site, role, name):
    try:
        uri = spiffe_id(site, role, name)
    except CertificateError:
        return
    assert uri.isascii()
    assert uri.split("/") == ["spiffe:", "", site, role, name]


@given(text=st.text(max_size=200))
def test_any_denylist_is_read_or_refused(text):
    try:
        denylist = Denylist.parse(text, where="list")
    except CertificateError:
        return
    meant = [line for line in text.splitlines() if line.split("#")[0].strip()]
    assert denylist.size <= len(meant)


@pytest.mark.parametrize(
    "line", ["serial", "serial xyz", "serial :", "uri", "uri a b", "0a1b", "cn x"]
)
def test_a_slip_of_the_pen_denies_nobody_silently(line):
    with pytest.raises(CertificateError, match="line 2"):
        Denylist.parse(f"# list\n{line}\n", where="list")


def test_a_denylist_as_people_write_it(authority):
    made = authority.issue("client", "x").certificate
    pairs = ":".join(made.serial[i : i + 2] for i in range(0, len(made.serial), 2)).upper()
    for text in (f"serial {pairs}", f"uri {made.name}  # left", f"\n  serial 00{made.serial}"):
        assert Denylist.parse(text, where="list").reason(made)
    assert Denylist.parse("uri line-7", where="list").reason(made, "line-7")
    assert Denylist.parse("", where="list").size == 0
