"""The operator's keys for canary and shadow: start, change, promote, end."""

from dataclasses import replace

from textual.widgets import Button, Label

from appliance.deployment import EndCanary, EndShadow, Promote, StartCanary, StartShadow, Tuning
from tests.tui.conftest import FakeGateway, accompanied, snapshot
from tests.tui.piloting import console, see, until, write
from tui.screens.deciding import DecidingScreen

BESIDE = snapshot(models=(accompanied(),))


async def test_a_canary_starts_at_the_share_that_is_offered() -> None:
    gateway = FakeGateway(snapshot())
    async with console(gateway) as (_app, pilot):
        await pilot.press("c", "enter")
        await write(pilot, "try it")
        await pilot.press("enter")
        await until(pilot, lambda: bool(gateway.orders))
        (order,) = gateway.orders
        assert (order.act, order.reason) == (StartCanary(version=4, per_mille=50), "try it")


async def test_another_share_is_shown_before_it_is_confirmed() -> None:
    gateway = FakeGateway(snapshot())
    async with console(gateway) as (app, pilot):
        await pilot.press("c", "end", *["backspace"] * 2)
        assert app.screen.query_one("#confirm", Button).disabled
        assert "A share is" in str(app.screen.query_one("#missing", Label).render())
        await pilot.press("tab", "x", "enter")
        assert app.focused is app.screen.query_one("#share")
        await pilot.press(*"12.5%")
        assert not app.screen.query_one("#confirm", Button).disabled
        title = str(app.screen.query_one("#title", Label).render())
        assert title == "Start version 4 of digits as canary at 12.5%"
        await pilot.press("enter", "enter")
        await until(pilot, lambda: bool(gateway.orders))
        assert gateway.orders[0].act == StartCanary(version=4, per_mille=125)
        await until(pilot, lambda: bool(app._notifications))
        assert next(iter(app._notifications)).title == f"{title}: done"


async def test_the_present_share_changes_nothing() -> None:
    async with console(FakeGateway(BESIDE)) as (app, pilot):
        await pilot.press("tab", "down", "c")
        assert isinstance(app.screen, DecidingScreen)
        assert app.screen.preview.act == StartCanary(version=4, per_mille=100)
        await pilot.press("end", *["backspace"] * 3, *"5%")
        assert "that share already" in str(app.screen.query_one("#missing", Label).render())
        assert app.screen.query_one("#confirm", Button).disabled


async def test_a_canary_is_promoted() -> None:
    gateway = FakeGateway(BESIDE)
    async with console(gateway) as (_app, pilot):
        await pilot.press("p", "x", "enter")
        await until(pilot, lambda: bool(gateway.orders))
        assert gateway.orders[0].act == Promote()


async def test_a_shadow_starts() -> None:
    gateway = FakeGateway(snapshot())
    async with console(gateway) as (_app, pilot):
        await pilot.press("s", "x", "enter")
        await until(pilot, lambda: bool(gateway.orders))
        assert gateway.orders[0].act == StartShadow(version=4)


async def test_of_canary_and_shadow_the_chosen_one_ends() -> None:
    gateway = FakeGateway(BESIDE)
    async with console(gateway) as (app, pilot):
        await pilot.press("tab", "down", "down", "e")
        assert app.screen is app.serving
        assert "Choose" in next(iter(app._notifications)).message
        await pilot.press("up", "e", "x", "enter")
        await until(pilot, lambda: len(gateway.orders) == 1)
        await pilot.press("up", "e", "x", "enter")
        await until(pilot, lambda: len(gateway.orders) == 2)
        assert [order.act for order in gateway.orders] == [EndCanary(), EndShadow()]


async def test_a_canary_alone_ends_whatever_is_chosen() -> None:
    gateway = FakeGateway(snapshot(models=(replace(accompanied(), shadow=None),)))
    async with console(gateway) as (_app, pilot):
        await pilot.press("e", "x", "enter")
        await until(pilot, lambda: bool(gateway.orders))
        assert gateway.orders[0].act == EndCanary()


async def test_what_does_not_run_cannot_be_ended_or_promoted() -> None:
    async with console(FakeGateway(snapshot())) as (app, pilot):
        assert not {"p", "e"} & app.active_bindings.keys()
        await pilot.press("p", "e")
        assert app.screen is app.serving
        await see(app, pilot, BESIDE)
        assert {"p", "e"} <= app.active_bindings.keys()
        await see(app, pilot, snapshot(models=(replace(accompanied(), canary=None),)))
        assert {"p", "e"} & app.active_bindings.keys() == {"e"}


async def test_the_longest_dialog_shows_its_buttons_on_a_small_terminal() -> None:
    tuning = Tuning(rows_max=16, delay_us_max=400, lanes=2, threads=1, bucket_rows=(1, 4, 16))
    tuned = snapshot(models=(replace(accompanied(), tuning=tuning),))
    async with console(FakeGateway(tuned)) as (app, pilot):
        await pilot.press("tab", "down", "c")
        buttons = app.screen.query_one("#confirm", Button).region
        assert app.screen.region.contains_region(buttons)
        assert app.screen.query_one(".dialog").max_scroll_y == 0


async def test_keys_pressed_meanwhile_are_answered_once() -> None:
    async with console(FakeGateway(BESIDE)) as (app, pilot):
        app._busy = "Promote version 4 of digits"
        await pilot.press("p", "s", "b")
        (told,) = app._notifications
        assert told.message == "Promote version 4 of digits is not finished yet."
