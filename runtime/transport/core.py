"""The door to grpcio's own core, by its private Cython layer.

Knows: which releases of grpcio the fast lane was tested with, and the names that it uses. Rules: nothing
else in the house touches `grpc._cython`; a release that is not in the table is not used. Leaves to
others: driving it (`fast`, `calls`).
"""

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stubs

__all__ = ["TESTED_RELEASES", "cygrpc", "missing"]

# The contract suite (tests/runtime/transport) was green on these; add a release when it is again.
TESTED_RELEASES = ("1.85.1",)
_NAMES: dict[object, tuple[str, ...]] = {
    cygrpc: (
        "Call",
        "CompletionQueue",
        "ReceiveCloseOnServerOperation",
        "ReceiveMessageOperation",
        "SendInitialMetadataOperation",
        "SendMessageOperation",
        "SendStatusFromServerOperation",
        "Server",
        "auth_context",
    ),
    getattr(cygrpc, "Server", None): (
        "add_http2_port",
        "cancel_all_calls",
        "destroy",
        "register_completion_queue",
        "request_call",
        "shutdown",
        "start",
    ),
    getattr(cygrpc, "CompletionQueue", None): ("poll",),
    getattr(cygrpc, "Call", None): ("peer", "start_server_batch"),
}


def missing() -> str:
    """Why the fast lane cannot run on the grpcio that is installed; "" when it can."""
    if grpc.__version__ not in TESTED_RELEASES:
        return f"grpcio {grpc.__version__} is not among the tested releases"
    absent = [name for where, names in _NAMES.items() for name in names if not hasattr(where, name)]
    return f"grpcio {grpc.__version__} lacks {', '.join(absent)}" if absent else ""
