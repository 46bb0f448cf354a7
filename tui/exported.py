"""Telling the log what a command let out of the box.

Knows: how the record of it comes about: as a note that the runtime takes up. Rules: of a copy of a log nobody
records it, which is said aside and keeps nobody from reading. Leaves to others: what left (`tui.commands`).
"""

from hashlib import sha256
from pathlib import Path
from typing import Literal

from appliance.audit.kinds import Exported
from appliance.config import StateConfig
from appliance.errors import StateError
from appliance.notes import leave
from tui.printing import aside, cell


def tell_exported(
    state: StateConfig,
    what: Literal["checkpoint", "records", "receipt", "payload"],
    data: bytes,
    output: Path | None,
    records: range,
) -> None:
    """Have the log tell that `data`, of these records, went to `output`, or to standard output."""
    exported = Exported(
        what=what,
        first=records.start,
        end=records.stop,
        sha256=sha256(data).hexdigest(),
        destination=str(output.absolute()) if output else "standard output",
        by="",  # the owner of the note
    )
    try:
        leave(state, exported)
    except StateError as error:
        aside().print(cell(f"That it left is not recorded: {error}", "yellow"))
