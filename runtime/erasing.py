"""Erasing what is kept of one request, because somebody asks for it.

Knows: the order: erase first, so that a record never claims what was not done. Rules: who and why are recorded
under the request's own id, also when the log is behind at that moment; the request's records stay. Leaves to
others: erasing (`runtime.payloads`), who may (`runtime.access`).
"""

import asyncio

from appliance.audit.kinds import Erased
from appliance.errors import AuditUnwritable, Overloaded, PayloadGone, RequestError
from runtime.payloads import PayloadKeeper
from runtime.recorder import Recorder

WORDS_CHARACTERS_MAX = 1000
# How long a log that is behind is waited for.
TRIES, AGAIN_SECONDS = 50, 0.1


async def erase(
    payloads: PayloadKeeper, recorder: Recorder, request_id: str, *, by: str, reason: str
) -> int:
    """Erase every payload of a request and return how many there were, at least one.

    Raises PayloadGone when nothing of it is kept, RequestError without a name or a reason, StateError, or
    AuditUnwritable when it is erased and the log takes no record of it just now: the record is tried again.
    """
    check_words(by, reason)
    removed = await asyncio.wrap_future(payloads.erase(request_id))
    if not removed.models:
        raise nothing_kept(request_id)
    unrecorded: AuditUnwritable | None = None
    for model, count in removed.models.items():
        erased = Erased(request_id=request_id, model=model, count=count, reason=reason, by=by)
        try:
            await _record(payloads, recorder, erased)
        except AuditUnwritable as error:  # the other models' records are no less due
            unrecorded = error
    if failed := removed.error or unrecorded:
        raise failed
    return sum(removed.models.values())


async def _record(payloads: PayloadKeeper, recorder: Recorder, erased: Erased) -> None:
    """Have `erased` recorded; what is done is not taken back, so a log that is behind is waited for."""
    for _ in range(TRIES):
        try:
            await recorder.appended(lambda: erased)
        except Overloaded:
            await asyncio.sleep(AGAIN_SECONDS)
        except AuditUnwritable as error:
            payloads.record_later(erased)
            raise _unrecorded(str(error), error.remedy) from error
        else:
            return
    payloads.record_later(erased)
    raise _unrecorded("the audit log is behind", "nothing: it is tried again by itself")


def _unrecorded(why: str, remedy: str) -> AuditUnwritable:
    return AuditUnwritable(
        f"the inputs are erased, and the record of it follows within a minute of the log taking any: {why}",
        remedy=remedy,
    )


def check_words(by: str, reason: str) -> None:
    """Raise RequestError unless it is said, in so many words, who erases and why."""
    if not by.strip() or not reason.strip() or len(by) + len(reason) > WORDS_CHARACTERS_MAX:
        raise RequestError(
            "an erasure needs a name and a reason",
            remedy=f"say who asks and why, in at most {WORDS_CHARACTERS_MAX} characters together",
        )


def nothing_kept(request_id: str) -> PayloadGone:
    """The error of asking for a payload that there is not."""
    return PayloadGone(
        f"nothing is kept of the inputs of request '{request_id}'",
        remedy="see `holdfast audit show` for what its records say; [payloads] says what is kept",
    )
