"""The models table: one line a model.

Knows: which numbers of a model an operator reads first. Rules: a function of the snapshot. Leaves to
others: keeping the cursor (`tui.widgets.lines`).
"""

from tui import wording
from tui.snapshot import ModelLine, Snapshot
from tui.widgets.lines import STRETCH, Column, Line, LineTable

_COLUMNS = (
    Column(heading="Model", cells=STRETCH),
    Column(heading="Active", cells=6, align="right"),
    Column(heading="Previous", cells=8, align="right"),
    Column(heading="Versions", cells=8, align="right"),
    Column(heading="Requests", cells=8, align="right"),
    Column(heading="p50", cells=7, align="right"),
    Column(heading="p99", cells=7, align="right"),
    Column(heading="Failed", cells=6, align="right"),
)
_WIDE = (
    *_COLUMNS,
    Column(heading="Waiting", cells=7, align="right"),
    Column(heading="Answered", cells=9, align="right"),
    Column(heading="Rows/batch", cells=10, align="right"),
)


class ModelTable(LineTable):
    """Every model with its roles and traffic."""

    def __init__(self) -> None:
        super().__init__(_COLUMNS, title="Models", id="models")

    def show_snapshot(self, snapshot: Snapshot, *, wide: bool) -> None:
        """Show the models of `snapshot`, with more columns when there is room."""
        columns = _WIDE if wide else _COLUMNS
        self.use_columns(columns)
        self.show([_line(model, len(columns)) for model in snapshot.models])


def _line(model: ModelLine, columns: int) -> Line:
    traffic = model.traffic
    texts = (
        model.name,
        wording.version(model.active),
        wording.version(model.previous),
        str(len(model.versions)),
        wording.rate(traffic.requests_per_second),
        wording.latency(traffic.p50_ms),
        wording.latency(traffic.p99_ms),
        wording.count(traffic.failed),
        wording.count(traffic.queued),
        wording.count(traffic.answered),
        f"{traffic.rows / traffic.batches:.1f}" if traffic.batches else wording.NOTHING,
    )
    return Line(key=model.name, texts=texts[:columns], style="" if model.active else "dim")
