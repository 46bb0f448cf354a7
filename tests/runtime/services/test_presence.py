"""ServerLive, ServerReady, ModelReady."""

import asyncio

from appliance.deployment import Activate


async def test_the_server_is_live_and_ready_until_it_drains(serve, world):
    client = await serve()
    assert await client.is_server_live()
    assert await client.is_server_ready()
    await world.dataplane.drain(1, asyncio.Event())
    assert await client.is_server_live()
    assert not await client.is_server_ready()


async def test_a_model_is_ready_by_number_role_or_neither(serve, world):
    client = await serve()
    assert not await client.is_model_ready("digits")
    await world.decide(Activate(version=1))
    assert await client.is_model_ready("digits")
    assert await client.is_model_ready("digits", "1")
    assert await client.is_model_ready("digits", "active")
    assert not await client.is_model_ready("digits", "previous")
    assert not await client.is_model_ready("digits", "2")
    assert not await client.is_model_ready("digits", "7")
    assert not await client.is_model_ready("nothing")
    assert not await client.is_model_ready("../etc")


async def test_a_version_that_is_neither_number_nor_role_is_an_error(serve, world, refused):
    await world.decide(Activate(version=1))
    told = await refused((await serve()).is_model_ready("digits", "x"))
    assert told.status == "StatusCode.INVALID_ARGUMENT"
    assert "failed to get model version from specified version string 'x'" in told.text


async def test_roles_move_with_the_decisions(serve, world):
    client = await serve()
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    metadata = await client.get_model_metadata("digits", "previous")
    assert list(metadata.versions) == ["1", "2"]
    assert await client.is_model_ready("digits", "previous")
