"""A real runtime over TLS, met by stock clients: certificates that change, expire and are denied."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from appliance.certificates import Authority
from appliance.clock import SystemClock
from runtime.client import ControlClient
from tui.doctor import Verdict, Visit, examine_remote

ROOT = Path(__file__).resolve().parent.parent.parent
CLOCK = SystemClock()


class Site:
    """An authority, and one box that serves with what it issued."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = Authority.create(directory / "ca", site="plant", clock=CLOCK)
        self.root = directory / "ca" / "authority.pem"
        self.denied = directory / "denied.txt"
        self.denied.write_text("")
        self.issue("server", "box", ["127.0.0.1"])

    @property
    def settings(self):
        return f"""
[server]
address = "127.0.0.1:0"
[server.tls]
certificate = "{self.directory / "box.pem"}"
key = "{self.directory / "box.key"}"
client_ca = "{self.root}"
denied = "{self.denied}"
[access]
site = "plant"
"""

    def issue(self, role, name, hosts=(), *, days=90, authority=None):
        """Paths of a certificate and its key."""
        made = (authority or self.authority).issue(role, name, hosts, days=days)
        pem, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        key.write_bytes(made.key_pem)
        pem.write_bytes(made.certificate.pem())
        return pem, key

    def client(self, address, name="line-3"):
        """A stock client with a certificate of its own."""
        pem, key = self.issue("client", name)
        return triton.InferenceServerClient(
            address,
            ssl=True,
            root_certificates=str(self.root),
            private_key=str(key),
            certificate_chain=str(pem),
        )


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def lane(request):
    return getattr(request, "param", "fast")


@pytest.fixture
def box(site, state, start_runtime, lane):
    runtime = start_runtime(
        state, site.settings.replace("[server]", f'[server]\ntransport = "{lane}"')
    )
    runtime.decide("activate", 1)
    yield runtime
    assert runtime.stop() == 0


def ask(client, held_out):
    pixels = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
    pixels.set_data_from_numpy(held_out["image"][:1])
    return client.infer("digits", [pixels]).get_response()


def events(runtime, name):
    return [item for item in runtime.events() if item["event"] == name]


def doctor(*options):
    """The doctor's exit code and the findings that are not well."""
    code = "from tui.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json", *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    return done.returncode, {
        item["subject"]: item["told"] for item in found if item["verdict"] != "well"
    }


def unwell(visit):
    """What stands in the way of `visit`, by subject."""
    found = examine_remote(visit, CLOCK)
    return {item.subject: item.told for item in found if item.verdict is not Verdict.WELL}


@pytest.mark.parametrize("lane", ["fast", "public"], indirect=True)
def test_a_denied_certificate_is_turned_away_on_its_open_connection(site, box, held_out):
    with site.client(box.address) as client, site.client(box.address, "line-4") as other:
        assert ask(client, held_out).model_name == "digits"
        assert ask(other, held_out).model_name == "digits"
        site.authority.revoke("line-3", "lost laptop")
        site.denied.write_bytes((site.directory / "ca" / "denied.txt").read_bytes())
        box.wait_for("certificates.changed")
        with pytest.raises(triton.InferenceServerException, match="on the denylist"):
            ask(client, held_out)
        assert ask(other, held_out).model_name == "digits"


def test_the_box_takes_a_renewed_certificate_while_it_serves(site, box, held_out):
    with site.client(box.address) as client:
        ask(client, held_out)
        old = (site.directory / "box.pem").read_bytes()
        site.issue("server", "box", ["127.0.0.1"], days=1)
        assert (site.directory / "box.pem").read_bytes() != old
        box.wait_for("certificates.changed")
        ask(client, held_out)
    with site.client(box.address, "line-4") as later:
        ask(later, held_out)
    with ControlClient(box.socket) as control:
        shown = control.status().certificates
    assert {item.what for item in shown} == {"server", "client_ca"}
    assert {item.state for item in shown} == {"valid"}
    ends = {item.what: item.not_after_ns for item in shown}
    assert 0 < ends["server"] / 1e9 - time.time() <= 86_400
    (ready,) = events(box, "runtime.starting")
    assert ready
    metrics = _metrics(box)
    assert 'holdfast_certificate_expiry_timestamp_seconds{certificate="server"' in metrics


def _metrics(box):
    with ControlClient(box.socket) as control:
        address = control.status().metrics_address
    with urllib.request.urlopen(f"http://{address}/metrics") as reply:
        return reply.read().decode()


def test_files_that_do_not_fit_leave_the_old_ones_in_use(site, box, held_out):
    (site.directory / "box.key").write_text("garbage")
    box.wait_for("certificates.unusable")
    with site.client(box.address) as client:
        ask(client, held_out)
    with ControlClient(box.socket) as control:
        assert "is not the unencrypted key" in control.status().certificates_failure


def test_the_doctor_names_what_is_in_the_way_in_a_sentence(site, box, tmp_path):
    class Past(SystemClock):
        def wall_ns(self):
            return super().wall_ns() - 100 * 86_400 * 10**9

    class Ahead(SystemClock):
        def wall_ns(self):
            return super().wall_ns() + 100 * 86_400 * 10**9

    other = Authority.create(tmp_path / "other", site="plant", clock=CLOCK)
    good = site.issue("client", "good")
    roles = {
        "stranger": site.issue("client", "stranger", authority=other),
        "server": site.issue("server", "second", ["x"]),
    }
    for name, clock in (("old", Past()), ("early", Ahead())):
        roles[name] = site.issue("client", name, days=30, authority=authority_at(site, clock))

    def walk(pair, *, address=box.address, root=site.root):
        chain, key = pair or (None, None)
        return unwell(Visit(address=address, root=root, chain=chain, key=key))

    assert walk(good) == {}
    port = box.address.rpartition(":")[2]
    expected = [
        (walk(None), "client certificate", "missing: the server asks"),
        (walk(roles["stranger"]), "client certificate", "not by the authority in"),
        (walk(roles["server"]), "client certificate", "of a server, not of a client"),
        (walk(roles["old"]), "client certificate", "expired on"),
        (walk(roles["early"]), "client certificate", "holds from"),
        (walk(good, root=tmp_path / "other" / "authority.pem"), "server certificate", "wrong authority"),
        (walk(good, address=f"localhost:{port}"), "server certificate", "name mismatch: you call localhost"),
        (walk(good, address="127.0.0.1:1"), "connection", "nothing listens"),
    ]  # fmt: skip
    for found, subject, words in expected:
        assert list(found) == [subject]
        assert words in found[subject], found

    site.issue("server", "box", ["127.0.0.1"], days=30, authority=authority_at(site, Past()))
    box.wait_for("certificates.expiring")
    (expiring,) = events(box, "certificates.expiring")
    assert (expiring["what"], expiring["state"]) == ("server", "expired")
    found = walk(good)
    assert "expired on" in found["server certificate"]
    with ControlClient(box.socket) as control:
        states = {item.what: item.state for item in control.status().certificates}
    assert states == {"server": "expired", "client_ca": "valid"}


def authority_at(site, clock):
    return Authority.open(site.directory / "ca", clock=clock)


def test_the_doctor_tells_plain_text_from_tls(site, state, start_runtime):
    runtime = start_runtime(state)
    code, found = doctor("--address", runtime.address, "--ca", site.root)
    assert (code, list(found)) == (5, ["handshake"])
    assert "speaks plain text" in found["handshake"]
    code, found = doctor("--state", state)
    assert code == 0, found
