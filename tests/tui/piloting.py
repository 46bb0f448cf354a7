"""A running console under a test's fingers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from tests.tui.conftest import FakeGateway
from tui.app import ConsoleApp
from tui.snapshot import Snapshot
from tui.widgets.versions import VersionTable


@asynccontextmanager
async def console(
    gateway: FakeGateway, *, tick_seconds: float = 3600
) -> AsyncIterator[tuple[ConsoleApp, Pilot[None]]]:
    """A running console that has looked once."""
    app = ConsoleApp(gateway, actor="alice", tick_seconds=tick_seconds)
    app.NOTIFICATION_TIMEOUT = 3600  # what is told stays until the test has read it
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is gateway.now)
        yield app, pilot


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Let the console work until `holds`; the test's own time limit ends a vain wait."""
    while not holds():
        await pilot.pause(0.005)
    await pilot.pause()


async def see(app: ConsoleApp, pilot: Pilot[None], now: Snapshot) -> None:
    """Let the console take its next look, at `now`."""
    assert isinstance(app.gateway, FakeGateway)
    app.gateway.now = now
    await app._look()
    await pilot.pause()


async def write(pilot: Pilot[None], text: str) -> None:
    await pilot.press(*("space" if letter == " " else letter for letter in text))


def table(app: ConsoleApp) -> VersionTable:
    return app.serving.query_one(VersionTable)
