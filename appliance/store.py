"""Versions at rest.

Knows: `<root>/<model>/<number>/` with what was built and how it was proven. Rules: a version appears by
one rename and never changes; numbers only grow; digests are checked before anything is used. Leaves to
others: building (`compiler`) and serving (`runtime`).
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from appliance.errors import StoreError, UnknownModel, UnknownVersion
from appliance.files import (
    make_directory,
    publish_directory,
    sha256_file,
    unwritable,
    write_file,
)
from appliance.manifest import Digest, FileEntry, Manifest, Precision
from appliance.proof import Proof, Trial
from appliance.tables import canonical_json, from_json
from appliance.version import ModelName, check_name

MANIFEST_NAME = "manifest.json"
RECORD_NAME = "version.json"
_STAGING = ".staging"
T = TypeVar("T")
Stamps: TypeAlias = Mapping[str, Mapping[str, str]]  # what engines are stamped with now, by kind


class EngineEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The compiled engine: its kind and precision, file, digest, the stamp of what it was built with."""

    kind: Literal["onnxruntime", "openvino"]
    precision: Precision
    file: str
    sha256: Digest
    stamp: dict[str, str]


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `build` files beside the engine; `built` is RFC 3339 UTC.

    `warnings` are what seemed stale or wrong when it was built.
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
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version found in the store; files are named relative to `directory`."""

    directory: Path
    number: int
    record: VersionRecord
    manifest: Manifest

    @property
    def engine_path(self) -> Path:
        """Where the engine's bytes are."""
        return self.directory / self.record.engine.file


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
                remedy=f"use one of {known}"
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
                    remedy="build the bundle again; the new version gets the next number",
                )
        return stored

    def describe(self, model: str, version: int) -> StoredVersion:
        """Read what a version says of itself, without checking its files; raises as `open`."""
        known = self.versions(model)
        if version not in known:
            raise UnknownVersion(
                f"model '{model}' has no version {version}", remedy=f"use one of {known}"
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
        parent = make_directory(self.root / _STAGING)
        try:
            with self._lock():
                _sweep(parent)
                directory = Path(tempfile.mkdtemp(dir=parent))
                held = _hold(directory)
        except OSError as error:
            raise unwritable(parent, error) from error
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(held)

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
        write_file(staged / MANIFEST_NAME, canonical_json(manifest))
        write_file(staged / RECORD_NAME, msgspec.json.format(canonical_json(record)))
        with self._lock():
            known = self.find(record.model, record.bundle_sha256, stamps)
            if known is not None:
                return Filed(known, new=False)
            number = max(self._numbers(record.model), default=0) + 1
            publish_directory(staged, self.root / record.model / str(number))
        return Filed(number, new=True)

    def _numbers(self, model: str) -> list[int]:
        """Numbers of the model's versions, rising; none for an unknown model."""
        try:
            names = [path.name for path in (self.root / model).iterdir()]
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / _STAGING / "lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _hold(directory: Path) -> int:
    """Lock a staging directory for as long as the returned handle is open: this process lives."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _sweep(parent: Path) -> None:
    """Remove the staging directories whose process is gone: nobody holds them."""
    for directory in (path for path in parent.iterdir() if path.is_dir()):
        try:
            handle = _hold(directory)
        except OSError:
            continue  # in use
        shutil.rmtree(directory, ignore_errors=True)
        os.close(handle)


def _current(engine: EngineEntry, stamps: Stamps | None) -> bool:
    return stamps is None or stamps.get(engine.kind) == engine.stamp


def _intact(path: Path, item: FileEntry) -> bool:
    try:
        return sha256_file(path) == item.sha256
    except OSError:
        return False


def _read(path: Path, kind: type[T]) -> T:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror or error}",
            remedy="build the bundle again; the new version gets the next number",
        ) from error
    return from_json(data, kind, StoreError, where=str(path))
