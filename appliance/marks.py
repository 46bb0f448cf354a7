"""Bundles that failed here, so that none is tried again unasked.

Knows: what is kept of a failure, and under which conditions it counts. Rules: a mark counts only while
nothing that could change the outcome has changed; the oldest marks make room for new ones. Leaves to
others: which failures are a bundle's own (`compiler.build`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.errors import ApplianceError, BuildMarked, StoreError
from appliance.files import write_file
from appliance.manifest import Digest
from appliance.tables import canonical_json, from_json
from appliance.version import ModelName

MARKS_MAX = 256
_TEXT_CHARACTERS_MAX = 4000


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One failure; `failed` is RFC 3339 UTC, `stamps` what engines would have been stamped with.

    `conditions_sha256` is of everything that the outcome depended on beside the bundle.
    """

    format: int = 1
    model: ModelName
    bundle_sha256: Digest
    failed: str
    code: str
    message: str
    remedy: str
    stamps: dict[str, dict[str, str]]
    conditions_sha256: Digest


class Marks:
    """The marks in `directory`, one file a bundle."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def check(self, bundle_sha256: str, conditions: object) -> None:
        """Raise BuildMarked when this bundle failed under the same conditions (any plain data)."""
        mark = self.find(bundle_sha256)
        if mark is None or mark.conditions_sha256 != _digest(conditions):
            return
        raise BuildMarked(
            f"this bundle failed here on {mark.failed}: [{mark.code}] {mark.message}",
            remedy=f"{mark.remedy}; to try it once more as it is, add --again",
        )

    def find(self, bundle_sha256: str) -> Mark | None:
        """The bundle's mark, None when there is none that can be read."""
        path = self._path(bundle_sha256)
        try:
            return from_json(path.read_bytes(), Mark, StoreError, where=str(path))
        except (OSError, StoreError):
            return None  # a mark that was damaged costs a build, nothing else

    def put(
        self,
        error: ApplianceError,
        *,
        model: str,
        bundle_sha256: str,
        failed: str,
        stamps: Mapping[str, Mapping[str, str]],
        conditions: object,
    ) -> None:
        """Keep a failure. Raises StateError when the disk refuses."""
        mark = Mark(
            model=model,
            bundle_sha256=bundle_sha256,
            failed=failed,
            code=error.code,
            message=str(error)[:_TEXT_CHARACTERS_MAX],
            remedy=error.remedy[:_TEXT_CHARACTERS_MAX],
            stamps={kind: dict(stamp) for kind, stamp in stamps.items()},
            conditions_sha256=_digest(conditions),
        )
        write_file(self._path(bundle_sha256), msgspec.json.format(canonical_json(mark)))
        kept = sorted(self._directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-MARKS_MAX]:
            path.unlink(missing_ok=True)

    def clear(self, bundle_sha256: str) -> None:
        """Forget the bundle's failure."""
        self._path(bundle_sha256).unlink(missing_ok=True)

    def _path(self, bundle_sha256: str) -> Path:
        return self._directory / f"{bundle_sha256}.json"


def _digest(conditions: object) -> str:
    return hashlib.sha256(canonical_json(conditions)).hexdigest()
