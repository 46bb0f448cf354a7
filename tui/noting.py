"""Leaves a note of what an operator did with the log, for the runtime to record.

Knows: what is told when that is not possible. Rules: an auditor may read a log without the right to write beside it:
then the act is done and it is said that no record was left. Leaves to others: the note (`appliance.notes`).
"""

from appliance.config import StateConfig
from appliance.errors import StateError
from appliance.notes import Notable, leave
from tui.printing import aside, cell


def leave_note(state: StateConfig, record: Notable) -> None:
    """Leave `record`; when the file system refuses, say so beside the output."""
    try:
        leave(state, record)
    except StateError as error:
        aside().print(cell(f"This is not recorded in the log: {error}"))
