"""Streams that end when their caller is revoked, though nobody asks anything of them.

Knows: who follows which principal. Rules: it ends at once, recorded as any refusal; an inference stream is not among
these, for each of its requests is checked by itself and those under way are answered. Leaves to others: who is
revoked (`runtime.access`), what the streams say.
"""

from collections.abc import Callable
from functools import partial

from appliance.errors import ApplianceError
from runtime.interceptors import Refusal
from runtime.transport.exchange import Methods, Receiver, Stream, Streaming

# Records a refusal and says what is told: the error, the caller's name, the address, the method.
Refused = Callable[[ApplianceError, str, str, str], Refusal]


def while_standing(methods: Methods, refused: Refused) -> Methods:
    """`methods`, whose streams end when their caller is revoked."""
    return {
        path: Streaming(partial(_open, path, method, refused))
        if isinstance(method, Streaming)
        else method
        for path, method in methods.items()
    }


def _open(path: str, method: Streaming, refused: Refused, stream: Stream) -> Receiver:
    following = _Following(path, stream, method.open(stream), refused)
    if stream.principal.role is not None:  # whoever is on an open box is never revoked
        stream.principal.follow(following)
    return following


class _Following:
    """A stream's receiver until its caller falls; the transport keeps it for as long as the call lives."""

    def __init__(self, path: str, stream: Stream, receiver: Receiver, refused: Refused) -> None:
        self._path, self._stream, self._refused = path, stream, refused
        self._peer = stream.peer  # not to be had any more once the call is over
        self._receiver: Receiver | None = receiver
        self._fallen = False

    def fell(self) -> None:
        """End the stream."""
        self._fallen = True
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            principal = self._stream.principal
            told = self._refused(principal.revoked(), principal.name, self._peer, self._path)
            self._stream.finish(told)
            receiver.gone()

    def received(self, message: bytes) -> None:
        """See Receiver."""
        if receiver := self._receiver:
            receiver.received(message)
            if self._fallen:  # meanwhile: what the message began is over too
                receiver.gone()

    def ended(self) -> None:
        """See Receiver."""
        if receiver := self._receiver:
            receiver.ended()

    def sent(self) -> None:
        """See Receiver."""
        if receiver := self._receiver:
            receiver.sent()

    def gone(self) -> None:
        """See Receiver."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.gone()
