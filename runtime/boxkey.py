"""The audit log, opened with the key that it is signed with.

Knows: which of the box's keys that is, and when the next one takes over. Rules: a second log is never begun under a
key that signed one; a key takes over in one transaction, in which the key before it vouches for it; a start that was
cut off anywhere goes on at the next. Leaves to others: where keys lie (`appliance.keys`), the log itself.
"""

from collections.abc import Callable

from appliance import journal
from appliance.audit.log import AuditLog
from appliance.audit.segments import log_there
from appliance.config import StateConfig
from appliance.errors import AuditBroken, KeyFileError
from appliance.keys import LOST_REMEDY, BoxKeys
from appliance.signing import SigningKey

Opening = Callable[[SigningKey], AuditLog]


def open_with_key(state: StateConfig, opening: Opening) -> AuditLog:
    """The log that `opening` opens, by the key that it is signed with; a key that waits takes over.

    Raises AuditBroken when the log is missing or does not verify, KeyFileError when its key is lost, or what
    `opening` raises.
    """
    keys = BoxKeys(state)
    if log_there(state.audit_log):
        log, used = _opened(keys, opening)
    else:
        used = _first(keys, state)
        log = opening(used)
    try:
        keys.settle(used)
        if keys.following is not None and used is not keys.following:
            order, new = keys.order, keys.following
            log.change_key(new, reason=order.reason, by=order.by)
            keys.settle(new)
            journal.event(
                "key.changed",
                old_key_id=used.public.key_id,
                new_key_id=new.public.key_id,
                by=order.by,
            )
    except BaseException:
        log.close()
        raise
    return log


def _first(keys: BoxKeys, state: StateConfig) -> SigningKey:
    """The key to begin a log with; AuditBroken when the box had a log, which would hide what is lost."""
    if keys.public.exists() and keys.current is not None:
        raise AuditBroken(
            f"the box has a key, but its audit log {state.audit_log} is missing or empty",
            remedy="restore the log; to begin a new one, move keys/box.pem and box.pub away",
        )
    return keys.begin()


def _opened(keys: BoxKeys, opening: Opening) -> tuple[AuditLog, SigningKey]:
    """The log and the one of `keys` that its last checkpoint is signed with."""
    if keys.current is None:
        raise KeyFileError(
            "the box key is lost: there is a log, and no key to go on with", remedy=LOST_REMEDY
        )
    try:
        return opening(keys.current), keys.current
    except AuditBroken:
        # Between the two transactions of a change, the log is signed with the key that follows.
        if keys.following is None:
            raise
        return opening(keys.following), keys.following
