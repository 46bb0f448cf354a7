"""The history of what was to be installed here, kept apart from every log that rotates.

Knows: `<store>/.installs/`, one small file a try, and the states that a try goes through. Rules: a state is
durable before the work that it names begins; only whoever holds the right to build changes a try that is
under way, so one found under way then was cut short; what was filed, or cannot be read and may have been, is never
removed, of other tries the oldest make room. Leaves to others: the work (`compiler.build`), versions at rest (`appliance.store`).
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ApplianceError, BuildMarked, StoreError
from appliance.files import make_directory, write_file
from appliance.manifest import Digest, Manifest
from appliance.staging import locked
from appliance.tables import canonical_json, from_json

OTHERS_MAX = 1024  # tries that filed nothing
_TEXT_CHARACTERS_MAX = 4000


class InstallState(StrEnum):
    """How far a try came.

    verified: the bundle is in staging, its signature holds. building: a child compiles and proves it.
    proven: its engine stands, the version is about to appear. filed: it is a version. refused: the bundle
    was not let in. failed: it was, and nothing could be made of it. interrupted: this was found cut short.
    """

    VERIFIED = "verified"
    BUILDING = "building"
    PROVEN = "proven"
    FILED = "filed"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


UNDER_WAY = frozenset({InstallState.VERIFIED, InstallState.BUILDING, InstallState.PROVEN})


class Install(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One try; `began` and `changed` are RFC 3339 UTC, `at` the state in which it failed or was cut short.

    `told` says that its end was left for the audit log.
    What was not known when it ended is empty or None: a refused bundle may not even tell its model.
    """

    format: Literal[1] = 1
    number: Annotated[int, msgspec.Meta(ge=1)]
    model: str = ""
    bundle_sha256: Digest | None = None
    signer: str | None = None
    signed_at: str | None = None
    edition: int | None = None
    state: InstallState
    at: InstallState | None = None
    version: int | None = None
    engine_sha256: Digest | None = None
    code: str = ""
    message: str = ""
    told: bool = False
    release: str
    began: str
    changed: str


class Installs:
    """The history in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[Install]:
        """Every try that can be read, the oldest first."""
        return [item for path in self._paths() if (item := _read(path)) is not None]

    def begin(self, *, began: str, release: str, state: InstallState, **known: object) -> Install:
        """Open a try with the next number. Raises StateError when the disk refuses."""
        make_directory(self._directory)
        with locked(self._directory / "lock"):
            paths = self._paths()
            number = int(paths[-1].stem) + 1 if paths else 1
            install = Install(
                number=number, began=began, changed=began, release=release, state=state
            )
            install = msgspec.structs.replace(install, **known)
            self._write(install)
            self._make_room()
        return install

    def change(self, install: Install, *, changed: str, **now: object) -> Install:
        """Write a try's next state. Raises StateError when the disk refuses."""
        install = msgspec.structs.replace(install, changed=changed, **now)
        self._write(install)
        return install

    def untold(self) -> list[Install]:
        """The tries that have ended and are not in the audit log yet."""
        return [item for item in self.all() if not item.told and item.state not in UNDER_WAY]

    def end_interrupted(self, *, changed: str, filed: Callable[[Install], int | None]) -> None:
        """Tell of every try that is under way how it ended, holding the right to build.

        `filed` gives the number of the version that a proven one became before it was cut short.
        """
        for install in self.all():
            if install.state not in UNDER_WAY:
                continue
            number = filed(install) if install.state is InstallState.PROVEN else None
            state = InstallState.INTERRUPTED if number is None else InstallState.FILED
            cut = install.state if number is None else None
            self.change(install, changed=changed, state=state, at=cut, version=number)

    def check_interruptions(self, bundle_sha256: str, release: str, most: int) -> None:
        """Raise BuildMarked when this bundle's last `most` tries by this release were cut short."""
        tries = [
            item
            for item in self.all()
            if item.bundle_sha256 == bundle_sha256 and item.release == release
        ]
        last = tries[-most:]
        if len(last) == most and all(item.state is InstallState.INTERRUPTED for item in last):
            states = ", ".join(str(item.at) for item in last)
            raise BuildMarked(
                f"the last {most} builds of this bundle were cut short, while {states}",
                remedy="see what killed them (memory, power, a timer); to try it once more, add --again",
            )

    def newest_edition(self, model: str) -> int | None:
        """The highest edition of `model` that was ever filed here; None for none."""
        editions = [
            item.edition
            for item in self.all()
            if item.model == model and item.state is InstallState.FILED and item.edition is not None
        ]
        return max(editions, default=None)

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self._directory.glob("*.json") if path.stem.isdecimal())
        except OSError:
            return []

    def _write(self, install: Install) -> None:
        data = msgspec.json.format(canonical_json(install)) + b"\n"
        write_file(self._directory / f"{install.number:08d}.json", data)

    def _make_room(self) -> None:
        others = [
            path
            for path in self._paths()
            if (item := _read(path)) is not None
            and item.state is not InstallState.FILED
            and item.state not in UNDER_WAY
        ]
        for path in others[:-OTHERS_MAX]:
            path.unlink(missing_ok=True)


def known_of(manifest: Manifest) -> dict[str, object]:
    """What a try keeps of a manifest."""
    return {"model": manifest.model, "edition": manifest.edition}


def told_of(error: BaseException) -> dict[str, object]:
    """What a try keeps of how it failed."""
    code = error.code if isinstance(error, ApplianceError) else "unexpected"
    return {"code": code, "message": str(error)[:_TEXT_CHARACTERS_MAX]}


def _read(path: Path) -> Install | None:
    """A try that was damaged tells nothing and stops nobody."""
    try:
        return from_json(path.read_bytes(), Install, StoreError, where=str(path))
    except (OSError, StoreError):
        return None
