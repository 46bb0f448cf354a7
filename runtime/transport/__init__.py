"""The wire: gRPC on a TCP address and on the control socket (a door).

Knows: which lane serves, and what a call looks like to the rooms behind it. Rules: the fast lane drives
grpcio's core by its private layer, so it runs only on releases that were tested and the public one takes
its place otherwise; both are held to one contract suite. Leaves to others: what the methods do.
"""

from appliance import journal
from appliance.config import ServerConfig
from runtime.certificates import Certificates
from runtime.transport.control import ControlTransport
from runtime.transport.core import missing
from runtime.transport.exchange import (
    Exchange,
    Metadata,
    Methods,
    Receiver,
    Stream,
    Streaming,
    Transport,
    Unary,
)
from runtime.transport.fast import FastTransport
from runtime.transport.looped import LoopContext, on_loop
from runtime.transport.public import PublicTransport
from runtime.transport.revoking import while_standing
from runtime.transport.standard import Health, reflection_methods

__all__ = [
    "ControlTransport",
    "Exchange",
    "Health",
    "LoopContext",
    "Metadata",
    "Methods",
    "Receiver",
    "Stream",
    "Streaming",
    "Transport",
    "Unary",
    "listen",
    "on_loop",
    "reflection_methods",
    "while_standing",
]


def listen(config: ServerConfig, certificates: Certificates | None = None) -> Transport:
    """Bind the config's address, by its lane; call it from the running event loop.

    `certificates` may change while it serves; without them the files that the config names are read once.
    An untested grpcio serves by the public lane, and the journal says so. Raises ListenError.
    """
    if config.transport == "fast":
        reason = missing()
        if not reason:
            return FastTransport(config, certificates)
        journal.event("transport.public", reason=reason)
    return PublicTransport(config, certificates)
