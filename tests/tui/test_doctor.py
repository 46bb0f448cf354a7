"""The doctor at a box that is not well."""

import json
import socket
import ssl
import struct
import threading

import pytest
from typer.testing import CliRunner

from appliance.audit.kinds import Boot
from appliance.audit.log import AuditLog
from appliance.certificates import Authority
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.driver import Probe
from appliance.exits import TROUBLE_FOUND
from appliance.signing import SigningKey
from runtime.boxkey import open_with_key
from tui.cli import app
from tui.doctor import Verdict, Visit, box, examine_remote, gpu, remote, timekeeping
from tui.doctor.timekeeping import examine_clock

BOOT = Boot(release="test", config_sha256="0" * 64)
HOUR_NS = 3600 * 10**9
KERNEL_STATE = timekeeping.kernel_state


class Shifted(SystemClock):
    """A clock that is off by so many nanoseconds."""

    def __init__(self, by_ns):
        self._by_ns = by_ns

    def wall_ns(self):
        return super().wall_ns() + self._by_ns


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """A time service keeps the clock of this machine, which has no GPU, whatever it says itself."""
    monkeypatch.setattr(timekeeping, "kernel_state", lambda: 0)
    none = Probe(trouble="this box has no NVIDIA GPU", remedy="nothing")
    monkeypatch.setattr(gpu, "probe", lambda device="": none)


@pytest.fixture
def state(tmp_path):
    """A box that booted once."""
    state = StateConfig(directory=str(tmp_path / "state"))
    state.root.mkdir(mode=0o750)
    write(state)
    return state


def write(state, clock=None):
    clock = clock or SystemClock()
    opening = lambda key: AuditLog.open(state.audit_log, key=key, clock=clock)  # noqa: E731
    with open_with_key(state, opening) as log:
        log.append([BOOT])


@pytest.fixture
def doctor(tmp_path, state):
    """Examines the box with more settings; returns what is not well, by subject."""

    def run(settings="", *, code=TROUBLE_FOUND, address="127.0.0.1:0"):
        config = tmp_path / "box.toml"
        config.write_text(
            f'[state]\ndirectory = "{state.root}"\n[metrics]\naddress = ""\n'
            f'[server]\naddress = "{address}"\n{settings}'
        )
        done = CliRunner().invoke(app, ["--config", str(config), "doctor", "--json"])
        assert done.exit_code == code, done.output
        found = json.loads(done.output)
        return {item["subject"]: item for item in found if item["verdict"] != "well"}

    return run


def test_a_well_box_that_does_not_run(doctor):
    found = doctor(code=0)
    assert list(found) == ["runtime"]
    assert found["runtime"]["verdict"] == "warning"


def test_settings_that_cannot_be_read(doctor):
    found = doctor("[sever]\n")
    assert list(found) == ["settings"]


def test_every_trouble_says_what_to_do(doctor, state):
    state.root.chmod(0o755)
    state.box_key.chmod(0o644)
    found = doctor()
    assert "open to every user" in found["state directory"]["told"]
    assert "may be read by others" in found["box key"]["told"]
    assert all(item["remedy"] for item in found.values())


def test_a_box_without_its_key_log_or_state(doctor, state):
    key = state.box_key.read_bytes()
    state.box_key.unlink()
    assert "it is lost" in doctor()["box key"]["told"]
    SigningKey.generate().save(state.box_key.with_name("other.pem"))
    state.box_key.write_bytes(state.box_key.with_name("other.pem").read_bytes())
    state.box_key.chmod(0o600)
    assert "not the one that signs" in doctor()["box key"]["told"]
    state.box_key.write_text("garbage")
    assert "not an Ed25519 key" in doctor()["box key"]["told"]
    state.box_key.write_bytes(key)
    state.audit_log.rename(state.root / "moved.db")
    assert "is gone" in doctor()["audit log"]["told"]
    state.audit_log.write_bytes(b"garbage")
    assert "audit log" in doctor()
    state.root.rename(state.root.with_name("elsewhere"))
    assert "is not there" in doctor()["state directory"]["told"]


def test_a_clock_behind_the_log(doctor, state):
    write(state, Shifted(HOUR_NS))
    assert "behind the log" in doctor()["clock"]["told"]


def test_a_clock_that_nobody_keeps_or_that_cannot_be_right(monkeypatch):
    (lost_battery,) = examine_clock(Shifted(-30 * 365 * 24 * HOUR_NS))
    assert lost_battery.verdict is Verdict.TROUBLE
    monkeypatch.setattr(timekeeping, "kernel_state", lambda: timekeeping.UNSYNCHRONISED)
    (unkept,) = examine_clock(SystemClock())
    assert unkept.verdict is Verdict.WARNING


def test_the_kernel_is_asked_about_its_clock():
    assert KERNEL_STATE() in range(6)


@pytest.mark.parametrize(
    ("free", "verdict"), [(100 << 20, "trouble"), (2 << 30, "warning"), (60 << 30, None)]
)
def test_a_full_disk(doctor, monkeypatch, free, verdict):
    class Usage:
        total = 100 << 30

    Usage.free = free
    monkeypatch.setattr(box.shutil, "disk_usage", lambda path: Usage)
    found = doctor(code=TROUBLE_FOUND if verdict == "trouble" else 0)
    assert found.get("disk", {}).get("verdict") == verdict


def test_a_taken_port_and_an_address_of_another_machine(doctor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = doctor(address=f"127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot be bound" in found["[server] address"]["told"]
    assert "cannot be bound" in doctor(address="192.0.2.1:0")["[server] address"]["told"]
    assert "is not an address" in doctor(address="8001")["[server] address"]["told"]


def test_tls_files_that_do_not_fit(doctor, tmp_path):
    authority = Authority.create(tmp_path / "ca", site="plant", clock=SystemClock())
    server, client = authority.issue("server", "box", ["x"]), authority.issue("client", "c")
    due = Authority.open(tmp_path / "ca", clock=Shifted(-70 * 24 * HOUR_NS))

    def files(pem, key, denied=b""):
        for name, data in (("box.pem", pem), ("box.key", key), ("denied", denied)):
            (tmp_path / name).write_bytes(data)
        (tmp_path / "box.key").chmod(0o600)
        return f"""[server.tls]
certificate = "{tmp_path / "box.pem"}"
key = "{tmp_path / "box.key"}"
client_ca = "{tmp_path / "ca" / "authority.pem"}"
denied = "{tmp_path / "denied"}"
"""

    assert list(doctor(files(server.certificate.pem(), server.key_pem), code=0)) == ["runtime"]
    found = doctor(files(server.certificate.pem(), client.key_pem))
    assert "is not the unencrypted key" in found["server key"]["told"]
    found = doctor(files(client.certificate.pem(), client.key_pem))
    assert "names no host" in found["server certificate"]["told"]
    found = doctor(files(b"garbage", server.key_pem))
    assert "no certificate in PEM form" in found["TLS files"]["told"]
    found = doctor(files(server.certificate.pem(), server.key_pem, b"nonsense"))
    assert "denies nothing" in found["TLS files"]["told"]
    old = due.issue("server", "old", ["x"])
    found = doctor(files(old.certificate.pem(), old.key_pem), code=0)
    assert found["server certificate"]["verdict"] == "warning"
    settings = files(server.certificate.pem(), server.key_pem)
    (tmp_path / "box.key").chmod(0o644)
    assert "every user" in doctor(settings, code=0)["server key"]["told"]
    (tmp_path / "box.key").unlink()
    assert "cannot read the key" in doctor(settings)["TLS files"]["told"]


def walk(address, **shown):
    return list(examine_remote(Visit(address=address, **shown), SystemClock()))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror("unknown"), "no machine is called box.plant"),
        (TimeoutError(), "does not answer within 10 s"),
        (ConnectionRefusedError(), "nothing listens"),
        (OSError("no route"), "cannot be reached: no route"),
    ],
)
def test_why_no_connection_comes_about(monkeypatch, error, words):
    def fail(visit):
        raise error

    monkeypatch.setattr(Visit, "open", fail)
    (found,) = walk("box.plant:8001")
    assert words in found.told
    assert found.remedy


def test_a_user_who_may_not_enter_the_state_directory(doctor, state, monkeypatch):
    def closed(_config):
        raise AssertionError("the store is in the state directory")

    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(box, "examine_gpus", closed)
    found = doctor()
    assert list(found) == ["state directory"]
    assert "may not be read by this user" in found["state directory"]["told"]


def test_an_operator_who_may_not_read_the_key_sees_all_else(doctor, state, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: path != state.box_key)
    found = doctor(code=0)
    assert set(found) == {"box key", "runtime"}
    assert found["box key"]["verdict"] == "warning"
    assert "may not be read by this user" in found["box key"]["told"]
    state.audit_log.unlink()
    assert "had a log" in doctor()["audit log"]["told"]


def test_files_of_this_side_that_are_none(tmp_path):
    (found,) = walk("127.0.0.1:1", root=tmp_path / "missing")
    assert "files of this side" in found.told
    (found,) = walk("8001")
    assert found.verdict is Verdict.TROUBLE


def test_a_server_that_resets_after_the_handshake_refuses_the_certificate(tmp_path):
    """What a server has not read when it hangs up makes the end a reset, by chance."""
    issued = Authority.create(tmp_path / "ca", site="plant", clock=SystemClock()).issue(
        "server", "box", ["127.0.0.1"]
    )
    (tmp_path / "box.pem").write_bytes(issued.certificate.pem())
    (tmp_path / "box.key").write_bytes(issued.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "box.pem", tmp_path / "box.key")

    def serve(listener):
        listener.accept()[0].close()  # the connection that only asks whether anybody listens
        with context.wrap_socket(listener.accept()[0], server_side=True) as secure:
            # Linux's struct linger: on, for no time; closing resets then.
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        _, found = walk(address, root=tmp_path / "ca" / "authority.pem")
        server.join()
    assert found.subject == "client certificate"
    assert "none was shown" in found.told


def test_options_that_do_not_go_together(tmp_path):
    for options in (
        ["--certificate", "x.pem"],
        ["--token-file", str(tmp_path / "missing")],
    ):
        done = CliRunner().invoke(app, ["doctor", "--address", "127.0.0.1:1", *options])
        assert done.exit_code == 10


def test_an_authority_that_expired_is_not_taken_for_a_server_that_is_well(tmp_path, monkeypatch):
    made = Authority.create(tmp_path / "ca", site="plant", clock=SystemClock()).issue(
        "server", "box", ["127.0.0.1"]
    )
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = remote.EXPIRED, "certificate has expired"
    monkeypatch.setattr(remote, "_shown", lambda _: made.certificate)
    found = remote._unverified(Visit(address="127.0.0.1:1"), error, SystemClock())
    assert found.verdict is Verdict.TROUBLE
    assert "certificate has expired" in found.told
