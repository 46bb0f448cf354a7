"""Every kind of audit record.

Knows: which kinds there are. Leaves to others: their bytes (`audit.record`).
"""

from typing import TypeAlias, get_args

from appliance.audit.kinds.evidence import (
    DriftChecked,
    Exported,
    Installed,
    Removed,
    Sealed,
    Verified,
)
from appliance.audit.kinds.operating import (
    AccessChanged,
    Boot,
    ClockStep,
    Decision,
    DenylistChanged,
    KeyChange,
    Outcome,
    Stop,
)
from appliance.audit.kinds.root import Columns, Digest, Natural, Record
from appliance.audit.kinds.serving import Erased, Failure, Feedback, Gap, Inference, Refusals

__all__ = [
    "CATEGORIES",
    "AccessChanged",
    "AnyRecord",
    "Boot",
    "ClockStep",
    "Columns",
    "Decision",
    "DenylistChanged",
    "Digest",
    "DriftChecked",
    "Erased",
    "Exported",
    "Failure",
    "Feedback",
    "Gap",
    "Inference",
    "Installed",
    "KeyChange",
    "Natural",
    "Outcome",
    "Record",
    "Refusals",
    "Removed",
    "Sealed",
    "Stop",
    "Verified",
]

AnyRecord: TypeAlias = (
    Inference
    | Failure
    | Decision
    | Outcome
    | Boot
    | Stop
    | Gap
    | Refusals
    | Feedback
    | Erased
    | DriftChecked
    | Installed
    | Verified
    | Exported
    | Sealed
    | Removed
    | ClockStep
    | KeyChange
    | AccessChanged
    | DenylistChanged
)
CATEGORIES: tuple[str, ...] = tuple(kind.__struct_config__.tag for kind in get_args(AnyRecord))
