"""The certificates in use: taken up when they change, kept when their successors do not fit."""

import os
from pathlib import Path

import pytest

from appliance import journal
from appliance.certificates import Authority, State
from appliance.clock import SystemClock
from appliance.config import TlsConfig
from appliance.errors import ListenError
from runtime.certificates import CLIENT_CA, SERVER, Certificates

CLOCK = SystemClock()


class Site:
    """An authority and the files of one box."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = Authority.create(directory / "ca", site="plant", clock=CLOCK)
        self.tls = TlsConfig(
            certificate=str(directory / "box.pem"),
            key=str(directory / "box.key"),
            client_ca=str(directory / "clients.pem"),
            denied=str(directory / "denied.txt"),
        )
        self.write("denied.txt", b"")
        self.write("clients.pem", self.authority.root.pem())
        self.serve()

    def write(self, name, data):
        path = self.directory / name
        surely(path, lambda: path.write_bytes(data))

    def serve(self, *, days=90):
        made = self.authority.issue("server", "box", ["127.0.0.1"], days=days)
        self.write("box.pem", made.certificate.pem())
        self.write("box.key", made.key_pem)
        return made.certificate

    def client(self, name="line-3"):
        return self.authority.issue("client", name).certificate


def changed_ns(path):
    """When the file last changed, None when there is none."""
    return path.stat().st_ctime_ns if path.exists() else None


def surely(path, act):
    """Change the file by `act` until its time of change tells: some systems count that in milliseconds."""
    before = changed_ns(path)
    act()
    while changed_ns(path) == before:
        act()


def settle(certificates):
    """Look until files that do not change any more are taken up."""
    certificates.look()
    certificates.look()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def told(monkeypatch):
    """The journal's lines, as (event, fields)."""
    lines = []
    for kind in ("event", "change"):
        monkeypatch.setattr(journal, kind, lambda name, **fields: lines.append((name, fields)))
    monkeypatch.setattr(
        journal, "failure", lambda name, error, **_: lines.append((name, {"message": str(error)}))
    )
    return lines


def test_plain_text_has_no_certificates():
    certificates = Certificates(TlsConfig(), CLOCK)
    certificates.look()
    assert certificates.material is None
    assert certificates.shown() == ()
    assert not certificates.required
    assert certificates.trouble == ""


def test_what_is_in_use_and_until_when(site):
    shown = Certificates(site.tls, CLOCK).shown()
    assert [(item.what, item.state) for item in shown] == [
        (SERVER, State.VALID),
        (CLIENT_CA, State.VALID),
    ]
    assert shown[0].name == "spiffe://plant/server/box"


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca", "denied"])
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_start_with_files_that_cannot_be_used_is_refused(site, name, damage):
    path = site.directory / Path(getattr(site.tls, name)).name
    path.unlink() if damage == "missing" else path.write_bytes(b"garbage")
    with pytest.raises(ListenError, match="TLS files"):
        Certificates(site.tls, CLOCK)


def test_a_new_pair_is_taken_up_once_it_is_whole(site, told):
    certificates = Certificates(site.tls, CLOCK)
    changes = []
    certificates.on_change(lambda: changes.append(certificates.material))
    certificates.on_change(lambda: told.append(("everybody knows", {})))
    first = certificates.material
    settle(certificates)
    assert certificates.material is first
    new = site.serve()
    key = (site.directory / "box.key").read_bytes()
    site.write("box.key", first.key)
    certificates.look()
    site.write("box.key", key)  # written before the next look: the half of it was never tried
    certificates.look()
    assert (certificates.material, told) == (first, [])
    certificates.look()
    assert certificates.material.chain == new.pem()
    assert changes == [certificates.material]
    assert [name for name, _ in told] == ["everybody knows", "certificates.changed"]


def test_files_that_stay_wrong_are_told_once_and_what_was_in_use_stays(site, told):
    certificates = Certificates(site.tls, CLOCK)
    first = certificates.material
    site.write("box.key", b"garbage")
    for _ in range(4):
        certificates.look()
    assert certificates.material is first
    assert [name for name, _ in told] == ["certificates.unusable"]
    assert "is not the unencrypted key" in certificates.trouble
    site.write("box.key", first.key)
    settle(certificates)
    assert certificates.trouble == ""
    assert len(told) == 1


def test_files_whose_owner_was_put_right_are_taken_up(site):
    certificates = Certificates(site.tls, CLOCK)
    first, key = certificates.material, Path(site.tls.key)
    again = site.authority.issue("server", "box", ["127.0.0.1"])
    key.chmod(0)
    site.write("box.pem", again.certificate.pem())
    wrong = key.stat()
    key.write_bytes(again.key_pem)
    os.utime(
        key, ns=(wrong.st_atime_ns, wrong.st_mtime_ns)
    )  # what a copy with its times looks like
    assert (key.stat().st_mtime_ns, key.stat().st_size) == (wrong.st_mtime_ns, wrong.st_size)
    settle(certificates)
    before, stamp = certificates.material, certificates._stamp()
    assert before is not first
    surely(key, lambda: key.chmod(0o640))
    assert certificates._stamp() != stamp, "who may read it changed: worth another try"


def test_a_denylist_does_not_wait_for_certificates_to_fit(site, told):
    certificates = Certificates(site.tls, CLOCK)
    client = site.client()
    site.write("box.key", b"garbage")
    site.write("denied.txt", f"serial {client.serial}\n".encode())
    settle(certificates)
    assert certificates.denied(client.pem(), "")
    assert [name for name, _ in told] == ["certificates.unusable", "certificates.changed"]


def test_a_denylist_that_cannot_be_read_denies_whom_the_last_one_denied(site, told):
    certificates = Certificates(site.tls, CLOCK)
    client = site.client()
    site.write("denied.txt", f"serial {client.serial}\n".encode())
    settle(certificates)
    for damage in (b"serial nonsense\n", None):
        (site.directory / "denied.txt").unlink() if damage is None else site.write(
            "denied.txt", damage
        )
        settle(certificates)
        assert certificates.denied(client.pem(), "")
        assert "denie" in certificates.trouble
    assert len(told) == 3


def test_the_denylist_holds_by_serial_and_by_uri(site):
    certificates = Certificates(site.tls, CLOCK)
    one, other = site.client(), site.client("line-4")
    name = one.uris[0]
    assert certificates.denied(one.pem(), name) == ""
    site.write("denied.txt", f"serial {one.serial}\nuri {other.uris[0]}\n".encode())
    settle(certificates)
    assert "on the denylist" in certificates.denied(one.pem(), name)
    assert "on the denylist" in certificates.denied(other.pem(), other.uris[0])
    assert certificates.denied(site.client("line-5").pem(), "") == ""
    assert certificates.denied(b"no certificate", "") != ""


def test_who_has_a_certificate_of_a_former_authority_is_denied(site, tmp_path):
    certificates = Certificates(site.tls, CLOCK)
    client = site.client()
    next_site = Authority.create(tmp_path / "next", site="plant", clock=CLOCK)
    site.write("clients.pem", site.authority.root.pem() + next_site.root.pem())
    settle(certificates)
    assert certificates.denied(client.pem(), "") == ""
    site.write("clients.pem", next_site.root.pem())
    settle(certificates)
    assert "no longer trusted" in certificates.denied(client.pem(), "")
    assert certificates.denied(next_site.issue("client", "x").certificate.pem(), "") == ""
    site.write("clients.pem", site.authority.root.pem())
    settle(certificates)
    assert certificates.denied(client.pem(), "") == ""


def test_the_journal_tells_of_each_turn_for_the_worse_once(site, told):
    class Later(SystemClock):
        days = 0

        def wall_ns(self):
            return super().wall_ns() + self.days * 86_400 * 10**9

    clock = Later()
    certificates = Certificates(site.tls, clock)
    for clock.days in (1, 61, 62, 91, 92):
        certificates.look()
    assert [(name, fields["state"]) for name, fields in told] == [
        ("certificates.expiring", "due for renewal"),
        ("certificates.expiring", "expired"),
    ]
    assert told[0][1]["owner"] == "spiffe://plant/server/box"
