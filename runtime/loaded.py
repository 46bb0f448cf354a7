"""A version that can answer.

Knows: its servable, its queue, and how many requests use it. Rules: whoever uses it holds it, on any thread,
so that no swap closes it meanwhile; once it is being drained nobody can hold it any more. Leaves to others:
loading it (`runtime.loading`), freeing it (`runtime.draining`).
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from appliance.deployment import Tuning
from appliance.store import StoredVersion
from runtime.batching import Batcher
from runtime.checking import Checked, check_request
from runtime.codec import Call, Head, Sequence
from runtime.gpu import current
from runtime.holding import is_on_gpu
from runtime.places import Place
from runtime.router import Route
from runtime.sequences import Sequences
from runtime.servable import Servable

HEADERS_MAX = 256  # different headers that a loaded version remembers, each of at most:
HEADER_BYTES_MAX = 4096


@dataclass(slots=True, eq=False)
class Loaded:
    """A loaded version with its queue, and how many requests are using it.

    `stored` names the engine that is loaded; `stale` says why that is not the version's own, else "".
    `tuning` is what it was loaded under, `failing` why it fails its own row, else "".
    `sequences` are those of a model with states, None of one without. `checked` remembers what requests of one header ask for.
    """

    stored: StoredVersion
    servable: Servable
    batcher: Batcher
    recipe_sha256: str
    stale: str = ""
    tuning: Tuning | None = None
    failing: str = ""
    sequences: Sequences | None = None
    checked: dict[bytes, Checked] = field(default_factory=dict)
    _users: int = 0
    _unused: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def trouble(self) -> str:
        """Why it cannot answer as it should, "" when it can."""
        return (
            self.batcher.trouble
            or self.failing
            or (current.trouble() if is_on_gpu(self.stored) else "")
        )

    def asked(self, call: Call, header: bytes | None, heads: Mapping[str, Head]) -> Checked:
        """What a request asks: found out once for all of one `header`, None for one that shares none.

        Raises RequestError or RequestLimit.
        """
        interface = self.servable.interface
        if header is None or len(header) > HEADER_BYTES_MAX:
            return check_request(call, heads, interface)
        found = self.checked.get(header)
        if found is None:
            found = check_request(call, heads, interface)
            if len(self.checked) >= HEADERS_MAX:
                self.checked.clear()
            self.checked[header] = found
        return found

    def end_sequence(self, sequence: Sequence | None, name: str) -> None:
        """End the caller `name`'s `sequence`, if it has one: an answer of it was withdrawn."""
        if self.sequences is not None and sequence is not None:
            self.sequences.end((name, sequence.id))

    def submitting(
        self, sequence: Sequence | None, name: str, route: Route
    ) -> Callable[..., Place]:
        """How a request that came by `route` reaches its queue; called as `Batcher.submit`.

        For a model with states that is by its place in the caller `name`'s `sequence`.
        """
        if self.sequences is None:
            return self.batcher.submit
        return partial(
            self.sequences.submit, sequence=sequence, name=name, version=self, route=route
        )

    def hold(self) -> bool:
        """Count one more user, unless it is being drained: then choose again."""
        with self._lock:
            if self._unused is not None:
                return False
            self._users += 1
            return True

    def hold_again(self) -> bool:
        """Count one more user beside another, also while it is being drained; False when there is none."""
        with self._lock:
            self._users += bool(self._users)
            return self._users > 0

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

    def check(self) -> None:
        """Look after its lanes, its queue and its sequences; to be called about every second."""
        self.batcher.check()
        if self.sequences is not None:
            self.sequences.check()

    def forget(self) -> None:
        """Let none of its sequences go on."""
        if self.sequences is not None:
            self.sequences.forget()

    def close(self) -> None:
        """Forget its sequences, answer what is queued and free it; blocks until that is done."""
        self.forget()
        self.batcher.close()
