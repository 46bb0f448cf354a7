"""A drift check of what a box served: from its log and its store to a report on disk.

Knows: which version to check, how far back to read, where reports go. Rules: reads only, so the runtime
need not be up; the same records give the same report, byte for byte, under the same name. Leaves to
others: statistics and verdicts (`appliance.drift`), drawing (`tui.commands.drift`).
"""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.config import StateConfig
from appliance.drift.check import VectorRecord, Window, check, vectors_from_records
from appliance.drift.report import DriftReport, Thresholds
from appliance.errors import DriftError
from appliance.files import write_file
from appliance.manifest import PROFILE_FILE
from appliance.profiles import Profile
from appliance.store import Store
from appliance.tables import canonical_json, from_json

_VALUE_BYTES = 4
# The log is read backwards in stretches of so many records, so that memory stays within bounds.
_STRETCH_RECORDS = 16_384

Progress = Callable[[int, int], None]


def check_served(
    state: StateConfig,
    model: str,
    *,
    version: int | None = None,
    rows: int,
    progress: Progress = lambda _done, _total: None,
) -> DriftReport:
    """Compare the last `rows` rows that `version` (the active one by default) served with its reference.

    `progress` is told (found, wanted) rows now and then. Raises UnknownModel, UnknownVersion, DriftError
    when there is nothing to check, StateError when there is no log.
    """
    with AuditReader(state.audit_log) as reader:
        number = _active(reader, model) if version is None else version
        reference = read_profile(Store(state.store), model, number)
        window = _window(
            reader, reference, model=model, version=number, rows=rows, progress=progress
        )
    # Seeded by what is recorded, so that the report can be made again from the same log.
    rng = np.random.default_rng(window.last_sequence)
    return check(window, reference, thresholds=Thresholds(), rng=rng)


def write_report(state: StateConfig, report: DriftReport) -> Path:
    """Write `report` as JSON below the state directory and return where; StateError on a full disk."""
    name = f"{report.model}-{report.version}-{report.first_sequence}-{report.last_sequence}.json"
    path = state.drift / name
    write_file(path, canonical_json(report))
    return path


def read_profile(store: Store, model: str, version: int) -> Profile:
    """The sealed reference profile of a version; UnknownModel, UnknownVersion, StoreError, DriftError."""
    stored = store.open(model, version)
    try:
        data = (stored.directory / PROFILE_FILE).read_bytes()
    except OSError as error:
        raise DriftError(
            f"version {version} of '{model}' has no reference profile: {error.strerror or error}",
            remedy="build its bundle again",
        ) from error
    return from_json(data, Profile, DriftError, where=f"{model} version {version}: {PROFILE_FILE}")


def _active(reader: AuditReader, model: str) -> int:
    deployment = reader.last_outcomes().get(model)
    if deployment is None or deployment.active is None:
        raise DriftError(
            f"no version of '{model}' is active",
            remedy="name one with --version, or activate one first",
        )
    return deployment.active


def _window(
    reader: AuditReader,
    reference: Profile,
    *,
    model: str,
    version: int,
    rows: int,
    progress: Progress,
) -> Window:
    if not reference.bins:
        raise DriftError(
            f"version {version} of '{model}' has no drift features",
            remedy="watch its traffic and latency instead",
        )
    width = len(reference.bins)
    records: deque[VectorRecord] = deque()
    seen, end = 0, reader.size()
    while end > 0 and seen < rows:
        start = max(0, end - _STRETCH_RECORDS)
        stretch = list(_vectors(reader, model, version, start, end))
        records.extendleft(reversed(stretch))
        seen += sum(len(record.vector) for record in stretch) // (_VALUE_BYTES * width)
        progress(min(seen, rows), rows)
        end = start
    return vectors_from_records(records, model=model, version=version, width=width, rows_max=rows)


def _vectors(
    reader: AuditReader, model: str, version: int, start: int, end: int
) -> Iterator[VectorRecord]:
    """The version's vectors among the records with start <= sequence < end."""
    entries = reader.records(
        model=model, category="inference", since_sequence=start, until_sequence=end
    )
    for entry in entries:
        record = entry.record
        if isinstance(record, Inference) and record.version == version:
            yield VectorRecord(entry.sequence, entry.wall_ns, model, version, record.vector)
