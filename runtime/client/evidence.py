"""A client of the evidence and witness services.

Knows: their calls. Rules: a receipt is checked before it is given out; errors come as `InferenceClient` tells
them. Leaves to others: what a receipt proves (`appliance.audit.checker`).
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from appliance.audit.checker import Receipt
from appliance.audit.receipt import open_receipt
from appliance.clock import Clock, SystemClock
from appliance.signing import PublicKey
from appliance.tensors import Array
from runtime.client.connection import DEADLINE_SECONDS, Connection, Tls
from runtime.client.retry import ONCE
from runtime.client.tensors import BFloat16, raw_from_array
from runtime.protocol import evidence_pb2 as wire
from runtime.protocol import evidence_pb2_grpc as stubs


class EvidenceClient:
    """Talks to one Holdfast, "host:port" or "unix:path"; use as a context manager, from any thread.

    Arguments and errors as of `InferenceClient`; each call is tried once.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        token: str = "",
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._connection = Connection(
            address=address,
            tls=tls,
            token=token,
            deadline_seconds=deadline_seconds,
            retry=ONCE,
            clock=clock or SystemClock(),
            uniform=float,
        )
        self._metadata = self._connection.metadata()
        self._seconds = deadline_seconds
        self._channel = self._connection.channel()
        self._evidence = stubs.EvidenceServiceStub(self._channel)
        self._witness = stubs.WitnessServiceStub(self._channel)

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

    def receipt(
        self, key: PublicKey, *, request_id: str = "", sequence: int | None = None
    ) -> tuple[bytes, Receipt]:
        """The receipt of a request's newest record, or of record `sequence`: the file's bytes, and what it proves.

        It is checked under the box key `key`. Raises UnknownRecord, NotCovered, Unproven.
        """
        request = (
            wire.ReceiptRequest(request_id=request_id)
            if sequence is None
            else wire.ReceiptRequest(sequence=sequence)
        )
        data: bytes = self._call(self._evidence.Receipt, request).receipt
        return data, open_receipt(data, key)

    def checkpoint(self) -> str:
        """The box's newest checkpoint, a signed note, unverified. Raises NotCovered when there is none."""
        note: str = self._call(self._evidence.Checkpoint, wire.CheckpointRequest()).note
        return note

    def feedback(
        self, request_id: str, truth: Mapping[str, Array | BFloat16], note: str = ""
    ) -> tuple[int, str, int]:
        """Tell what the right answer to an earlier request was, as arrays by any names.

        Returns the sequence of its own record, and the model and version that had answered. Raises
        UnknownRecord, RequestError, RequestLimit.
        """
        raws = [(name, raw_from_array(name, array)) for name, array in truth.items()]
        request = wire.FeedbackRequest(
            request_id=request_id,
            truth=[
                wire.Tensor(name=name, datatype=raw.datatype, shape=raw.shape, data=bytes(raw.data))
                for name, raw in raws
            ],
            note=note,
        )
        reply = self._call(self._evidence.Feedback, request)
        return reply.sequence, reply.model, reply.version

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: str) -> tuple[str, int]:
        """Ask a witness to cosign `note`; returns its line, "" when `old_size` is not the size it returns too.

        Raises UnknownLog, WitnessRefused.
        """
        request = wire.AddCheckpointRequest(old_size=old_size, proof=proof, checkpoint=note)
        reply = self._call(self._witness.AddCheckpoint, request)
        return reply.cosignature, reply.size

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._connection.told(error) from error
