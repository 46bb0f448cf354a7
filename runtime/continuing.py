"""Where sequences go on: which version of a model has one.

Knows: versions that are being drained and still have sequences. Rules: a sequence stays with the version that
began it for as long as that one lives, whatever is decided meanwhile; one that begins anew is forgotten
elsewhere; a request that pins a version means that version's own sequences. Leaves to others: the
sequences themselves (`runtime.sequences`), who answers what belongs to none (`runtime.swap`).
"""

from collections.abc import Iterable, Iterator, Mapping

from appliance.clock import Clock
from appliance.config import SequencesConfig
from appliance.states import state_bytes, state_specs
from appliance.store import StoredVersion
from runtime.batching import Batcher
from runtime.codec import Sequence
from runtime.loaded import Loaded
from runtime.router import Route
from runtime.sequences import Sequences


class Continuing:
    """`find` may be called on any thread, all else on the event loop."""

    def __init__(self, config: SequencesConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        # Replaced as a whole, never changed: other threads read it.
        self._leaving: tuple[Loaded, ...] = ()

    def sequences(self, stored: StoredVersion, batcher: Batcher) -> Sequences | None:
        """Room for the sequences of a version that was loaded; None when its model has no states."""
        manifest = stored.manifest
        if not manifest.states:
            return None
        return Sequences(
            batcher,
            self._config,
            self._clock,
            model=stored.record.model,
            state_bytes=state_bytes(state_specs(manifest.engine, manifest.states)),
        )

    def find(
        self,
        model: str,
        serving: Mapping[int, Loaded],
        requested: str,
        sequence: Sequence,
        caller: str,
    ) -> tuple[Route, Loaded] | None:
        """The version that has the caller's sequence, held; None when a version must be chosen.

        It may be one of `serving` or one that leaves. One that begins anew is forgotten everywhere.
        """
        name = (caller, sequence.id)
        for loaded, sequences in self._among(model, serving.values()) if not requested else ():
            route = sequences.route(name)
            if route is None or route.reason == "pinned":
                continue
            if sequence.start:
                sequences.leave(name)
            elif loaded.hold_again():
                return route, loaded
        return None

    def leave(self, gone: Iterable[Loaded]) -> None:
        """Versions are about to be drained: their sequences go on."""
        stateful = (loaded for loaded in gone if loaded.sequences is not None)
        self._leaving = (*self._leaving, *stateful)

    def left(self, loaded: Loaded) -> None:
        """A version is closed."""
        self._leaving = tuple(other for other in self._leaving if other is not loaded)

    def check(self) -> None:
        """Let versions that are being drained forget idle sequences, and their lanes be looked after."""
        for loaded in self._leaving:
            loaded.check()

    def _among(self, model: str, serving: Iterable[Loaded]) -> Iterator[tuple[Loaded, Sequences]]:
        leaving = (other for other in self._leaving if other.stored.record.model == model)
        for loaded in (*serving, *leaving):
            if loaded.sequences is not None:
                yield loaded, loaded.sequences
