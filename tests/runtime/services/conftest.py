"""The protocol's calls over a real wire, before the stock client: unmodified tritonclient."""

import asyncio
import os
from types import SimpleNamespace
from uuid import uuid4

import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from appliance import journal
from appliance.config import BatchingConfig, Config, ServerConfig, SharedMemoryConfig
from runtime.regions import DIRECTORY, Regions
from runtime.services.protocol import calls
from runtime.traces import Traces
from runtime.transport import listen, on_loop


@pytest.fixture
async def serve(world):
    """Serves the world's calls with settings of [server], [shared_memory] and [batching]; returns the client.

    The client has what was made for it as `client.regions`, `client.traces` and `client.address`.
    """
    opened = []

    async def start(*, server=None, shared=None, batching=None, inferring=(), share=None):
        config = Config(
            server=ServerConfig(address="127.0.0.1:0", transport="public", **(server or {})),
            shared_memory=SharedMemoryConfig(**(shared or {})),
            batching=BatchingConfig(**(batching or {})),
        )
        regions, traces = Regions(config.shared_memory, share=share), Traces()
        transport = listen(config.server)
        loop = asyncio.get_running_loop()
        served = calls(
            config=config,
            store=world.store,
            table=world.table,
            dataplane=world.dataplane,
            controlplane=world.control,
            metrics=world.metrics,
            regions=regions,
            traces=traces,
            inferring=inferring,
        )
        transport.start(
            {path: on_loop(call.answer, call.request, loop) for path, call in served.items()}
        )
        client = triton.InferenceServerClient(transport.address)
        client.regions, client.traces, client.address = regions, traces, transport.address
        opened.append((client, transport))
        return client

    yield start
    for client, transport in opened:
        await client.close()
        await transport.stop(1)


@pytest.fixture
def refused():
    """Awaits a call that must be refused; returns its `status` ("StatusCode.NOT_FOUND") and `text`."""

    async def refuse(call):
        with pytest.raises(InferenceServerException) as caught:
            await call
        return SimpleNamespace(status=caught.value.status(), text=caught.value.message())

    return refuse


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """The journal's lines of this test, as one text; what it shows is as before afterwards."""
    before = journal.shown()
    with (tmp_path / "journal").open("w") as stream:
        journal.start_journal(stream)
        yield (tmp_path / "journal").read_text
    journal.show(before)
    journal.start_journal()


@pytest.fixture
def prefix():
    """The beginning of shared memory keys of this test alone; whatever it left behind is removed."""
    name = f"holdfast-client-{os.getpid()}-{uuid4().hex[:8]}-"
    yield name
    for left in DIRECTORY.glob(f"{name}*"):
        left.unlink()
