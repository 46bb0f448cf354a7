"""Feedback: what was true, told by the clients that had asked, and by whoever runs the box.

Knows: the message. Rules: a servicer decodes, calls, encodes. Leaves to others: whose request it may be about,
and recording it (`runtime.feedback`).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from appliance.audit.kinds import Inference
from runtime.feedback import FeedbackTaker, tensor_from
from runtime.protocol import evidence_pb2 as wire
from runtime.transport import Methods, on_loop

_PATH = "/holdfast.EvidenceService/Feedback"


class FeedbackCall:
    """The call on the inference port; who may have the record of a request may tell of it."""

    def __init__(self, feedback: FeedbackTaker) -> None:
        self._feedback = feedback

    def methods(self) -> Methods:
        """The call by its full path."""
        loop = asyncio.get_running_loop()
        return {_PATH: on_loop(self.Feedback, wire.FeedbackRequest, loop)}

    async def Feedback(self, request: wire.FeedbackRequest, context: Any) -> wire.FeedbackReply:
        """Record what was true of an earlier request."""
        principal = context.principal
        return await take(
            self._feedback,
            request,
            principal=principal.name,
            peer=context.peer(),
            sees=principal.sees,
        )


async def take(
    feedback: FeedbackTaker,
    request: wire.FeedbackRequest,
    *,
    principal: str,
    peer: str,
    sees: Callable[[Inference], bool],
) -> wire.FeedbackReply:
    """Have a message's content recorded, about an answer that the caller `sees`."""
    told = await feedback.take(
        request.request_id,
        [tensor_from(t.name, t.datatype, t.shape, t.data) for t in request.truth],
        request.note,
        principal=principal,
        peer=peer,
        sees=sees,
    )
    return wire.FeedbackReply(sequence=told.sequence, model=told.model, version=told.version)
