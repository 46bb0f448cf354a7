"""A call of the fast lane that has come, as the door sees it.

Knows: where grpcio's core keeps what a call begins with. Rules: nothing is read that is not asked for: an
open box asks for nothing. Leaves to others: the call itself (`calls`), who may call (`runtime.access`).
"""

from collections.abc import Mapping, Sequence

from runtime.transport.calls import Event
from runtime.transport.core import cygrpc
from runtime.transport.exchange import Metadata


class FastArrival:
    """A call whose message nobody has asked for yet (see `runtime.access.Arrival`)."""

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    @property
    def method(self) -> str:
        """Its full path."""
        return str(self._event.call_details.method.decode(errors="replace"))

    @property
    def peer(self) -> str:
        """See Caller."""
        return str(self._event.call.peer().decode())

    @property
    def metadata(self) -> Metadata:
        """As sent."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

    def shown(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS tells of the connection."""
        told = cygrpc.auth_context(self._event.call)
        return {key.decode(): values for key, values in told.items()}
