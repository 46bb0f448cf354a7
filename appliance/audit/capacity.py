"""How long the disk lasts for the audit log, at the rate of the last day.

Knows: what a record takes on the disk and how many come a day. Rules: a forecast says what it rests on; with
retention the log stops growing when as much is removed as comes. Leaves to others: what is done when the disk fills
(`runtime.storage`), printing.
"""

from dataclasses import dataclass
from pathlib import Path

from appliance.audit.reader import AuditReader
from appliance.audit.segments import sealed_directory

DAY_NS = 86_400_000_000_000
# A rate that was seen for less time than this is no ground for a forecast.
SPAN_NS_MIN = 600_000_000_000
DAYS_MAX = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the log takes and how long there is room.

    `bytes_used` by all its files, `records` still there of `size` ever, `records_a_day` by the records of the last
    day (None when they span under ten minutes), `days_left` until `bytes_room` is used up (None when there is no
    rate, or when retention removes as much as comes: then `levels_off`).
    """

    bytes_used: int
    bytes_room: int
    records: int
    size: int
    records_a_day: float | None
    days_left: float | None
    levels_off: bool

    @property
    def words(self) -> str:
        """The forecast as a sentence's end."""
        if self.records_a_day is None:
            return "too young to tell when the disk is full"
        if self.levels_off:
            return "never full at this rate: retention removes as much as comes"
        if self.days_left is None or self.days_left > DAYS_MAX:
            return "full in more than a hundred years at this rate"
        if self.days_left < 1:
            return "full within a day at this rate"
        days = int(self.days_left)
        return f"full in {days} {'day' if days == 1 else 'days'} at this rate"


def capacity(
    live: Path, reader: AuditReader, *, now_ns: int, bytes_room: int, retention_days: int
) -> Capacity:
    """The capacity of the log that grows in `live`; `bytes_room` is what it may still take, UTC `now_ns`.

    Raises AuditError when the log cannot be read.
    """
    size, first = reader.size(), reader.first()
    used = bytes_used(live)
    records = size - first
    day_ago = reader.first_since(now_ns - DAY_NS)
    counted = size - day_ago
    span_ns = now_ns - reader.at(day_ago).wall_ns if counted else 0
    if span_ns < SPAN_NS_MIN:
        return Capacity(
            bytes_used=used,
            bytes_room=bytes_room,
            records=records,
            size=size,
            records_a_day=None,
            days_left=None,
            levels_off=False,
        )
    a_day = counted * DAY_NS / span_ns
    bytes_a_day = a_day * used / records
    levels_off = retention_days > 0 and bytes_a_day * retention_days - used <= bytes_room
    return Capacity(
        bytes_used=used,
        bytes_room=bytes_room,
        records=records,
        size=size,
        records_a_day=a_day,
        days_left=None if levels_off else max(bytes_room, 0) / bytes_a_day,
        levels_off=levels_off,
    )


def bytes_used(live: Path) -> int:
    """The bytes of all files of the log that grows in `live`."""
    sealed = sealed_directory(live)
    files = [live, live.with_name(f"{live.name}-wal")]
    if sealed.is_dir():
        files += sealed.iterdir()
    total = 0
    for path in files:
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # folded in or removed meanwhile
    return total
