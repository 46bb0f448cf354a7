"""Which calls there are, and that the loop is not held up by them."""

import asyncio

from tritonclient.grpc import service_pb2 as oip

from appliance.deployment import Activate
from runtime.services.protocol import FAMILIES, SERVICE, names

INFERENCES = {"ModelInfer", "ModelStreamInfer"}


def test_the_families_answer_every_call_but_inferences_each_once():
    answered = [name for family in FAMILIES for name in names(family)]
    assert sorted(answered) == sorted(set(SERVICE.methods_by_name) - INFERENCES)
    assert len(answered) == 18


async def test_bytes_that_are_no_request_are_refused(serve):
    import grpc
    import pytest

    client = await serve()
    path = f"/{SERVICE.full_name}/ModelReady"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client._channel.unary_unary(path)(b"\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_slow_disk_holds_up_its_own_call_only(serve, world, monkeypatch):
    await world.decide(Activate(version=1))
    client = await serve()
    entered, loop = asyncio.Event(), asyncio.get_running_loop()
    go = asyncio.Event()
    models = world.store.models

    def slow():
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        return models()

    monkeypatch.setattr(world.store, "models", slow)
    index = asyncio.ensure_future(client._client_stub.RepositoryIndex(oip.RepositoryIndexRequest()))
    await entered.wait()
    assert await client.is_server_live()
    assert await client.is_model_ready("digits")
    assert not index.done()
    go.set()
    assert len((await index).models) == 2
