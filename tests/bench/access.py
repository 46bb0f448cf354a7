"""What the door costs a call: `python -m tests.bench.access`.

Knows: the door alone, with a call of four metadata entries; the transport's part (reading what TLS tells,
about 1 us) is not in it. Rules: the median of several rounds.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from appliance.access import Role, issue_token
from appliance.clock import SystemClock
from appliance.config import AccessConfig, Config, ServerConfig, StateConfig, TlsConfig
from runtime.access import Principal, open_door

ROUNDS, CALLS = 15, 20_000
COMMON = (("user-agent", "grpc-python/1.85"), ("accept-encoding", "identity"), ("a", "b"))


class Arrival:
    """A call that has come."""

    method, peer = "/inference.GRPCInferenceService/ModelInfer", "ipv4:10.0.0.7:40212"

    def __init__(
        self, metadata: tuple[tuple[str, str], ...], shown: dict[str, list[bytes]]
    ) -> None:
        self.metadata, self._shown = metadata, shown

    def shown(self) -> dict[str, list[bytes]]:
        return self._shown


class Recorder:
    def append(self, *_: object, **__: object) -> None:
        """Nothing is refused here."""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        state = StateConfig(directory=directory)
        secret, _ = issue_token(
            state.tokens, "x", Role.CLIENT, models=None, days=1, now_ns=time.time_ns()
        )
        pem = {"x509_pem_cert": [os.urandom(700)], "peer_uri": [b"spiffe://plant/client/line-3"]}
        bearer = ("authorization", f"Bearer {secret}")
        closed = ServerConfig(address="10.0.0.1:1", tls=TlsConfig(certificate="a", client_ca="b"))
        for name, server, root, arrival in (
            ("open", ServerConfig(), f"{directory}/none", Arrival(COMMON, {})),
            ("token", closed, directory, Arrival((*COMMON, bearer), {})),
            ("certificate", closed, directory, Arrival(COMMON, pem)),
        ):
            config = Config(
                state=StateConfig(directory=str(Path(root))),
                server=server,
                access=AccessConfig(requests_per_second_max=10**9),
            )
            door = open_door(
                config,
                clock=SystemClock(),
                recorder=Recorder(),
                counted=lambda code: None,
                new_id=lambda: "",
            )
            print(f"{name:12} {_microseconds(door, arrival):.2f} us a call")


def _microseconds(door: object, arrival: Arrival) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            principal = door.admit(arrival)  # type: ignore[attr-defined]
            if principal.allowance is not None:
                principal.allowance.leave()
        rounds.append((time.perf_counter() - began) / CALLS * 1e6)
    assert isinstance(principal, Principal)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
