"""The newest checkpoint of a box, as its files have it.

Knows: where it is and where its cosigned form is. Rules: reads only. Leaves to others: showing it.
"""

from typing import NamedTuple

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.reader import AuditReader
from appliance.config import StateConfig
from appliance.errors import AuditError, NotCovered


class Newest(NamedTuple):
    """The checkpoint as the box signed it, and `told` with the cosignatures that there are.

    `remark` says where a witness stopped, "" unless one cosigned an earlier checkpoint and not this one.
    """

    note: str
    told: str
    remark: str = ""


def newest_checkpoint(state: StateConfig) -> Newest:
    """Raises NotCovered when there is none yet, StateError when there is no log, AuditError."""
    with AuditReader(state.audit_log) as log:
        notes = log.checkpoints()
    if not notes:
        raise NotCovered(
            "the log has no checkpoint yet",
            remedy="start the runtime once, or try again in a minute",
        )
    cosigned = cosigned_checkpoint(state)
    if cosigned.startswith(notes[-1]):
        return Newest(notes[-1], cosigned)
    if not cosigned:
        return Newest(notes[-1], notes[-1])
    size = read_checkpoint(cosigned).size
    remark = (
        f"No witness has cosigned it yet; the last one that a witness did is over {size:,} records."
    )
    return Newest(notes[-1], notes[-1], remark)


def cosigned_checkpoint(state: StateConfig) -> str:
    """The newest checkpoint that a witness cosigned, "" when none has. Raises AuditError."""
    try:
        return state.cosigned.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(
            f"cannot read {state.cosigned}: {error}", remedy="check its owner and permissions"
        ) from error
