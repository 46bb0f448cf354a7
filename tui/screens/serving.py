"""The main screen: what is served, by which version, how fast.

Knows: which widget shows which part of a snapshot; which model and version the operator chose. Rules: a
function of the snapshot and the two cursors. Leaves to others: talking and deciding (`tui.app`).
"""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer

from appliance.deployment import (
    Act,
    Activate,
    EndCanary,
    EndShadow,
    Promote,
    Retire,
    RollBack,
    StartCanary,
    StartShadow,
)
from tui import wording
from tui.preview import share_offered
from tui.snapshot import CONNECTING, ModelLine, Snapshot
from tui.widgets import notice
from tui.widgets.detail import VersionDetail
from tui.widgets.models import ModelTable
from tui.widgets.plots import Plots
from tui.widgets.status import StatusLine
from tui.widgets.versions import VersionTable

_WIDE_CELLS = 110
_DECISIONS = {key.action for key in wording.KEYS if not key.action.startswith("app.")}


class ServingScreen(Screen[None]):
    """Models, versions, the chosen version, traffic and latency."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.key, key.action, key.label) for key in wording.KEYS),
        Binding("k", "app.checkpoint", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (_WIDE_CELLS, "-wide")]  # noqa: RUF012 - Textual's

    class Proposed(Message):
        """The operator wants `act` on `model`."""

        def __init__(self, model: ModelLine, act: Act) -> None:
            super().__init__()
            self.model, self.act = model, act

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = CONNECTING
        self.busy = ""
        self._offered: tuple[bool | None, ...] = ()

    def compose(self) -> ComposeResult:
        """Top line, tables, plots, keys; the notice takes their place when there is nothing in them."""
        yield StatusLine()
        yield notice.Notice()
        with Vertical(id="content"):
            yield ModelTable()
            with Container(id="chosen"):
                yield VersionTable()
                yield VersionDetail()
            yield Plots()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Draw what is known so far."""
        self._turn(empty=notice.needed(self.snapshot))
        self.redraw()

    def show(self, snapshot: Snapshot, *, busy: str = "") -> None:
        """Show `snapshot`, and that the decision `busy` is being carried out."""
        self.snapshot, self.busy = snapshot, busy
        if self._ready:
            self.redraw()

    def redraw(self) -> None:
        """Draw everything from the snapshot and the cursors."""
        self.query_one(StatusLine).show(self.snapshot, busy=self.busy, wide=self._wide)
        empty, was_empty = notice.needed(self.snapshot), self.has_class("-empty")
        # Hidden tables keep their lines and cursors for the next snapshot that has something to show.
        if empty:
            self.query_one(notice.Notice).show(self.snapshot)
        else:
            self.query_one(ModelTable).show_snapshot(self.snapshot, wide=self._wide)
            self._draw_chosen()
        if empty != was_empty:
            self._turn(empty=empty)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Offer decisions only while there is a model to decide about, and something to end."""
        if action not in _DECISIONS:
            return True
        model = self.chosen
        if model is None:
            return False
        return {"promote": model.canary is not None, "end": model.accompanied}.get(action, True)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Follow a cursor."""
        event.stop()
        if self._ready:
            self._draw_chosen()

    def on_resize(self) -> None:
        """Use the room there is."""
        self.show(self.snapshot, busy=self.busy)

    def action_activate(self) -> None:
        """Propose to let the chosen version answer."""
        if self.number is not None:
            self._propose(Activate(version=self.number))

    def action_roll_back(self) -> None:
        """Propose to let the previous version answer again."""
        self._propose(RollBack())

    def action_start_canary(self) -> None:
        """Propose to let the chosen version answer a share of the requests."""
        if self.chosen and self.number is not None:
            share = share_offered(self.chosen.deployment, self.number)
            self._propose(StartCanary(version=self.number, per_mille=share))

    def action_promote(self) -> None:
        """Propose to let the canary answer all requests."""
        self._propose(Promote())

    def action_start_shadow(self) -> None:
        """Propose to let the chosen version compute along."""
        if self.number is not None:
            self._propose(StartShadow(version=self.number))

    def action_end(self) -> None:
        """Propose to end the canary or the shadow: the only one there is, or the chosen one."""
        model = self.chosen
        assert model is not None, "check_action offers it only beside a canary or a shadow"
        if model.shadow is None or self.number == model.canary:
            self._propose(EndCanary())
        elif model.canary is None or self.number == model.shadow:
            self._propose(EndShadow())
        else:
            self.notify("Choose the canary or the shadow first.", severity="warning")

    def action_retire(self) -> None:
        """Propose to take the chosen version out of use."""
        if self.number is not None:
            self._propose(Retire(version=self.number))

    @property
    def chosen(self) -> ModelLine | None:
        """The model under the cursor."""
        table = self.query(ModelTable)
        return self.snapshot.model(table.first().chosen or "") if table else None

    @property
    def number(self) -> int | None:
        """The version under the cursor."""
        return self.query_one(VersionTable).number

    @property
    def _ready(self) -> bool:
        """True while there are widgets to draw into: not before the screen, not while leaving."""
        return self.is_mounted and self.app.is_running

    @property
    def _wide(self) -> bool:
        return self.size.width >= _WIDE_CELLS

    def _turn(self, *, empty: bool) -> None:
        """Turn from tables to notice or back; decisions are offered only beside the tables."""
        self.set_class(empty, "-empty")
        self.refresh_bindings()
        if not empty:
            self.query_one(ModelTable).focus()

    def _propose(self, act: Act) -> None:
        if self.chosen:
            self.post_message(self.Proposed(self.chosen, act))

    def _draw_chosen(self) -> None:
        model, versions = self.chosen, self.query_one(VersionTable)
        versions.show_model(model, self.snapshot.box)
        version = model.version(versions.number) if model and versions.number else None
        self.query_one(VersionDetail).show(version, wide=self._wide)
        self.query_one(Plots).show(model)
        self._offer()

    def _offer(self) -> None:
        """Tell the footer when other acts are offered: it makes all of its keys anew, too much for every look."""
        offered = tuple(self.check_action(action, ()) for action in sorted(_DECISIONS))
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()
