"""`holdfast audit status`: what the log holds and how long the disk lasts.

Knows: how the state of a log reads. Rules: reads files, so the runtime need not be up; a forecast names its rate.
Leaves to others: the forecast (`appliance.audit.capacity`).
"""

import time
from typing import TypedDict

from appliance.audit.capacity import Capacity, capacity
from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.reader import AuditReader
from appliance.audit.segments import sealed_segments
from appliance.clock import timestamp
from appliance.config import Config
from appliance.files import bytes_free
from tui import wording
from tui.printing import cell, out, print_json, table


class _Span(TypedDict):
    """The oldest and newest record that are still there: sequence and RFC 3339 time."""

    first: int
    first_time: str
    last_time: str


def forecast(config: Config, reader: AuditReader) -> Capacity:
    """The capacity of the box's log as of now."""
    root = config.state.root
    return capacity(
        config.state.audit_log,
        reader,
        now_ns=time.time_ns(),
        bytes_room=bytes_free(root) - config.storage.stop_bytes_free,
        retention_days=config.audit.retention_days,
    )


def status(config: Config, *, as_json: bool) -> None:
    """Print what the log holds. Raises StateError when there is none."""
    live = config.state.audit_log
    with AuditReader(live) as reader:
        found = forecast(config, reader)
        span = _span(reader, found)
        notes = reader.checkpoints()
    segments = sealed_segments(live)
    sealed = sum(not segment.removed for segment in segments)
    covered = read_checkpoint(notes[-1]).size if notes else 0
    if as_json:
        print_json(
            {
                "log": str(live),
                "records": found.records,
                "size": found.size,
                **span,
                "checkpointed": covered,
                "sealed_files": sealed,
                "removed_files": len(segments) - sealed,
                "bytes_used": found.bytes_used,
                "bytes_room": found.bytes_room,
                "records_a_day": found.records_a_day,
                "days_left": found.days_left,
                "forecast": found.words,
            }
        )
        return
    removed = f", {wording.plural(len(segments) - sealed, 'file')} removed"
    shown = table("", "")
    shown.show_header = False
    shown.add_row("Log", cell(live))
    shown.add_row("Records", f"{found.records:,} of {found.size:,}, from {span['first']:,} on")
    shown.add_row("From", cell(span["first_time"]))
    shown.add_row("To", cell(span["last_time"]))
    shown.add_row("Checkpoint", f"over the first {covered:,}")
    shown.add_row(
        "Files",
        f"one that grows, {sealed} sealed" + (removed if len(segments) > sealed else ""),
    )
    shown.add_row("Size", f"{found.bytes_used / 1e6:,.1f} MB")
    rate = "" if found.records_a_day is None else f", {found.records_a_day:,.0f} records a day"
    shown.add_row("Disk", f"room for {max(found.bytes_room, 0) / 1e6:,.0f} MB{rate}: {found.words}")
    out().print(shown)


def _span(reader: AuditReader, found: Capacity) -> _Span:
    if not found.records:
        return {"first": found.size, "first_time": wording.NOTHING, "last_time": wording.NOTHING}
    first = found.size - found.records
    return {
        "first": first,
        "first_time": timestamp(reader.at(first).wall_ns),
        "last_time": timestamp(reader.at(found.size - 1).wall_ns),
    }
