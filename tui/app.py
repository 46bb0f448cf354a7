"""The console: one worker looks, screens show, decisions go out one at a time.

Knows: the loop of looks and the path of a decision from proposal to outcome. Rules: a decision is
confirmed against the state it was shown with; an error is shown with its remedy and never ends the
console. Leaves to others: talking (`tui.gateway`), drawing (`tui.screens`).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType

from appliance.errors import ApplianceError, DecisionError
from tui.checkpoints import Newest
from tui.gateway import Gateway
from tui.preview import Order, Preview, outlook, preview
from tui.screens.checkpoint import CheckpointScreen
from tui.screens.deciding import DecidingScreen
from tui.screens.help import HelpScreen
from tui.screens.serving import ServingScreen
from tui.screens.trouble import TroubleScreen
from tui.snapshot import CONNECTING, Snapshot, Trouble

TICK_SECONDS = 1.0


class ConsoleApp(App[None]):
    """Shows the box behind `gateway` and decides in the name of `actor`."""

    TITLE = "Holdfast"
    CSS_PATH = Path(__file__).with_name("console.tcss")
    ENABLE_COMMAND_PALETTE = False
    # Before the dialogs' own keys: in each of them Ctrl-C leaves as everywhere, with nothing decided.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        gateway: Gateway,
        *,
        actor: str,
        tick_seconds: float = TICK_SECONDS,
        checkpoint: Callable[[], Newest] | None = None,
    ) -> None:
        super().__init__()
        self.gateway = gateway
        self.actor = actor
        self.snapshot = CONNECTING
        self.serving = ServingScreen()
        self._tick_seconds = tick_seconds
        self._busy = ""
        self._checkpoint = checkpoint

    async def on_mount(self) -> None:
        """Show the screen and begin to look."""
        await self.push_screen(self.serving)
        self.keep_looking()

    def on_unmount(self) -> None:
        """End the calls in flight, so that leaving never waits for them."""
        self.gateway.close()

    @work
    async def keep_looking(self) -> None:
        """Look, show, sleep, for as long as the console is open."""
        while True:
            await self._look()
            await asyncio.sleep(self._tick_seconds)

    def on_serving_screen_proposed(self, message: ServingScreen.Proposed) -> None:
        """Show what the act would change and ask for the reason."""
        if self._busy:
            # One is enough: every further key would put another over the screen.
            self.clear_notifications()
            self.notify(f"{self._busy} is not finished yet.", severity="warning")
            return
        try:
            proposal = preview(message.model, message.act)
        except ApplianceError as error:
            self._complain("Not possible", error)
            return
        self.decide(proposal)

    @work
    async def decide(self, proposal: Preview) -> None:
        """Ask for the reason, then carry the decision out and tell its outcome."""
        order = await self.push_screen_wait(DecidingScreen(proposal, self.actor))
        if order is None:
            return
        # The share of a canary may have become another one in the dialog.
        decided = outlook(proposal.before, order.act)
        try:
            self._check_unchanged(decided)
            await self._carry_out(order, decided)
        except ApplianceError as error:
            self._complain(f"{decided.title}: not done", error)

    def action_help(self) -> None:
        """Open the help page."""
        self.push_screen(HelpScreen())

    @work
    async def action_checkpoint(self) -> None:
        """Show the newest checkpoint."""
        if self._checkpoint is None:
            return
        try:
            newest = await asyncio.to_thread(self._checkpoint)
        except ApplianceError as error:
            self._complain("No checkpoint", error)
            return
        self.push_screen(CheckpointScreen(newest))

    async def _carry_out(self, order: Order, proposal: Preview) -> None:
        self._show(self.snapshot, busy=proposal.title)
        try:
            decision_id, _ = await asyncio.to_thread(self.gateway.decide, order)
        finally:
            self._show(self.snapshot, busy="")
        self.notify(f"Decision {decision_id} is recorded.", title=f"{proposal.title}: done")
        await self._look()

    def _check_unchanged(self, proposal: Preview) -> None:
        """Refuse when someone else decided while this operator was reading."""
        model = self.snapshot.model(proposal.before.model)
        if model is not None and model.deployment != proposal.before:
            raise DecisionError(
                f"model '{model.name}' changed while you were deciding",
                remedy="look at the new state and decide again",
            )

    async def _look(self) -> None:
        self._show(await asyncio.to_thread(self.gateway.look), busy=self._busy)

    def _show(self, snapshot: Snapshot, *, busy: str) -> None:
        self.snapshot, self._busy = snapshot, busy
        self.serving.show(snapshot, busy=busy)

    def _complain(self, title: str, error: ApplianceError) -> None:
        self.push_screen(TroubleScreen(title, Trouble.told(error)))
