"""Engines of earlier versions, used again where nothing that they depend on has changed.

Knows: what an engine file depends on, and how one is found. Rules: an engine is the same only when its key
is, which names the model's bytes, recipe, interface, ranges, precision, library, processor and this
release; a damaged file is none; what is found is proven like what was compiled. Leaves to others:
compiling (`targets`), proving (`candidates`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.config import GpuBuildConfig
from appliance.errors import ApplianceError, EngineLoad
from appliance.files import sha256_file, unwritable
from appliance.manifest import (
    CALIBRATION_FILE,
    MODEL_FILE,
    Manifest,
    Precision,
    recipe_sha256,
)
from appliance.store import EngineEntry, Store
from appliance.tables import canonical_json
from appliance.tensors import Interface
from appliance.version import release
from compiler.targets.tensorrt import STRIPPED
from runtime.gpu.engine_file import EngineFile

if TYPE_CHECKING:  # they import what compiles
    from compiler.opening.source import Source
    from compiler.targets import Target
    from compiler.targets.target import Refusal


def engine_key(
    manifest: Manifest,
    kind: str,
    precision: Precision,
    stamp: dict[str, str],
    *,
    threads: int,
    gpu: GpuBuildConfig | None = None,
) -> str:
    """SHA-256, 64 hex digits, of everything that an engine compiled from `manifest` depends on.

    One for a GPU depends on its settings, and not on threads.
    """
    digests = {item.name: item.sha256 for item in manifest.files}
    parts: dict[str, object] = {
        "model": digests[MODEL_FILE],
        "ranges": digests.get(CALIBRATION_FILE) if precision is Precision.INT8 else None,
        "recipe": recipe_sha256(manifest),
        "interface": manifest.engine,
        "kind": kind,
        "precision": precision,
        "stamp": stamp,
        "release": release(),
    }
    if kind == "tensorrt":
        parts["gpu"] = gpu
    else:
        parts["threads"] = threads or len(os.sched_getaffinity(0))
    return hashlib.sha256(canonical_json(parts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCache:
    """The engines of a model's versions in `store`, for a bundle that says `manifest`."""

    store: Store
    manifest: Manifest
    threads: int
    gpu: GpuBuildConfig | None = None

    def find(
        self, kind: str, precision: Precision, stamp: dict[str, str]
    ) -> tuple[Path, EngineEntry] | None:
        """An intact engine file with the key that such an engine has now, and what is said of it."""
        key = engine_key(self.manifest, kind, precision, stamp, threads=self.threads, gpu=self.gpu)
        found = (item for item in self.engines() if item[1].key == key and _intact(*item))
        return next(found, None)

    def stripped(self, structure: str) -> bytes | None:
        """The plan without weights of an intact engine for a GPU of that structure."""
        for path, entry in self.engines():
            if entry.kind == "tensorrt" and _intact(path, entry):
                plan = _stripped(path, structure)
                if plan is not None:
                    return plan
        return None

    def engines(self) -> Iterator[tuple[Path, EngineEntry]]:
        """Every engine of the model's versions, the newest version's first."""
        model = self.manifest.model
        if model not in self.store.models():
            return
        for number in reversed(self.store.versions(model)):
            try:
                stored = self.store.describe(model, number)
            except ApplianceError:
                continue  # a damaged version holds nothing of use
            for entry in (stored.record.engine, stored.record.fallback):
                if entry is not None:
                    yield stored.directory / entry.file, entry


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTarget:
    """A target that first looks for its engine among those of earlier versions."""

    target: "Target"
    cache: EngineCache

    @property
    def kind(self) -> str:
        """See `Target.kind`."""
        return self.target.kind

    def stamp(self) -> dict[str, str]:
        """See `Target.stamp`."""
        return self.target.stamp()

    def unable(self, precision: Precision) -> str | None:
        """See `Target.unable`."""
        return self.target.unable(precision)

    def refusals(
        self, source: "Source", interface: Interface, precision: Precision
    ) -> "tuple[Refusal, ...]":
        """See `Target.refusals`."""
        return self.target.refusals(source, interface, precision)

    def compile(
        self,
        source: "Source",
        directory: Path,
        interface: Interface,
        threads: int,
        precision: Precision,
    ) -> EngineEntry:
        """See `Target.compile`."""
        found = self.cache.find(self.kind, precision, self.stamp())
        if found is None:
            return self.target.compile(source, directory, interface, threads, precision)
        earlier, entry = found
        path = directory / earlier.name
        try:
            shutil.copyfile(earlier, path)
            digest = sha256_file(path)
        except OSError as error:
            raise unwritable(path, error) from error
        return msgspec.structs.replace(entry, sha256=digest, key=None)


def _intact(path: Path, entry: EngineEntry) -> bool:
    try:
        return sha256_file(path) == entry.sha256
    except OSError:
        return False


def _stripped(path: Path, structure: str) -> bytes | None:
    """The part of an engine file that holds its plan without weights, if it is of that structure."""
    try:
        file = EngineFile(path)
    except EngineLoad:
        return None  # of another release's layout
    try:
        if file.header.structure != structure or STRIPPED not in file.header.parts:
            return None
        return bytes(file.part(STRIPPED))
    finally:
        file.close()
