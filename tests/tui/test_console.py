"""The operator's keys: every decision confirmed, cancelled, refused; the console survives all."""

import threading
from dataclasses import replace

import pytest
from textual.widgets import Input, Label

from appliance.deployment import Activate, Retire, RollBack
from appliance.errors import EngineLoad, Unreachable
from tests.tui.conftest import FakeGateway, digits, snapshot, version_line
from tests.tui.piloting import console, see, table, until, write
from tui.preview import Order
from tui.screens.deciding import DecidingScreen
from tui.screens.help import HelpScreen
from tui.screens.serving import ServingScreen
from tui.screens.trouble import TroubleScreen
from tui.snapshot import ModelLine, Snapshot, unreachable
from tui.widgets.models import ModelTable

TICK_SECONDS = 0.1
AWAY = unreachable(Unreachable("no runtime answers", remedy="start holdfast-runtime"))


class TestDecisions:
    async def test_activate_the_chosen_version(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("a")
            assert isinstance(app.screen, DecidingScreen)
            await write(pilot, "fewer errors")
            await pilot.press("enter")
            await until(pilot, lambda: bool(gateway.orders))
            assert gateway.orders == [
                Order(model="digits", act=Activate(version=4), actor="alice", reason="fewer errors")
            ]
            await until(pilot, lambda: bool(app._notifications))
            assert "d-0001" in next(iter(app._notifications)).message
            assert app.screen is app.serving

    async def test_roll_back_by_the_button(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (_app, pilot):
            await pilot.press("b")
            await write(pilot, "errors")
            await pilot.click("#confirm")
            await until(pilot, lambda: bool(gateway.orders))
            assert gateway.orders[0].act == RollBack()

    async def test_retire_another_line(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (_app, pilot):
            await pilot.press("tab", "down", "down", "r")
            await write(pilot, "old")
            await pilot.press("enter")
            await until(pilot, lambda: bool(gateway.orders))
            assert gateway.orders[0].act == Retire(version=2)

    async def test_escape_and_cancel_change_nothing(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("a")
            await write(pilot, "no")
            await pilot.press("escape")
            assert app.screen is app.serving
            await pilot.press("r")
            await write(pilot, "no")
            await pilot.click("#cancel")
            await pilot.pause()
            assert app.screen is app.serving
            assert gateway.orders == []

    async def test_nothing_happens_without_a_reason(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("a")
            await write(pilot, "   ")
            await pilot.press("enter")
            assert isinstance(app.screen, DecidingScreen)
            assert "why" in str(app.screen.query_one("#missing", Label).content)
            assert app.focused is app.screen.query_one(Input)
            assert gateway.orders == []

    async def test_what_the_rules_forbid_is_told_at_once(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("tab", "down", "a")
            await until(pilot, lambda: isinstance(app.screen, TroubleScreen))
            assert isinstance(app.screen, TroubleScreen)
            assert app.screen.trouble.code == "decision.refused"
            assert app.screen.trouble.remedy == "nothing to do"
            await pilot.press("escape")
            assert app.screen is app.serving

    async def test_a_refusal_of_the_runtime_is_shown_with_its_remedy(self) -> None:
        gateway = FakeGateway(snapshot())
        gateway.refusal = EngineLoad("out of memory", remedy="free some")
        async with console(gateway) as (app, pilot):
            await pilot.press("b", "x", "enter")
            await until(pilot, lambda: isinstance(app.screen, TroubleScreen))
            assert isinstance(app.screen, TroubleScreen)
            assert app.screen.headline == "Roll back digits to version 2: not done"
            assert app.screen.trouble.remedy == "free some"
            await pilot.click("#close")
            await pilot.pause()
            assert app.screen is app.serving

    async def test_a_runtime_that_vanishes_meanwhile_is_told(self) -> None:
        gateway = FakeGateway(snapshot())
        gateway.refusal = Unreachable("no runtime answers", remedy="start it")
        async with console(gateway) as (app, pilot):
            await pilot.press("b", "x", "enter")
            await until(pilot, lambda: isinstance(app.screen, TroubleScreen))

    async def test_a_change_by_someone_else_while_reading_is_not_overrun(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("a", "x")
            await see(app, pilot, snapshot(models=(replace(digits(), active=2, previous=3),)))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, TroubleScreen))
            assert isinstance(app.screen, TroubleScreen)
            assert "changed while you were deciding" in app.screen.trouble.message
            assert gateway.orders == []

    async def test_one_decision_at_a_time_and_the_screen_goes_on(self) -> None:
        gateway = SlowGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("a", "x", "enter")
            await until(pilot, lambda: bool(gateway.orders))
            await see(app, pilot, snapshot(models=(digits(),)))
            assert app.serving.busy == "Activate version 4 of digits"
            await pilot.press("b")
            await until(pilot, lambda: bool(app._notifications))
            assert "not finished" in next(iter(app._notifications)).message
            assert app.screen is app.serving
            gateway.go_on.set()
            await until(pilot, lambda: app.serving.busy == "")
            assert len(gateway.orders) == 1

    async def test_a_model_without_versions_has_nothing_to_activate(self) -> None:
        gateway = FakeGateway(snapshot(models=(replace(digits(), versions=()),)))
        async with console(gateway) as (app, pilot):
            await pilot.press("a", "c", "s", "r")
            assert app.screen is app.serving


class TestLooking:
    async def test_the_console_finds_the_runtime_again_by_itself(self) -> None:
        gateway = FakeGateway(AWAY)
        async with console(gateway, tick_seconds=TICK_SECONDS) as (app, pilot):
            assert app.serving.has_class("-empty")
            await pilot.press("a", "b", "r")
            assert app.screen is app.serving
            gateway.now = snapshot()
            await until(pilot, lambda: not app.serving.has_class("-empty"))
            assert app.focused is app.serving.query_one(ModelTable)

    async def test_the_cursors_survive_an_interruption(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("tab", "down", "down")
            assert table(app).number == 2
            for now in (AWAY, snapshot()):
                await see(app, pilot, now)
            assert table(app).number == 2

    async def test_the_cursor_stays_on_its_version_when_a_new_one_appears(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("tab", "down")
            assert table(app).number == 3
            newer = replace(digits(), versions=(version_line(5), *digits().versions))
            await see(app, pilot, snapshot(models=(newer,)))
            assert table(app).number == 3
            assert table(app).row_count == 5

    async def test_another_model_starts_with_its_newest_version(self) -> None:
        async with console(FakeGateway(snapshot())) as (app, pilot):
            await pilot.press("tab", "down", "down", "shift+tab", "down")
            assert table(app).border_title == "Versions of wine"
            assert table(app).number == 1
            await pilot.press("up")
            assert table(app).number == 4

    async def test_a_wider_terminal_shows_more_columns(self) -> None:
        async with console(FakeGateway(snapshot())) as (app, pilot):
            models = app.serving.query_one(ModelTable)
            assert len(models.columns) == 8
            await pilot.resize_terminal(120, 40)
            await until(pilot, lambda: len(models.columns) == 11)


class TestLeaving:
    async def test_q_closes_the_connection(self) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press("q")
        assert gateway.closed
        assert app.return_code == 0

    @pytest.mark.parametrize("before", [(), ("question_mark",), ("a", "x"), ("r",)])
    async def test_ctrl_c_leaves_from_everywhere(self, before: tuple[str, ...]) -> None:
        gateway = FakeGateway(snapshot())
        async with console(gateway) as (app, pilot):
            await pilot.press(*before, "ctrl+c")
        assert gateway.closed
        assert app.return_code == 0
        assert gateway.orders == []

    async def test_help_opens_and_closes(self) -> None:
        async with console(FakeGateway(snapshot())) as (app, pilot):
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpScreen)
            await pilot.press("escape")
            assert isinstance(app.screen, ServingScreen)


class SlowGateway(FakeGateway):
    """Holds a decision until it is told to go on."""

    def __init__(self, now: Snapshot) -> None:
        super().__init__(now)
        self.go_on = threading.Event()

    def decide(self, order: Order) -> tuple[str, ModelLine]:
        self.orders.append(order)
        self.go_on.wait()
        return "d-0002", digits()

    def close(self) -> None:
        super().close()
        self.go_on.set()  # a console that is left does not wait for it
