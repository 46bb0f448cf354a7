"""One try to install a bundle, and its line in the history.

Knows: when which state is written. Rules: a state is durable before the act that it names begins; a try that
was cut short is told as such by whoever builds next, and as filed where its version had appeared. Leaves to
others: letting in (`admission`), building (`build`), the history's files (`appliance.installs`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from appliance.audit.kinds import Installed
from appliance.bundle import Header, open_bundle
from appliance.clock import Clock, timestamp
from appliance.config import Config
from appliance.errors import ApplianceError, BundleError, StateError, StoreError
from appliance.files import chunks, make_directory, sha256_parts
from appliance.installs import Install, Installs, InstallState, known_of, told_of
from appliance.manifest import Manifest
from appliance.notes import DIRECTORY_MODE, leave, notes_directory
from appliance.store import Store
from appliance.trust import TrustStore
from appliance.version import release
from compiler.admission import Admission
from compiler.intake import TakenIn, take_in


class Step(Protocol):
    """Writes the next state of a try, and what is known by then."""

    def __call__(self, state: InstallState, **now: object) -> None:
        """Raises StateError when the disk refuses."""


class Installing:
    """One try to install, and its line in the history.

    Everything that the history tells is durable before the act that it names begins.
    """

    def __init__(self, store: Store, config: Config, clock: Clock) -> None:
        self.history = Installs(store.installs)
        self._store, self._config, self._clock = store, config, clock

    def admitted(self, bundle: Path, trust: TrustStore, staged: Path) -> TakenIn:
        """The bundle in `staged`, if it may come in; a refusal is kept.

        Raises BundleError and its kinds, StateError.
        """
        admission = Admission(
            trust, self._config.bundles, release=release(), wall_ns=self._clock.wall_ns()
        )

        def admit(header: Header, manifest: Manifest) -> None:
            admission.check_signer(header, manifest)
            admission.check_box(manifest)

        try:
            taken = take_in(bundle, trust.keys(), staged, admit)
            admission.check_source(staged, taken.manifest)
        except BundleError as error:
            self._refused(bundle, error)
            raise
        return taken

    def settle(self) -> None:
        """Tell what became of tries that were cut short, holding the right to build.

        Raises StateError when nothing could be left for the audit log: then nothing is built.
        """
        make_directory(notes_directory(self._config.state), mode=DIRECTORY_MODE)
        self.history.end_interrupted(changed=self._now(), filed=self._filed)
        for install in self.history.untold():
            self._tell(install)

    def newest_edition(self, model: str) -> int | None:
        """The highest edition of `model` that was ever filed here, by history and store; None for none.

        Each makes up for what was lost of the other.
        """
        known = [self.history.newest_edition(model)]
        for number in self._store.versions(model) if model in self._store.models() else ():
            with suppress(StoreError):  # a damaged version says nothing
                known.append(self._store.describe(model, number).manifest.edition)
        return max((edition for edition in known if edition is not None), default=None)

    @contextmanager
    def trying(self, taken: TakenIn, *, again: bool) -> Iterator[Step]:
        """Keep a line of the try; what is yielded writes its next state.

        Raises BuildMarked when the bundle's last tries were all cut short, unless `again`.
        """
        most = self._config.bundles.interruptions_max
        if not again:
            self.history.check_interruptions(taken.sha256, release(), most)
        install = self.history.begin(
            began=self._now(),
            release=release(),
            state=InstallState.VERIFIED,
            bundle_sha256=taken.sha256,
            signer=taken.signer,
            signed_at=taken.signed_at,
            **known_of(taken.manifest),
        )

        def step(state: InstallState, **now: object) -> None:
            nonlocal install
            install = self.history.change(install, changed=self._now(), state=state, **now)

        try:
            yield step
        except ApplianceError as error:
            # A disk that takes no more must not hide why; the try is told as cut short the next time.
            with suppress(StateError):
                step(**self._ended(install, error))
                self._tell(install)
            raise
        self._tell(install)

    def _ended(self, install: Install, error: ApplianceError) -> dict[str, Any]:
        """What a try that met `error` came to: filed, where its version had appeared all the same."""
        number = self._filed(install) if install.state is InstallState.PROVEN else None
        if number is not None or install.state is InstallState.FILED:
            return {"state": InstallState.FILED, "version": number or install.version}
        early = install.state is InstallState.VERIFIED and isinstance(error, BundleError)
        state = InstallState.REFUSED if early else InstallState.FAILED
        return {"state": state, "at": install.state, **told_of(error)}

    def _refused(self, bundle: Path, error: BundleError) -> None:
        try:
            with open_bundle(bundle) as file:
                digest = sha256_parts(chunks(file))
        except BundleError:
            return  # there is no such file, or none that could be a bundle
        install = self.history.begin(
            began=self._now(),
            release=release(),
            state=InstallState.REFUSED,
            bundle_sha256=digest,
            **told_of(error),
        )
        self._tell(install)

    def _tell(self, install: Install) -> None:
        """Leave how a try ended for the audit log, which the runtime alone writes.

        Whoever is killed in between leaves it to the next build: it is told at least once.
        """
        digest, engine = install.bundle_sha256, install.engine_sha256
        assert digest is not None, "a try begins with a bundle that was read"
        leave(
            self._config.state,
            Installed(
                model=install.model,
                version=install.version or 0,
                bundle_sha256=digest,
                state=install.state,
                signer=install.signer or "",
                engines=() if engine is None else (engine,),
                message=f"[{install.code}] {install.message}" if install.code else "",
                by="",  # the runtime says: the owner of the note
            ),
        )
        self.history.change(install, changed=install.changed, told=True)

    def _filed(self, install: Install) -> int | None:
        """The version that a proven try became before it was cut short."""
        known = install.model in self._store.models()
        for number in self._store.versions(install.model) if known else ():
            try:
                record = self._store.describe(install.model, number).record
            except StoreError:
                continue
            made = (install.bundle_sha256, install.engine_sha256)
            if (record.bundle_sha256, record.engine.sha256) == made:
                return number
        return None

    def _now(self) -> str:
        return timestamp(self._clock.wall_ns())
