"""What must be true of a state directory after a crash or a fault, judged by the box's own rooms.

Knows: what each kind of promise means at rest. Rules: a check opens the directory as the next start would,
reads everything, works on it, and looks again; it says in words what is wrong. Leaves to others: how the
directory came about.
"""

from collections.abc import Iterable
from pathlib import Path

from appliance.audit.kinds import Gap
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.errors import ApplianceError
from appliance.signing import PublicKey
from appliance.store import Store
from tests.simulation.samples import manifest, version_record
from tests.simulation.workloads import GROUP, boot, config_of

AFTER = 1_000_000  # what the record says that is written after a crash


class Broken(Exception):
    """A law that does not hold, in words."""


def check(workload: str, state: Path, said: Iterable[str]) -> None:
    """Raise Broken when `state` does not keep what the workload was promised by what it `said`."""
    words = [line.split(" ", 2) for line in said]
    for line in words:
        if line[0] == "unexpected":
            raise Broken(" ".join(line))
    try:
        if workload.startswith(("log", "first")):
            _check_log(state, [(int(w[1]), int(w[2])) for w in words if w[0] == "held"])
        elif workload == "store":
            _check_store(state, words)
        else:
            _check_file(state, [int(w[1]) for w in words if w[0] == "wrote"])
    except ApplianceError as error:
        raise Broken(f"[{error.code}] {error}") from error


def _check_log(state: Path, held: list[tuple[int, int]]) -> None:
    with boot(state) as log:
        size = log.size
        written = log.append([Gap(count=AFTER, reason="after")])
        more = written.start - size  # a step of the clock may be recorded in front of it
        _claim(more in {0, 1}, "the next record does not follow the last")
    path = config_of(state).audit_log
    found = verify(path, PublicKey.load(config_of(state).box_key.with_suffix(".pub")))
    _claim(found.records == written.stop, "verify counts other records than the log")
    with AuditReader(path) as reader:
        records = {entry.sequence: entry.record for entry in reader.records()}
    groups = {at: each.count for at, each in records.items() if isinstance(each, Gap)}
    kept = min(records)
    for start, group in held:
        if start >= kept:
            there = [groups.get(at) for at in range(start, start + GROUP)]
            _claim(there == [group] * GROUP, f"record {start} was lost")
    _claim(groups.popitem() == (size + more, AFTER), "the last record is another")
    counts = list(groups.values())
    for at in range(0, len(counts), GROUP):
        _claim(counts[at : at + GROUP] == [counts[at]] * GROUP, "half a group was kept")


def _check_store(state: Path, words: list[list[str]]) -> None:
    store = Store(config_of(state).store)
    filed = {int(w[1]): w[2] for w in words if w[0] == "filed"}
    replaced = any(w[0] == "replaced" for w in words)
    there = store.versions("tiny") if "tiny" in store.models() else []
    for number in there:
        record = store.open("tiny", number).record
        _claim(record.bundle_sha256 == filed.get(number, record.bundle_sha256), "another bundle")
        if number == 1 and replaced:
            _claim(record.release == "0.2.0", "version 1 is the one before")
    _claim(set(filed) <= set(there), f"versions {sorted(set(filed) - set(there))} were lost")
    with store.stage() as staged:
        left = [path for path in staged.parent.iterdir() if path.is_dir() and path != staged]
        _claim(not left, "what a crash left in staging was not swept")
        _fill_after(staged)
        number = store.file(staged, manifest(), version_record("f" * 64)).number
    _claim(number == max(there, default=0) + 1, f"the next version is {number} after {there}")
    store.open("tiny", number)


def _fill_after(staged: Path) -> None:
    from tests.simulation.workloads import _fill

    _fill(staged, b"engine")


def _check_file(state: Path, wrote: list[int]) -> None:
    path = state / "deep" / "down" / "file"
    content = path.read_bytes() if path.exists() else b""
    _claim(bool(content) or not wrote, "the file was lost")
    allowed = [b"%d" % number * 700 for number in range(max(wrote, default=0), 6)]
    _claim(not content or content in allowed, "the file is neither the old nor the new one")


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
