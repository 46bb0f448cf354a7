"""A door with everything behind it in the test's hands."""

from types import SimpleNamespace

import pytest

from appliance.access import Role, issue_token
from appliance.clock import SystemClock
from appliance.config import AccessConfig, Config, ServerConfig, StateConfig, TlsConfig
from runtime.access import open_door

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self):
        self.wall, self.monotonic = SystemClock().wall_ns(), 0

    def wall_ns(self):
        return self.wall

    def monotonic_ns(self):
        return self.monotonic


class Arrival:
    """A call that has come; `names` are those of its certificate."""

    def __init__(self, method=INFER, *, token=None, metadata=(), pem=None, **names):
        self.method, self.peer = method, "ipv4:10.0.0.7:40212"
        self.metadata = metadata or ((("authorization", token),) if token else ())
        self._shown = {"x509_pem_cert": [pem], **names} if pem else {}

    def shown(self):
        return self._shown


class Recorder:
    """Keeps what is recorded; `full` raises instead."""

    def __init__(self):
        self.records, self.full = [], None

    def append(self, entry, then, *, request_id=""):
        if self.full:
            raise self.full
        self.records.append(entry())
        then(len(self.records) - 1)


class Site:
    """A box at 10.0.0.1 that asks for certificates, unless told otherwise."""

    def __init__(self, root):
        self.state = StateConfig(directory=str(root))
        self.clock, self.recorder = Clock(), Recorder()
        self.counted, self.denied = [], set()

    def door(self, address="10.0.0.1:8001", *, client_ca="ca.pem", **access):
        config = Config(
            state=self.state,
            server=ServerConfig(
                address=address, tls=TlsConfig(certificate="a", key="b", client_ca=client_ca)
            ),
            access=AccessConfig(**access),
        )
        return open_door(
            config,
            clock=self.clock,
            recorder=self.recorder,
            counted=self.counted.append,
            new_id=lambda: "id-1",
            denied=lambda pem, name: "lost" if pem in self.denied or name in self.denied else "",
        )

    def token(self, name="line-3", role=Role.CLIENT, *, models=None, days=1):
        """The `authorization` of a new token."""
        secret, _ = issue_token(
            self.state.tokens, name, role, models=models, days=days, now_ns=self.clock.wall
        )
        return f"Bearer {secret}"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "state")


@pytest.fixture
def arrive():
    return Arrival


@pytest.fixture
def config(tmp_path):
    """Makes the configuration of a box: address, TLS files, address of the metrics."""

    def make(address, *, certificate="", client_ca="", metrics="", **access):
        tls = TlsConfig(certificate=certificate, key=certificate, client_ca=client_ca)
        return Config(
            state=StateConfig(directory=str(tmp_path / "state")),
            server=ServerConfig(address=address, tls=tls),
            metrics=SimpleNamespace(address=metrics),
            access=AccessConfig(**access),
        )

    return make
