"""How long to wait before another try of one call. Pure: time and chance are handed in.

Knows: exponential backoff with jitter, and the server's hint how long to stay away. Rules: no wait ends
after the call's deadline; what the server asks for is kept to the millisecond. Leaves to others: which
failures may be tried again (`runtime.client.failures`) and the waiting itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.clock import Clock

# Trailing metadata of a refusal: whole milliseconds to stay away, below zero for ever; see
# https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback.
HINT_KEY = "grpc-retry-pushback-ms"
GROWTH = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """At most `attempts_max` tries of a call, the first included.

    The wait before the second is about `first_wait_seconds`, each one after it about twice as long,
    never over `wait_seconds_max`; "about" is between half of that and all of it, by chance.
    """

    attempts_max: int = 5
    first_wait_seconds: float = 0.1
    wait_seconds_max: float = 5.0


RETRY = Retry()
ONCE = Retry(attempts_max=1)


class Attempts:
    """The tries of one call, from now until its deadline."""

    def __init__(
        self,
        retry: Retry,
        *,
        deadline_seconds: float,
        clock: Clock,
        uniform: Callable[[], float],
    ) -> None:
        """`uniform` draws from [0, 1)."""
        self._retry = retry
        self._clock = clock
        self._uniform = uniform
        self._until_ns = clock.monotonic_ns() + round(deadline_seconds * 1e9)
        self._made = 0
        self._next_seconds = retry.first_wait_seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, below zero behind it."""
        return (self._until_ns - self._clock.monotonic_ns()) / 1e9

    def wait_after(self, trailing: Mapping[str, str | bytes]) -> float | None:
        """Seconds to wait now that a try failed with `trailing` metadata; None: make no other."""
        self._made += 1
        hint = trailing.get(HINT_KEY)
        wait = self._backed_off() if hint is None else self._asked(hint)
        if wait is None or self._made >= self._retry.attempts_max or wait >= self.seconds_left:
            return None
        return wait

    def _backed_off(self) -> float:
        cap = min(self._next_seconds, self._retry.wait_seconds_max)
        self._next_seconds = cap * GROWTH
        return cap * (0.5 + self._uniform() / 2)

    def _asked(self, hint: str | bytes) -> float | None:
        """The server's wait; one that nobody can read means to stay away, as gRPC has it."""
        self._next_seconds = self._retry.first_wait_seconds
        try:
            milliseconds = int(hint)
        except ValueError:
            return None
        return milliseconds / 1000 if milliseconds >= 0 else None
