"""The replies of one stream in the order of its requests. Pure.

Knows: which requests wait and what came for them. Rules: a reply is matched by id, and one without an id
belongs to the request that has waited longest; a refused request is an error in its place and ends
nothing. Leaves to others: the stream.
"""

from typing import Any

from appliance.errors import ApplianceError
from runtime.client.failures import carried
from runtime.client.messages import Reply, reply_from
from runtime.protocol import CODE_KEY, REMEDY_KEY

Answer = Reply | ApplianceError


class Ordered:
    """The requests of a stream that wait for their replies; their ids are `name`-0, `name`-1, ..."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent = 0
        self._waiting: dict[str, Answer | None] = {}

    @property
    def waiting(self) -> int:
        """How many requests were sent and not yet given back by `next`."""
        return len(self._waiting)

    def add(self) -> str:
        """The id under which to send the next request."""
        request_id = f"{self._name}-{self._sent}"
        self._sent += 1
        self._waiting[request_id] = None
        return request_id

    def take(self, response: Any) -> None:
        """Note a ModelStreamInferResponse; one that nobody waits for is dropped."""
        oldest = next((key for key, found in self._waiting.items() if found is None), "")
        request_id = response.infer_response.id or oldest
        if request_id in self._waiting and self._waiting[request_id] is None:
            self._waiting[request_id] = _answer(response)

    def next(self) -> Answer | None:
        """The answer to the request that was sent first, once; None while it is not here."""
        request_id, answer = next(iter(self._waiting.items()))
        if answer is not None:
            del self._waiting[request_id]
        return answer


def _answer(response: Any) -> Answer:
    """A stream has no status for one request: a Holdfast sends code and remedy as parameters."""
    if not response.error_message:
        return reply_from(response.infer_response, {})
    told = {
        key: response.infer_response.parameters[parameter].string_param
        for key, parameter in ((CODE_KEY, CODE_KEY), (REMEDY_KEY, REMEDY_KEY.removesuffix("-bin")))
        if parameter in response.infer_response.parameters
    }
    return carried(response.error_message, told) or ApplianceError(
        response.error_message, remedy="send this request by itself to learn more"
    )
