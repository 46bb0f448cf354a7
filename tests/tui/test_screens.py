"""What the screens look like, at the smallest supported size and at a fuller one.

Each is drawn from a hand-made snapshot. After a wanted change: pytest tests/tui --snapshot-update, then
look at every picture in tests/tui/__snapshots__.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from appliance.deployment import Tuning
from appliance.errors import EngineLoad, Unreachable
from tests.tui.conftest import FakeGateway, accompanied, box, digits, snapshot, version_line, wine
from tests.tui.piloting import until
from tui.app import ConsoleApp
from tui.screens.trouble import TroubleScreen
from tui.snapshot import CONNECTING, Link, Snapshot, Traffic, unreachable

Compare = Callable[..., bool]

AWAY = unreachable(
    Unreachable(
        "no runtime answers on /var/lib/holdfast/control.sock: connection refused",
        remedy="start holdfast-runtime with the same state directory, or check its journal",
    )
)
SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])


@pytest.fixture
def snap_compare(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """The plugin's; keys and picture come after the console's first look, and no cursor blinks."""
    monkeypatch.setattr(Input, "_toggle_cursor", lambda _: None)
    return partial(snap_compare, run_before=looked)


async def looked(pilot: Pilot[None]) -> None:
    """Wait for the first look."""
    app = pilot.app
    assert isinstance(app, ConsoleApp)
    assert isinstance(app.gateway, FakeGateway)
    now = app.gateway.now
    await until(pilot, lambda: app.snapshot is now)


async def refused(pilot: Pilot[None]) -> None:
    """Give an order and wait for the runtime's refusal."""
    await looked(pilot)
    await pilot.press("b", "x", "enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, TroubleScreen))


def console(now: Snapshot) -> ConsoleApp:
    """A console that shows `now` and never looks again."""
    return ConsoleApp(FakeGateway(now), actor="alice", tick_seconds=3600)


def crowded() -> Snapshot:
    """Long names, a damaged version, more models than fit."""
    damaged = version_line(5, damage="'engine.ort' is missing or was changed", engine="")
    first = replace(digits(), versions=(damaged, *digits().versions))
    others = [replace(wine(), name=f"bottling-line-{number}-label-reader") for number in range(9)]
    return snapshot(models=(first, *others))


@SIZES
def test_serving(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(snapshot()), terminal_size=size)


@SIZES
def test_crowded(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(crowded()), terminal_size=size)


@SIZES
def test_canary_and_shadow(snap_compare: Compare, size: tuple[int, int]) -> None:
    now = snapshot(models=(accompanied(), wine()))
    assert snap_compare(console(now), terminal_size=size, press=["tab", "down"])


@SIZES
def test_tuned_and_counted(snap_compare: Compare, size: tuple[int, int]) -> None:
    tuning = Tuning(rows_max=16, delay_us_max=400, lanes=2, threads=1, bucket_rows=(1, 4, 16))
    first, *others = digits().versions
    tuned = replace(digits(), tuning=tuning, versions=(replace(first, edition=12), *others))
    assert snap_compare(console(snapshot(models=(tuned, wine()))), terminal_size=size)


@SIZES
def test_nothing_asked_yet(snap_compare: Compare, size: tuple[int, int]) -> None:
    idle = replace(digits(), traffic=Traffic())
    assert snap_compare(console(snapshot(models=(idle,))), terminal_size=size)


@SIZES
def test_reading_a_version(snap_compare: Compare, size: tuple[int, int]) -> None:
    press = ["tab", "tab"]
    assert snap_compare(console(snapshot()), terminal_size=size, press=press)


@SIZES
def test_unreachable(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(console(AWAY), terminal_size=size)


def test_confirming_an_activation(snap_compare: Compare) -> None:
    assert snap_compare(console(snapshot()), press=["a", *"fewer"])


def test_confirming_a_canary(snap_compare: Compare) -> None:
    assert snap_compare(console(snapshot()), press=["c", "enter", *"try"])


def test_a_wrong_share(snap_compare: Compare) -> None:
    now = snapshot(models=(accompanied(),))
    assert snap_compare(console(now), press=["tab", "down", "c", "backspace"])


def test_a_refused_decision(snap_compare: Compare) -> None:
    app = console(snapshot())
    assert isinstance(app.gateway, FakeGateway)
    app.gateway.refusal = EngineLoad(
        "version 2 of 'digits': the engine could not be loaded: not enough memory",
        remedy="free memory on this box, then decide again",
    )
    assert snap_compare(app, run_before=refused)


def test_help(snap_compare: Compare) -> None:
    assert snap_compare(console(snapshot()), press=["question_mark"])


async def test_the_whole_help_page_is_on_a_small_terminal() -> None:
    app = console(snapshot())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert app.screen.query_one(".dialog").max_scroll_y == 0


def test_connecting(snap_compare: Compare) -> None:
    assert snap_compare(console(CONNECTING))


def test_draining(snap_compare: Compare) -> None:
    now = snapshot(link=Link.DRAINING, box=box(draining=True))
    assert snap_compare(console(now))


def test_an_audit_log_that_takes_no_records(snap_compare: Compare) -> None:
    now = snapshot(box=box(audit_failure="no space left on device"))
    assert snap_compare(console(now))


def test_an_empty_store(snap_compare: Compare) -> None:
    assert snap_compare(console(snapshot(models=())))


def test_a_missing_reason(snap_compare: Compare) -> None:
    assert snap_compare(console(snapshot()), press=["a", "enter"])
