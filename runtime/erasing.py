"""Erasing what is kept of one request, because somebody asks for it.

Knows: the order: erase first, so that a record never claims what was not done. Rules: who and why are recorded
under the request's own id; the request's records stay. Leaves to others: erasing (`runtime.payloads`), who may
(`runtime.access`).
"""

import asyncio

from appliance.audit.kinds import Erased
from appliance.errors import PayloadGone, RequestError
from runtime.payloads import PayloadKeeper
from runtime.recorder import Recorder

WORDS_CHARACTERS_MAX = 1000


async def erase(
    payloads: PayloadKeeper, recorder: Recorder, request_id: str, *, by: str, reason: str
) -> int:
    """Erase every payload of a request and return how many there were, at least one.

    Raises PayloadGone when nothing of it is kept, RequestError without a name or a reason, StateError,
    AuditUnwritable, Overloaded.
    """
    check_words(by, reason)
    removed = await asyncio.wrap_future(payloads.erase(request_id))
    if not removed.models:
        raise nothing_kept(request_id)
    for model, count in removed.models.items():
        erased = Erased(request_id=request_id, model=model, count=count, reason=reason, by=by)
        await recorder.appended(lambda told=erased: told)  # type: ignore[misc]
    if removed.error is not None:
        raise removed.error
    return sum(removed.models.values())


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
