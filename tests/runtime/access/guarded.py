"""A real runtime behind its door, and those who meet it."""

import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from appliance.access import Role, issue_token
from appliance.audit.reader import AuditReader
from appliance.config import StateConfig
from tests.conftest import runtimes
from tests.runtime.transport.test_tls import LOOPBACK, Authority

STREAMING = {"ModelStreamInfer", "Watch", "ServerReflectionInfo"}
OPEN_CALLS = 4
SETTINGS = """
[server]
address = "127.0.0.1:0"
transport = "{lane}"
request_bytes_max = 4194304
[server.tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{client_ca}"
[access]
open_on_loopback = false
calls_max = 64
bytes_in_flight_max = 2000000
[[access.principals]]
name = "token:flood"
role = "client"
requests_per_second_max = 5
[[access.principals]]
name = "token:burst"
role = "client"
requests_per_second_max = 5
[[access.principals]]
name = "token:heavy"
role = "client"
bytes_in_flight_max = 3000
[[access.principals]]
name = "token:loris"
role = "client"
calls_max = {calls}
"""


class Guarded:
    """A runtime that asks for tokens, over TLS; `tokens` by name, one for each role and some more."""

    def __init__(self, runtime, authority):
        self.runtime, self.authority = runtime, authority
        self.state = StateConfig(directory=str(runtime.state))
        self.tokens = {}

    def issue(self, name, role=Role.CLIENT, models=None):
        secret, _ = issue_token(
            self.state.tokens, name, role, models=models, days=1, now_ns=time.time_ns()
        )
        self.tokens[name] = secret
        return secret

    def bearer(self, name):
        return {"authorization": f"Bearer {self.tokens[name]}"} if name else {}

    def client(self, kind=triton):
        return kind.InferenceServerClient(
            self.runtime.address, ssl=True, root_certificates=self.authority.certificate
        )

    def channel(self):
        roots = Path(self.authority.certificate).read_bytes()
        return grpc.secure_channel(
            self.runtime.address, grpc.ssl_channel_credentials(roots), [("grpc.lb_policy_name", "")]
        )

    def records(self, kind, **wanted):
        with AuditReader(self.state.audit_log) as reader:
            records = [entry.record for entry in reader.tail(10_000)]
        return [
            record
            for record in records
            if isinstance(record, kind)
            and all(getattr(record, key) == value for key, value in wanted.items())
        ]


def image(rows=1):
    tensor = triton.InferInput("image", [rows, 8, 8, 1], "UINT8")
    tensor.set_data_from_numpy(np.zeros((rows, 8, 8, 1), np.uint8))
    return tensor


def until(condition):
    """Wait for what the runtime is about to do; the suite's timeout is the limit."""
    while not condition():
        time.sleep(0.02)


def code(call):
    """The status that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    except InferenceServerException as error:
        return grpc.StatusCode[error.status().removeprefix("StatusCode.")]
    return grpc.StatusCode.OK


def raw(channel, method, bearer):
    """The status of a call with an empty message."""
    metadata = tuple(bearer.items())
    if method.rpartition("/")[2] in STREAMING:
        call = channel.stream_stream(method)(iter([b""]), metadata=metadata)
        told = code(lambda: next(call, None))  # some of them never end
        call.cancel()
        return told
    return code(lambda: channel.unary_unary(method)(b"", metadata=metadata))


@contextmanager
def guarded_box(lane, digits_state, directory):
    """A runtime that only answers tokens, with one of each role and some more."""
    state = Path(shutil.copytree(digits_state, directory / "state"))
    authority = Authority(directory, "authority")
    certificate, key = authority.issue("box", LOOPBACK)
    settings = SETTINGS.format(
        lane=lane, certificate=certificate, key=key, client_ca="", calls=OPEN_CALLS
    )
    with runtimes(directory) as start:
        refused = start(state, settings, wait=False)
        assert refused.process.wait() == 10  # nobody could be answered: no token holds yet
        assert "neither certificates nor tokens" in refused.journal.read_text()
        seed = Guarded(refused, authority)
        for role in Role:
            seed.issue(str(role), role)
        seed.issue("digits-only", models=("digits",))
        seed.issue("others-only", models=("others",))
        for name in ("burst", "flood", "heavy", "loris", "line-3"):
            seed.issue(name)
        guarded = Guarded(start(state, settings), authority)
        guarded.tokens = seed.tokens
        guarded.runtime.decide("activate", 1)
        yield guarded
        assert guarded.runtime.stop() == 0
