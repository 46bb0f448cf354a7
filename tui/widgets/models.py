"""The models table: one line a model.

Knows: which numbers of a model an operator reads first. Rules: a function of the snapshot. Leaves to
others: keeping the cursor (`tui.widgets.lines`).
"""

from tui import wording
from tui.snapshot import ModelLine, Snapshot
from tui.widgets.lines import STRETCH, Column, Line, LineTable

_ROLES = (
    Column(heading="Previous", cells=8, align="right"),
    Column(heading="Versions", cells=8, align="right"),
)
_BESIDE = (
    Column(heading="Canary", cells=9, align="right"),
    Column(heading="Shadow", cells=7, align="right"),
)
_TRAFFIC = (
    Column(heading="Requests", cells=8, align="right"),
    Column(heading="p50", cells=7, align="right"),
    Column(heading="p99", cells=7, align="right"),
    Column(heading="Failed", cells=6, align="right"),
)
_MORE = (
    Column(heading="Waiting", cells=7, align="right"),
    Column(heading="Answered", cells=9, align="right"),
    Column(heading="Rows/batch", cells=10, align="right"),
)


class ModelTable(LineTable):
    """Every model with its roles and traffic."""

    def __init__(self) -> None:
        super().__init__(_columns(wide=False, beside=False), title="Models", id="models")

    def show_snapshot(self, snapshot: Snapshot, *, wide: bool) -> None:
        """Show the models of `snapshot`, with more columns when there is room.

        While a canary or a shadow runs, they stand in place of what the versions' table tells as well.
        """
        beside = any(model.accompanied for model in snapshot.models)
        self.use_columns(_columns(wide=wide, beside=beside))
        self.show([_line(model, wide=wide, beside=beside) for model in snapshot.models])


def _columns(*, wide: bool, beside: bool) -> tuple[Column, ...]:
    return (
        Column(heading="Model", cells=STRETCH),
        Column(heading="Active", cells=6, align="right"),
        *(_BESIDE if beside else _ROLES),
        *_TRAFFIC,
        *(_MORE if wide else ()),
    )


def _line(model: ModelLine, *, wide: bool, beside: bool) -> Line:
    traffic = model.traffic
    roles = (wording.version(model.previous), str(len(model.versions)))
    others = (
        wording.canary(model.canary, model.canary_per_mille),
        wording.version(model.shadow),
    )
    more = (
        wording.count(traffic.queued),
        wording.count(traffic.answered),
        f"{traffic.rows / traffic.batches:.1f}" if traffic.batches else wording.NOTHING,
    )
    texts = (
        model.name,
        wording.version(model.active),
        *(others if beside else roles),
        wording.rate(traffic.requests_per_second),
        wording.latency(traffic.p50_ms),
        wording.latency(traffic.p99_ms),
        wording.count(traffic.failed),
        *(more if wide else ()),
    )
    return Line(key=model.name, texts=texts, style="" if model.active else "dim")
