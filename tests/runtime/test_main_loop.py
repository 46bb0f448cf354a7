"""What the server tells the service manager while it runs."""

import asyncio
from types import SimpleNamespace

import pytest

from runtime import server


async def nothing():
    """A renewal that finds nothing."""


def running(held_seconds, trouble=""):
    ignore = SimpleNamespace(look=lambda: None, show_health=lambda serving: None)
    return server.Running(
        wire=SimpleNamespace(address="a:1", held_seconds=held_seconds),
        held_seconds_max=60.0,
        table=SimpleNamespace(check=lambda: None, trouble=trouble),
        health=ignore,
        door=ignore,
        self_check=ignore,
        renewal=SimpleNamespace(keep_looking=nothing),
    )


@pytest.mark.parametrize(
    ("held_seconds", "trouble", "told"),
    [
        (0.0, "", ["STATUS=serving on a:1", "WATCHDOG=1"]),
        (59.0, "version 1 fails", ["STATUS=version 1 fails", "WATCHDOG=1"]),
        (61.0, "", ["STATUS=serving on a:1"]),
    ],
    ids=["serving", "in trouble", "hanging"],
)
async def test_the_watchdog_is_fed_unless_the_wire_hangs(monkeypatch, held_seconds, trouble, told):
    said, stop = [], asyncio.Event()

    def notify(*lines):
        said.extend(lines)
        asyncio.get_running_loop().call_soon(stop.set)

    monkeypatch.setattr(server, "notify", notify)
    await server.main_loop(running(held_seconds, trouble), stop)
    assert said == told
