"""A console that is left open: a look costs what it shows, and leaves nothing behind."""

from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from tests.tui.conftest import FakeGateway, accompanied, snapshot
from tests.tui.piloting import console, see, until


async def test_looks_leave_the_keys_alone_until_other_acts_are_offered() -> None:
    async with console(FakeGateway(snapshot())) as (app, pilot):
        footer = app.screen.query_one(Footer)
        await until(pilot, lambda: bool(footer.query(FooterKey)))
        keys = list(footer.query(FooterKey))
        for _ in range(3):
            await see(app, pilot, snapshot())
        assert all(now is before for now, before in zip(footer.query(FooterKey), keys, strict=True))
        await see(app, pilot, snapshot(models=(accompanied(),)))
        await until(pilot, lambda: "promote" in {key.action for key in footer.query(FooterKey)})
