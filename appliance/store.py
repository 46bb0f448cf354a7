"""Versions at rest.

Knows: `<root>/<model>/<number>/` with what was built and how it was proven. Rules: a version appears by
one rename and never changes, but for an engine made anew; numbers only grow; digests are checked before
anything is used. Leaves to others: building (`compiler`) and serving (`runtime`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from appliance.errors import StoreError, UnknownModel, UnknownVersion
from appliance.files import (
    exchange_directory,
    make_directory,
    publish_directory,
    sha256_file,
    write_file,
)
from appliance.manifest import Digest, FileEntry, Manifest, Precision
from appliance.marks import Marks
from appliance.proof import Proof, Trial
from appliance.staging import locked, one_at_a_time, staging
from appliance.tables import canonical_json, from_json
from appliance.version import ModelName, check_name

MANIFEST_NAME = "manifest.json"
RECORD_NAME = "version.json"
_STAGING = ".staging"
_BUILD_AGAIN = "build the bundle again; the new version gets the next number"
T = TypeVar("T")
Stamps: TypeAlias = Mapping[str, Mapping[str, str]]  # what engines are stamped with now, by kind
EngineKind: TypeAlias = Literal["onnxruntime", "onnxruntime-portable", "openvino", "tensorrt"]


class EngineEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The compiled engine: its kind and precision, file, digest, the stamp of what it was built with.

    `bounds`: lowest and highest value that the engine takes, by integer input, for others it would answer
    wrongly. `key` is of everything that the file depends on (`compiler.compiling.cache`), None where it is not known.
    """

    kind: EngineKind
    precision: Precision
    file: str
    sha256: Digest
    stamp: dict[str, str]
    bounds: dict[str, tuple[int, int]] = {}
    key: Digest | None = None


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a version got another engine because the one before no longer fitted this box.

    `at` is RFC 3339 UTC, `release` this software's, `engine_sha256` of the engine it had before.
    """

    at: str
    release: str
    engine_sha256: Digest


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `build` files beside the engine; `built` is RFC 3339 UTC.

    `warnings` are what seemed stale or wrong when it was built, `rebuilt` tells of the last time that
    its engine was made anew.
    """

    format: Literal[1] = 1
    model: ModelName
    bundle_sha256: Digest
    signer: Digest
    built: str
    release: str
    engine: EngineEntry
    fallback: EngineEntry | None = None
    proof: Proof
    trials: tuple[Trial, ...]
    warnings: tuple[str, ...] = ()
    rebuilt: Rebuilt | None = None
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version found in the store; files are named relative to `directory`."""

    directory: Path
    number: int
    record: VersionRecord
    manifest: Manifest


class Filed(NamedTuple):
    """The number of a version that was filed; `new` is False when its bundle had one already."""

    number: int
    new: bool


class Store:
    """All versions of all models below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Names of the models that have a version here, sorted."""
        if not self.root.is_dir():
            return []
        names = (path.name for path in self.root.iterdir() if not path.name.startswith("."))
        return sorted(name for name in names if self._numbers(name))

    def versions(self, model: str) -> list[int]:
        """Numbers of the model's versions, rising; UnknownModel when there is no such model."""
        numbers = self._numbers(check_name(model))
        if not numbers:
            raise UnknownModel(
                f"unknown model '{model}'",
                remedy=f"use one of {', '.join(known)}"
                if (known := self.models())
                else "build a bundle first",
            )
        return numbers

    def open(self, model: str, version: int) -> StoredVersion:
        """Read a version after checking every file's digest.

        Raises UnknownModel, UnknownVersion, or StoreError when a file is missing or was changed.
        """
        stored = self.describe(model, version)
        for item in stored.record.files:
            if not _intact(stored.directory / item.name, item):
                raise StoreError(
                    f"version {version} of '{model}': '{item.name}' is missing or was changed",
                    remedy=_BUILD_AGAIN,
                )
        return stored

    def describe(self, model: str, version: int) -> StoredVersion:
        """Read what a version says of itself, without checking its files; raises as `open`."""
        known = self.versions(model)
        if version not in known:
            raise UnknownVersion(
                f"model '{model}' has no version {version}",
                remedy=f"use one of {', '.join(map(str, known))}",
            )
        directory = self.root / model / str(version)
        record = _read(directory / RECORD_NAME, VersionRecord)
        manifest = _read(directory / MANIFEST_NAME, Manifest)
        return StoredVersion(directory=directory, number=version, record=record, manifest=manifest)

    def find(self, model: str, bundle_sha256: str, stamps: Stamps | None = None) -> int | None:
        """The number under which this very bundle is filed and intact, None when it is not.

        With `stamps`, only a version whose engine would be stamped the same today.
        """
        for number in self._numbers(check_name(model)):
            try:
                record = self.describe(model, number).record
                if record.bundle_sha256 == bundle_sha256 and _current(record.engine, stamps):
                    return self.open(model, number).number
            except StoreError:
                continue  # a damaged version is what building again mends
        return None

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """An empty directory to prepare a version in; whatever is left of it is removed.

        What a killed process left behind is removed by the next one that comes here.
        """
        make_directory(self.root)
        with staging(self.root / _STAGING) as directory:
            yield directory

    def one_build(
        self, *, wait_seconds_max: float, waiting: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Hold the right to build on this box; see `appliance.staging.one_at_a_time`."""
        path = self.root / _STAGING / "build.lock"
        return one_at_a_time(path, wait_seconds_max=wait_seconds_max, waiting=waiting)

    @property
    def marks(self) -> Marks:
        """The bundles that failed here."""
        return Marks(self.root / ".marks")

    @property
    def installs(self) -> Path:
        """Where the history of installs is kept (`appliance.installs`)."""
        return self.root / ".installs"

    @property
    def timings(self) -> Path:
        """Where builds for a GPU keep how fast its kernels were."""
        return self.root / ".timings"

    def file(
        self,
        staged: Path,
        manifest: Manifest,
        record: VersionRecord,
        stamps: Stamps | None = None,
    ) -> Filed:
        """Give the finished directory `staged` the model's next number.

        When its bundle was filed in the meantime (see `find`), that version's number is returned and
        `staged` stays where it is. Raises StateError when the disk refuses; then nothing has appeared.
        """
        _write(staged, manifest, record)
        with self._lock():
            known = self.find(record.model, record.bundle_sha256, stamps)
            if known is not None:
                return Filed(known, new=False)
            number = max(self._numbers(record.model), default=0) + 1
            publish_directory(staged, self.root / record.model / str(number))
        return Filed(number, new=True)

    def replace(self, staged: Path, stored: StoredVersion, record: VersionRecord) -> StoredVersion:
        """Put the finished directory `staged` in the place of a version, which goes back to `staged`.

        The number stays; at any moment, a power cut included, the version is the old or the new one.
        Raises StoreError when it was replaced meanwhile, StateError when the disk refuses.
        """
        assert record.bundle_sha256 == stored.record.bundle_sha256, "a version keeps its bundle"
        _write(staged, stored.manifest, record)
        model = stored.record.model
        with self._lock():
            if self.describe(model, stored.number).record != stored.record:
                raise StoreError(
                    f"version {stored.number} of '{model}' was replaced meanwhile",
                    remedy="try again",
                )
            exchange_directory(staged, stored.directory)
        return self.describe(model, stored.number)

    def _numbers(self, model: str) -> list[int]:
        """Numbers of the model's versions, rising; none for an unknown model."""
        try:
            names = [path.name for path in (self.root / model).iterdir()]
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self.root / _STAGING / "lock")


def _write(staged: Path, manifest: Manifest, record: VersionRecord) -> None:
    """What a version says of itself, into its directory."""
    write_file(staged / MANIFEST_NAME, canonical_json(manifest))
    write_file(staged / RECORD_NAME, msgspec.json.format(canonical_json(record)))


def _current(engine: EngineEntry, stamps: Stamps | None) -> bool:
    return stamps is None or stamps.get(engine.kind) == engine.stamp


def _intact(path: Path, item: FileEntry) -> bool:
    try:
        return sha256_file(path) == item.sha256
    except OSError:
        return False


def _read(path: Path, kind: type[T]) -> T:
    try:
        return from_json(path.read_bytes(), kind, StoreError, where=str(path))
    except OSError as error:
        told = f"cannot read {path}: {error.strerror or error}"
        raise StoreError(told, remedy=_BUILD_AGAIN) from error
    except StoreError as error:  # its remedy is for who writes such a file by hand; nobody does
        raise StoreError(str(error), remedy=_BUILD_AGAIN) from error
