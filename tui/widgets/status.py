"""The top line: how the box is, in words.

Knows: what an operator must see without looking for it. Rules: one line at 80 columns; trouble is said
first and in words, colour only underlines it. Leaves to others: the remedy (`tui.widgets.notice`).
"""

from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.widgets import Static

from appliance.clock import timestamp
from tui import wording
from tui.snapshot import Box, GpuLine, Link, Snapshot

GPUS_MAX = 2  # that the line has room for
_LINKS = {
    Link.CONNECTING: ("connecting", "bold yellow"),
    Link.SERVING: ("serving", "bold green"),
    Link.DRAINING: ("draining", "bold yellow"),
    Link.UNREACHABLE: ("unreachable", "bold red"),
}


class StatusLine(Static):
    """One line about the whole box."""

    def __init__(self) -> None:
        super().__init__(id="status")

    def show(self, snapshot: Snapshot, *, busy: str, wide: bool) -> None:
        """Show the state of the box and, when not empty, the decision being carried out."""
        word, style = _LINKS[snapshot.link]
        parts = [Text(word, style=style)]
        if busy:
            parts.append(Text(f"{busy} ...", style="bold yellow"))
        if snapshot.box:
            parts += _box(snapshot.box, wide=wide)
        if wide or not snapshot.box:
            release = snapshot.box.release if snapshot.box else ""
            parts.insert(0, Text(f"Holdfast {release}".strip(), style="bold"))
        self.update(Text("  ").join(parts), layout=False)


def _box(box: Box, *, wide: bool) -> list[Text]:
    up = f"up {wording.span(box.uptime_seconds)}"
    for worst in _troubles(box):
        return [worst, Text(box.address), Text(up)]
    records, waiting = wording.count(box.audit_records), wording.count(box.audit_queue)
    log = Text(f"audit {records} records, {waiting} waiting")
    return [Text(box.address), log, Text(up), *(_gpus(box.gpus) if wide else [])]


def _troubles(box: Box) -> Iterator[Text]:
    """What somebody must see to, the worst first."""
    if box.audit_failure:
        yield Text(f"audit log takes no records: {box.audit_failure}", style="bold red")
    for way in box.checkpoints_blocked:
        if way.alarming:
            yield Text(f"ALARM: {way.trouble}", style="bold red")
    if box.certificates_failure:
        yield Text(f"new certificates are not used: {box.certificates_failure}", style="bold red")
    for item in box.expiring:
        told = f"{item.what} certificate {item.state}, until {timestamp(item.not_after_ns)[:10]}"
        yield Text(told, style="bold yellow")
    for gpu in box.gpus:
        if gpu.failing:
            style = "bold red" if gpu.state == "failed" else "bold yellow"
            yield Text(f"GPU {gpu.called} {gpu.failing}", style=style)
    for way in box.checkpoints_blocked:
        yield Text(f"no checkpoint to {way.way}: {way.trouble}", style="bold yellow")


def _gpus(gpus: tuple[GpuLine, ...]) -> list[Text]:
    """How they fare, in a few words; of many the most of each."""
    if len(gpus) <= GPUS_MAX:
        return [Text(f"GPU {gpu.called} {_fares([gpu])}") for gpu in gpus]
    return [Text(f"{len(gpus)} GPUs, at most {_fares(gpus)}")]


def _fares(gpus: Sequence[GpuLine]) -> str:
    busy = [gpu.busy for gpu in gpus if gpu.busy is not None]
    celsius = [gpu.celsius for gpu in gpus if gpu.celsius is not None]
    told = (f"{max(busy):.0%}" if busy else "", f"{max(celsius)} °C" if celsius else "")
    return " ".join(word for word in told if word) or "ready"
