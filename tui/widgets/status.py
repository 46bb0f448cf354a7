"""The top line: how the box is, in words.

Knows: what an operator must see without looking for it. Rules: one line at 80 columns; trouble is said
first and in words, colour only underlines it. Leaves to others: the remedy (`tui.widgets.notice`).
"""

from rich.text import Text
from textual.widgets import Static

from appliance.clock import timestamp
from tui import wording
from tui.snapshot import Box, Link, Snapshot

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
            parts += _box(snapshot.box)
        if wide or not snapshot.box:
            release = snapshot.box.release if snapshot.box else ""
            parts.insert(0, Text(f"Holdfast {release}".strip(), style="bold"))
        self.update(Text("  ").join(parts), layout=False)


def _box(box: Box) -> list[Text]:
    up = f"up {wording.span(box.uptime_seconds)}"
    if box.audit_failure:
        audit = Text(f"audit log takes no records: {box.audit_failure}", style="bold red")
        return [audit, Text(box.address), Text(up)]
    if box.certificates_failure:
        told = f"new certificates are not used: {box.certificates_failure}"
        return [Text(told, style="bold red"), Text(box.address), Text(up)]
    for item in box.expiring:
        told = f"{item.what} certificate {item.state}, until {timestamp(item.not_after_ns)[:10]}"
        return [Text(told, style="bold yellow"), Text(box.address), Text(up)]
    records, waiting = wording.count(box.audit_records), wording.count(box.audit_queue)
    return [Text(box.address), Text(f"audit {records} records, {waiting} waiting"), Text(up)]
