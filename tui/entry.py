"""Whether this user may enter the state directory.

Knows: what reading the box's files takes. Rules: asked before a command begins, for what lies deeper would only
fail with the system's own words. Leaves to others: single files that may not be read (whoever opens them).
"""

import os

from appliance.config import StateConfig
from appliance.errors import StateError


def check_entry(state: StateConfig) -> None:
    """Raise StateError when the state directory is there and closed to this user."""
    try:
        closed = state.root.is_dir() and not os.access(state.root, os.R_OK | os.X_OK)
    except PermissionError:
        closed = True
    if closed:
        raise StateError(
            f"{state.root} may not be read by this user",
            remedy="run this as root, as the runtime's user, or in the group that owns the directory",
        )
