"""A typed client of the control service.

Knows: how to reach a runtime over its Unix socket. Rules: an error comes back as the class it was raised
as, with its remedy. Leaves to others: how errors travel (`runtime.client.failures`), inference.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import msgspec

from appliance.deployment import Tuning
from appliance.errors import ApplianceError, Unreachable
from runtime.client.failures import carried, failure_from
from runtime.protocol import control_pb2 as wire
from runtime.protocol import control_pb2_grpc as stubs
from runtime.protocol import evidence_pb2 as evidence

if TYPE_CHECKING:
    from appliance.audit.payload import Tensor  # it loads numpy, which a status has no use for

DECIDE_SECONDS_MAX = 600.0
CALL_SECONDS_MAX = 10.0
# By default gRPC's channels to one address share a connection with its backoff: a client made anew
# would be told at once that no runtime answers, from an attempt before the runtime was started.
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class ControlClient:
    """Talks to the runtime behind one Unix socket; use as a context manager.

    Every call raises Unreachable when no runtime answers, else the runtime's own ApplianceError.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=OPTIONS)
        self._stub = stubs.ControlStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def list(self, model: str = "") -> list[wire.Model]:
        """Return all models, or the one called `model`, with their versions and roles."""
        reply: wire.ListReply = self._call(self._stub.List, wire.ListRequest(model=model))
        return [*reply.models]

    def status(self) -> wire.StatusReply:
        """One look at the runtime."""
        reply: wire.StatusReply = self._call(self._stub.Status, wire.StatusRequest())
        return reply

    def watch(self, interval_ms: int) -> Iterator[wire.StatusReply]:
        """Yield a status each `interval_ms` milliseconds until the runtime stops."""
        try:
            yield from self._stub.Watch(wire.WatchRequest(interval_ms=interval_ms))
        except grpc.RpcError as error:
            raise self._told(error) from error

    def decide(
        self,
        model: str,
        act: str,
        version: int = 0,
        *,
        per_mille: int = 0,
        tuning: Tuning | None = None,
        actor: str,
        reason: str,
    ) -> wire.DecideReply:
        """Record and carry out a decision: `act` is as in appliance.deployment, "activate" and so on.

        `version` and `per_mille` (of start_canary) are 0 where it names none; `tuning` is that of tune.
        Returns when its outcome is recorded; raises DecisionError, UnknownModel, UnknownVersion or what
        kept the version from loading.
        """
        request = wire.DecideRequest(
            model=model,
            act=act,
            version=version,
            per_mille=per_mille,
            tuning=wire.Tuning(**msgspec.structs.asdict(tuning)) if tuning else None,
            actor=actor,
            reason=reason,
        )
        reply: wire.DecideReply = self._call(self._stub.Decide, request, DECIDE_SECONDS_MAX)
        return reply

    def erase(self, request_id: str, *, reason: str) -> int:
        """Erase what is kept of a request's inputs; returns how many payloads, at least one.

        Raises PayloadGone, RequestError, StateError.
        """
        request = wire.EraseRequest(request_id=request_id, reason=reason)
        reply: wire.EraseReply = self._call(self._stub.Erase, request, DECIDE_SECONDS_MAX)
        return reply.payloads

    def feedback(
        self, request_id: str, truth: "Sequence[Tensor]", note: str
    ) -> evidence.FeedbackReply:
        """Record what was true of any client's request. Raises UnknownRecord, RequestError, RequestLimit."""
        tensors = [
            evidence.Tensor(name=t.name, datatype=t.datatype, shape=t.shape, data=t.data)
            for t in truth
        ]
        request = evidence.FeedbackRequest(request_id=request_id, truth=tensors, note=note)
        reply: evidence.FeedbackReply = self._call(self._stub.Feedback, request)
        return reply

    def sign(self, sequence: int) -> int:
        """Have a checkpoint signed that covers record `sequence`, and return how many records it covers.

        Raises UnknownRecord, NotCovered when the log cannot be signed.
        """
        reply: wire.SignReply = self._call(self._stub.Sign, wire.SignRequest(sequence=sequence))
        return reply.size

    def _call(self, method: Any, request: Any, seconds: float = CALL_SECONDS_MAX) -> Any:
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._told(error) from error

    def _told(self, error: grpc.RpcError) -> ApplianceError:
        failure = failure_from(error)
        if found := carried(failure.details, failure.trailing):
            return found
        if failure.status is not grpc.StatusCode.UNAVAILABLE:
            return ApplianceError(
                f"the runtime did not finish the call: {failure.status.name}, {failure.details}",
                remedy="see the runtime's journal and `holdfast status`",
            )
        return Unreachable(
            f"no runtime answers on {self._socket}",
            remedy="start holdfast-runtime with the same state directory, or check its journal",
        )
