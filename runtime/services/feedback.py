"""Feedback: what was true, told by the clients that had asked.

Knows: the message. Rules: a servicer decodes, calls, encodes. Leaves to others: whose request it may be about,
and recording it (`runtime.feedback`).
"""

import asyncio
from typing import Any

from appliance.access import Role
from runtime.feedback import FeedbackTaker, tensor_from
from runtime.protocol import evidence_pb2 as wire
from runtime.transport import Methods, on_loop

_PATH = "/holdfast.EvidenceService/Feedback"


class FeedbackCall:
    """The call on the inference port; a client may tell of its own requests only."""

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
            owner=principal.name if principal.role in (None, Role.CLIENT) else None,
        )


async def take(
    feedback: FeedbackTaker,
    request: wire.FeedbackRequest,
    *,
    principal: str,
    peer: str,
    owner: str | None,
) -> wire.FeedbackReply:
    """Have a message's content recorded."""
    told = await feedback.take(
        request.request_id,
        [tensor_from(t.name, t.datatype, t.shape, t.data) for t in request.truth],
        request.note,
        principal=principal,
        peer=peer,
        owner=owner,
    )
    return wire.FeedbackReply(sequence=told.sequence, model=told.model, version=told.version)
