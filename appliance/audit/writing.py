"""What a record becomes when it is written: an entry at a time, its row, or an error that tells why not.

Knows: the times of an entry and when the wall clock stepped between two. Rules: a clock that is only slewed is no
step; a record over the limit is refused before anything is written. Leaves to others: writing (`audit.log`).
"""

from typing import NamedTuple

from appliance.audit.kinds import AnyRecord, ClockStep
from appliance.audit.record import Entry, encode
from appliance.audit.schema import Row, row_of
from appliance.audit.tree import leaf_hash
from appliance.clock import Clock
from appliance.errors import AuditUnwritable
from appliance.signing import PublicKey

# A record is small; one this large is a mistake that must not fill the disk.
RECORD_BYTES_MAX = 16 << 20
# A clock that is slewed drifts by 500 parts in a million at most (adjtimex(2)); what goes beyond is a step.
CLOCK_STEP_NS, CLOCK_SLEW_PER_MILLE = 1_000_000_000, 1
_DISK_REMEDY = "check the disk: `journalctl -k` shows what it reported"


class Moment(NamedTuple):
    """One instant by both clocks, in nanoseconds."""

    wall_ns: int
    monotonic_ns: int


class Times:
    """The times of a log's entries, written in the boot `boot_id`."""

    def __init__(self, clock: Clock, boot_id: str) -> None:
        self._clock = clock
        self._boot_id = boot_id
        self._last: Moment | None = None

    def go_on(self, last: Entry | None) -> None:
        """Go on after the newest entry of a log, None when there is none in this file.

        Of another boot only a clock that went back can be told from one that went on.
        """
        if last is None:
            return
        if last.boot_id == self._boot_id:
            self._last = Moment(last.wall_ns, last.monotonic_ns)
        elif self._clock.wall_ns() < last.wall_ns:
            self._last = Moment(last.wall_ns, self._clock.monotonic_ns())

    def now(self) -> tuple[Moment, list[ClockStep]]:
        """This moment, and the record of a step of the wall clock since the last one that was kept."""
        now = Moment(self._clock.wall_ns(), self._clock.monotonic_ns())
        if self._last is None:
            return now, []
        elapsed_ns = now.monotonic_ns - self._last.monotonic_ns
        step_ns = now.wall_ns - self._last.wall_ns - elapsed_ns
        if abs(step_ns) <= CLOCK_STEP_NS + elapsed_ns * CLOCK_SLEW_PER_MILLE // 1000:
            return now, []
        return now, [ClockStep(step_ns=step_ns)]

    def keep(self, moment: Moment) -> None:
        """The entries of `moment` are written."""
        self._last = moment

    def entry(self, sequence: int, moment: Moment, public: PublicKey, record: AnyRecord) -> Entry:
        """`record` in its place, in the log whose checkpoints `public` signs."""
        return Entry(
            sequence=sequence,
            wall_ns=moment.wall_ns,
            monotonic_ns=moment.monotonic_ns,
            boot_id=self._boot_id,
            box=public.key_id,
            record=record,
        )


def row_from(entry: Entry) -> Row:
    """The row of `entry`. Raises AuditUnwritable when it is over RECORD_BYTES_MAX."""
    body = encode(entry)
    if len(body) > RECORD_BYTES_MAX:
        raise AuditUnwritable(
            f"a record of {len(body)} bytes is over the limit of {RECORD_BYTES_MAX}",
            remedy="send fewer rows in one request",
        )
    return row_of(entry, leaf_hash(body), body)


def unwritable(error: Exception) -> AuditUnwritable:
    """What `error` of the file means to whoever wanted to write."""
    remedies = {
        "SQLITE_FULL": "free disk space",
        "SQLITE_READONLY": "check the owner and permissions of the audit directory",
        "SQLITE_BUSY": "close the other program that has the log open for writing",
        "SQLITE_CONSTRAINT": "start the runtime again: another program wrote to the log",
    }
    # The extended name, such as SQLITE_IOERR_WRITE, begins with the plain one.
    name = getattr(error, "sqlite_errorname", "")
    remedy = next((text for key, text in remedies.items() if name.startswith(key)), _DISK_REMEDY)
    return AuditUnwritable(f"the audit log cannot be written: {error}", remedy=remedy)
