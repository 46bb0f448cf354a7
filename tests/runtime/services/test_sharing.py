"""Shared memory of the system and of a GPU, registered as stock clients do."""

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm

ALLOWED = {"allowed": True}


@pytest.fixture
def region(prefix):
    """An object of 64 bytes, made by the stock library; its key, which begins as the config asks."""
    handle = shm.create_shared_memory_region("made", f"/{prefix}a", 64)
    shm.set_shared_memory_region(handle, [np.arange(16, dtype=np.float32)])
    yield f"/{prefix}a"
    shm.destroy_shared_memory_region(handle)


async def test_registered_listed_read_written_forgotten(serve, region):
    client = await serve(shared=ALLOWED)
    await client.register_system_shared_memory("in", region, 32)
    await client.register_system_shared_memory("out", region, 32, offset=32)
    status = await client.get_system_shared_memory_status(as_json=True)
    assert status["regions"]["out"] == {
        "name": "out",
        "key": region,
        "offset": "32",
        "byte_size": "32",
    }
    one = await client.get_system_shared_memory_status("in")
    assert list(one.regions) == ["in"]
    sent = np.frombuffer(client.regions.find("in", 4, 8).read(), np.float32)
    assert sent.tolist() == [1, 2]
    client.regions.find("out", 0, 8).write(np.float32([7, 8]).tobytes())
    assert np.frombuffer(client.regions.find("out", 0, 8).read(), np.float32).tolist() == [7, 8]
    await client.unregister_system_shared_memory("in")
    assert list((await client.get_system_shared_memory_status()).regions) == ["out"]
    await client.unregister_system_shared_memory()
    assert not (await client.get_system_shared_memory_status()).regions


async def test_the_example_of_the_documentation_runs(serve, prefix):
    import asyncio
    import re
    from pathlib import Path

    import tritonclient.grpc as blocking

    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    chapter = text.partition("### Shared memory")[2]
    example = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)[0]
    client = await serve(shared=ALLOWED)

    def run():
        with blocking.InferenceServerClient(client.address) as stock:
            names = {"client": stock}
            exec(example.replace("holdfast-client-", prefix), names)
        shm.destroy_shared_memory_region(names["region"])

    await asyncio.to_thread(run)
    assert client.regions.status("input")[0].byte_size == 1024


async def test_off_by_default_but_a_stock_clients_first_calls_are_answered(serve, region, refused):
    client = await serve()
    await client.unregister_system_shared_memory()
    await client.unregister_cuda_shared_memory()
    assert not (await client.get_system_shared_memory_status()).regions
    told = await refused(client.register_system_shared_memory("in", region, 64))
    assert told.status == "StatusCode.UNAVAILABLE"
    assert told.text == "Client shared memory is disabled"


async def test_a_taken_name_an_unknown_one_and_a_missing_object(serve, region, prefix, refused):
    client = await serve(shared=ALLOWED)
    await client.register_system_shared_memory("in", region, 64)
    told = await refused(client.register_system_shared_memory("in", region, 64))
    assert told.status == "StatusCode.ALREADY_EXISTS"
    assert told.text == "shared memory region 'in' already in manager"
    told = await refused(client.get_system_shared_memory_status("other"))
    assert told.status == "StatusCode.NOT_FOUND"
    assert told.text == "Unable to find system shared memory region: 'other'"
    await client.unregister_system_shared_memory("other")
    told = await refused(client.register_system_shared_memory("b", f"/{prefix}b", 64))
    assert told.status == "StatusCode.INTERNAL"
    assert told.text == f"Unable to open shared memory region: '/{prefix}b'"
    told = await refused(client.register_system_shared_memory("b", region, 65))
    assert told.status == "StatusCode.INVALID_ARGUMENT"
    assert told.text == "failed to register shared memory region 'b': invalid args"


async def test_only_a_caller_on_this_box_may_touch_regions(serve, region, refused, monkeypatch):
    client = await serve(shared=ALLOWED)
    await client.register_system_shared_memory("in", region, 64)
    monkeypatch.setattr("runtime.services.sharing.is_local", lambda peer: False)
    for call in (
        client.register_system_shared_memory("b", region, 64),
        client.unregister_system_shared_memory(),
        client.get_system_shared_memory_status(),
    ):
        assert (await refused(call)).text == "Client shared memory is disabled"
    assert client.regions.find("in", 0, 4).read()


async def test_changes_are_journalled_with_who_made_them(serve, region, lines):
    client = await serve(shared=ALLOWED)
    await client.register_system_shared_memory("in", region, 64)
    await client.unregister_system_shared_memory("in")
    assert '"event":"region.registered","region":"in"' in lines()
    assert '"event":"region.unregistered","region":"in","peer":"ipv4:127.0.0.1' in lines()


async def test_where_it_is_not_allowed_there_is_no_cuda(serve, refused, monkeypatch):
    client = await serve(shared=ALLOWED)
    # Stock clients forget all of both kinds first, from wherever they are: here there is nothing to guard.
    monkeypatch.setattr("runtime.services.sharing.is_local", lambda peer: False)
    assert not (await client.get_cuda_shared_memory_status()).regions
    await client.unregister_cuda_shared_memory("c")
    told = await refused(client.get_cuda_shared_memory_status("c"))
    assert told.status == "StatusCode.NOT_FOUND"
    assert told.text == "Unable to find cuda shared memory region: 'c'"
    told = await refused(client.register_cuda_shared_memory("c", b"\0" * 64, 0, 64))
    assert told.status == "StatusCode.INVALID_ARGUMENT"
    assert told.text == "failed to register CUDA shared memory region: 'c', GPUs not supported"


async def test_memory_of_a_gpu_is_registered_listed_and_forgotten(
    serve, refused, lines, monkeypatch
):
    import base64
    from types import SimpleNamespace

    closed = []

    def share(device, handle, size):
        assert (device, handle, size) == (1, bytes(range(64)), 32)
        return SimpleNamespace(
            read=lambda offset, size: b"\7" * size, close=lambda: closed.append(device)
        )

    client = await serve(shared={"cuda_allowed": True}, share=share)
    handle = base64.b64encode(bytes(range(64)))
    await client.register_cuda_shared_memory("g", handle, 1, 32)
    told = (await client.get_cuda_shared_memory_status("g", as_json=True))["regions"]["g"]
    assert told == {"name": "g", "device_id": "1", "byte_size": "32"}
    assert bytes(client.regions.find("g", 30, 2).read()) == b"\7\7"
    told = await refused(client.register_cuda_shared_memory("g", handle, 1, 32))
    assert told.status == "StatusCode.ALREADY_EXISTS"
    told = await refused(client.register_cuda_shared_memory("h", b"", 1, 32))
    assert told.text == "failed to register shared memory region 'h': invalid args"
    assert "cuda_shared_memory" in (await client.get_server_metadata()).extensions
    await client.unregister_system_shared_memory()
    monkeypatch.setattr("runtime.services.sharing.is_local", lambda peer: False)
    assert (await refused(client.unregister_cuda_shared_memory())).text == (
        "Client shared memory is disabled"
    )
    monkeypatch.setattr("runtime.services.sharing.is_local", lambda peer: True)
    await client.unregister_cuda_shared_memory("g")
    assert closed == [1]
    assert not (await client.get_cuda_shared_memory_status()).regions
    assert '"event":"region.registered","region":"g","device":1,"bytes":32' in lines()
