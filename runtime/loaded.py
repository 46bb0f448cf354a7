"""A version that can answer.

Knows: its servable, its queue, and how many requests use it. Rules: whoever uses it holds it, on any thread,
so that no swap closes it meanwhile; once it is being drained nobody can hold it any more. Leaves to others:
loading it (`runtime.swap`), freeing it (`runtime.draining`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.deployment import Tuning
from appliance.store import StoredVersion
from runtime.batching import Batcher
from runtime.checking import Checked
from runtime.servable import Servable


@dataclass(slots=True, eq=False)
class Loaded:
    """A loaded version with its queue, and how many requests are using it.

    `stored` names the engine that is loaded; `stale` says why that is not the version's own, else "".
    `tuning` is what it was loaded under, `failing` why it fails its own row, else "".
    `checked` remembers what requests of one header ask for.
    """

    stored: StoredVersion
    servable: Servable
    batcher: Batcher
    recipe_sha256: str
    stale: str = ""
    tuning: Tuning | None = None
    failing: str = ""
    checked: dict[bytes, Checked] = field(default_factory=dict)
    _users: int = 0
    _unused: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def trouble(self) -> str:
        """Why it cannot answer as it should, "" when it can."""
        return self.batcher.trouble or self.failing

    def hold(self) -> bool:
        """Count one more user, unless it is being drained: then choose again."""
        with self._lock:
            if self._unused is not None:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Count one user less; the last one lets a drain go on."""
        with self._lock:
            self._users -= 1
            unused = None if self._users else self._unused
        if unused is not None:
            unused()

    def drain(self, unused: Callable[[], None]) -> None:
        """Take no more users, and call `unused` once the last has gone."""
        with self._lock:
            self._unused = unused
            busy = self._users
        if not busy:
            unused()

    def close(self) -> None:
        """Answer what is queued and free it; blocks until that is done."""
        self.batcher.close()
