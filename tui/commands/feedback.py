"""`holdfast feedback`.

Knows: what it prints. Rules: it goes over the control socket, where whoever runs the box may tell of any client's
request; a client tells of its own by `runtime.client`. Leaves to others: recording it (`runtime.feedback`).
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.audit.payload import Tensor
from runtime.client import ControlClient
from tui.printing import cell, out, print_json


def feedback(
    socket: Path, request_id: str, truth: Sequence[Tensor], note: str, *, as_json: bool
) -> None:
    """Have it recorded and print where. Raises UnknownRecord, RequestError, RequestLimit, Unreachable."""
    with ControlClient(socket) as control:
        reply = control.feedback(request_id, truth, note)
    if as_json:
        print_json({"sequence": reply.sequence, "model": reply.model, "version": reply.version})
        return
    told = (
        f"Recorded as {reply.sequence}, about an answer of {reply.model} version {reply.version}."
    )
    out().print(cell(told))
