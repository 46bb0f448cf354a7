"""How much of the box one principal may take.

Knows: requests a second, open calls, bytes in flight. Rules: what is taken is given back whatever comes of
it; a principal that has its share is refused before its message is read, so that it takes nothing from
others. Leaves to others: the turns within a queue (`runtime.batching`), who the principal is.
"""

from threading import Lock

from appliance.errors import LimitReached

# A principal may send so many nanoseconds' worth of its requests at once.
BURST_NS = 1_000_000_000


class Allowance:
    """What one principal holds at the moment, and how much that may be. Any thread."""

    __slots__ = (
        "_bytes_max",
        "_calls_max",
        "_due_ns",
        "_lock",
        "_per_second",
        "_step_ns",
        "bytes",
        "calls",
        "requests",
    )

    def __init__(
        self, *, requests_per_second_max: int, calls_max: int, bytes_in_flight_max: int
    ) -> None:
        """`requests_per_second_max` 0: as many as it likes."""
        self._per_second = requests_per_second_max
        self._step_ns = BURST_NS // requests_per_second_max if requests_per_second_max else 0
        self._calls_max = calls_max
        self._bytes_max = bytes_in_flight_max
        self._lock = Lock()
        # When the requests so far would all have come, had they come evenly (GCRA, ITU-T I.371).
        self._due_ns = 0
        self.calls = self.requests = self.bytes = 0

    def enter(self, now_ns: int) -> None:
        """Begin a call. Raises LimitReached; the call is then not counted."""
        with self._lock:
            if self.calls >= self._calls_max:
                raise LimitReached(
                    f"{self.calls} of your calls are open, and no more may be",
                    remedy="send fewer at once, or let [access] calls_max be raised",
                )
            self._ask(now_ns)
            self.calls += 1

    def leave(self) -> None:
        """A call that had begun is over."""
        with self._lock:
            self.calls -= 1

    def ask(self, now_ns: int) -> None:
        """One more request on a call that is open. Raises LimitReached."""
        if self._step_ns:
            with self._lock:
                self._ask(now_ns)

    def take(self, size: int) -> None:
        """A request of `size` bytes begins; a call may have many of them. Raises LimitReached."""
        with self._lock:
            if self.requests >= self._calls_max:
                raise LimitReached(
                    f"{self.requests} of your requests are open, and no more may be",
                    remedy="send fewer at once, or let [access] calls_max be raised",
                )
            if self.bytes + size > self._bytes_max:
                raise LimitReached(
                    f"{self.bytes + size} bytes of your requests would be in flight, "
                    f"more than {self._bytes_max}",
                    remedy="send fewer at once, or let [access] bytes_in_flight_max be raised",
                )
            self.requests += 1
            self.bytes += size

    def give(self, size: int) -> None:
        """It is over."""
        with self._lock:
            self.requests -= 1
            self.bytes -= size

    def _ask(self, now_ns: int) -> None:
        """Under the lock: count a request, or refuse it and count nothing."""
        if not self._step_ns:
            return
        due_ns = max(self._due_ns, now_ns) + self._step_ns
        if due_ns > now_ns + BURST_NS:
            raise LimitReached(
                f"more than {self._per_second} requests a second",
                remedy="send fewer, or let [access] requests_per_second_max be raised",
            )
        self._due_ns = due_ns
