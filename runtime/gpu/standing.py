"""How the owner of a GPU stands, and when it may be started again.

Knows: its states and the budget of restarts. Rules: one that breaks now and then is started at once, one that breaks too often
rests in between, and is never given up for good. Leaves to others: acting on it (`owner`), telling it (`health`, `standing`).
"""

from collections import deque
from enum import Enum
from typing import NamedTuple

from appliance.clock import Clock
from appliance.config import GpuConfig
from appliance.errors import GpuLost

NANOSECONDS = 1_000_000_000


class State(Enum):
    """What an owner is at."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"  # it rests before it is started again
    CLOSED = "closed"


class Standing(NamedTuple):
    """One GPU as its owner last knew it. `trouble` is why it is not ready, or what of it is not."""

    device: str
    name: str
    state: str
    trouble: str
    restarts: int
    pid: int
    free_bytes: int
    total_bytes: int
    engines: tuple[str, ...]
    lanes: int
    graphs: int
    ungraphed: tuple[str, ...]


class Restarts:
    """The budget of restarts. `count` is all of them so far."""

    def __init__(self, settings: GpuConfig, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._recent: deque[int] = deque()
        self.count = 0

    def rest_seconds(self) -> float:
        """Count one more; how long to rest before it."""
        now = self._clock.monotonic_ns()
        self.count += 1
        self._recent.append(now)
        window = int(self._settings.restarts_seconds * NANOSECONDS)
        while self._recent[0] < now - window:
            self._recent.popleft()
        many = len(self._recent) > self._settings.restarts_max
        return self._settings.rest_seconds if many else 0.0


def gone(device: str, why: str) -> GpuLost:
    """What those get who need `device` while it is not there."""
    return GpuLost(
        f"GPU {device} was lost: {why}",
        remedy="send the request again; the GPU's owner starts anew by itself",
    )
