"""Engines of earlier versions, used again where nothing that they depend on has changed.

Knows: what an engine file depends on, and how one is found. Rules: an engine is the same only when its key
is, which names the model's bytes, recipe, interface, ranges, precision, library, processor and this
release; a damaged file is none; what is found is proven like what was compiled. Leaves to others:
compiling (`targets`), proving (`candidates`).
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.errors import ApplianceError
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

if TYPE_CHECKING:  # they import what compiles
    from compiler.opening.source import Source
    from compiler.targets import Target
    from compiler.targets.target import Refusal


def engine_key(
    manifest: Manifest, kind: str, precision: Precision, stamp: dict[str, str], threads: int
) -> str:
    """SHA-256, 64 hex digits, of everything that an engine compiled from `manifest` depends on."""
    digests = {item.name: item.sha256 for item in manifest.files}
    parts = {
        "model": digests[MODEL_FILE],
        "ranges": digests.get(CALIBRATION_FILE) if precision is Precision.INT8 else None,
        "recipe": recipe_sha256(manifest),
        "interface": manifest.engine,
        "kind": kind,
        "precision": precision,
        "stamp": stamp,
        "threads": threads or len(os.sched_getaffinity(0)),
        "release": release(),
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCache:
    """The engines of a model's versions in `store`, for a bundle that says `manifest`."""

    store: Store
    manifest: Manifest
    threads: int

    def find(
        self, kind: str, precision: Precision, stamp: dict[str, str]
    ) -> tuple[Path, EngineEntry] | None:
        """An intact engine file with the key that such an engine has now, and what is said of it."""
        key = engine_key(self.manifest, kind, precision, stamp, self.threads)
        model = self.manifest.model
        if model not in self.store.models():
            return None
        for number in reversed(self.store.versions(model)):
            try:
                stored = self.store.describe(model, number)
            except ApplianceError:
                continue  # a damaged version holds nothing of use
            for entry in (stored.record.engine, stored.record.fallback):
                if entry is not None and entry.key == key:
                    path = stored.directory / entry.file
                    if _intact(path, entry.sha256):
                        return path, entry
        return None


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


def _intact(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except OSError:
        return False
