"""A transport of either lane with methods that tests steer, and clients of grpcio's own."""

import asyncio

import grpc
import msgspec
import pytest

from appliance.config import ServerConfig
from runtime.interceptors import Refusal
from runtime.transport import Streaming, listen
from runtime.transport.exchange import let_in
from runtime.transport.fast import FastTransport

LOCAL = ServerConfig(address="127.0.0.1:0", transport="fast")


async def _until(condition):
    """Wait for what another thread or process is about to do; the suite's timeout is the limit."""
    while not condition():
        await asyncio.sleep(0.005)


class Held:
    """A unary method that leaves its calls to the test."""

    def __init__(self):
        self.exchanges = []
        self.gone = []

    def __call__(self, message, exchange):
        exchange.on_gone(lambda: self.gone.append(message))
        self.exchanges.append(exchange)

    async def next(self, number=1):
        """The exchange of the `number`th call."""
        await _until(lambda: len(self.exchanges) >= number)
        return self.exchanges[number - 1]


class Talk:
    """The receiver of one stream: notes what comes; `answer` is called with each message."""

    def __init__(self, stream, answer=None):
        self.stream, self.answer = stream, answer
        self.messages, self.events = [], []
        self.taken = 0
        stream.read()

    def received(self, message):
        self.messages.append(message)
        if self.answer:
            self.answer(self, message)

    def ended(self):
        self.events.append("ended")

    def sent(self):
        self.taken += 1

    def gone(self):
        self.events.append("gone")


class Wire:
    """A started transport with its methods, and a client."""

    def __init__(self, transport, address):
        self.transport, self.address = transport, address
        self.held = Held()
        self.talks = []
        self.answer = None
        self.fault = None
        self.channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def opened(self, stream):
        if self.fault:
            raise self.fault
        self.talks.append(Talk(stream, self.answer))
        return self.talks[-1]

    async def talk(self):
        """The first stream's receiver."""
        await _until(lambda: self.talks)
        return self.talks[0]

    def ask(self, method, message=b"", **given):
        """Begin a unary call of `method`."""
        return self.channel.unary_unary(f"/test.Wire/{method}")(message, **given)

    def stream(self, method="Talk"):
        """Begin a bidirectional call."""
        return self.channel.stream_stream(f"/test.Wire/{method}")()

    async def fails(self, call):
        """The error that `call` ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        return refused.value

    async def close(self):
        await self.channel.close()
        await self.transport.stop(0)


def echo(message, exchange):
    exchange.reply(message)


def broken(message, exchange):
    raise RuntimeError("the secret")


def refused(message, exchange):
    trailing = (("why", "a test"), ("raw-bin", b"\x00\xff"))
    exchange.refuse(Refusal(grpc.StatusCode.NOT_FOUND, "not here: \u00e4", trailing))


@pytest.fixture
def until():
    """Waits until a condition holds."""
    return _until


@pytest.fixture(params=["fast", "public"])
def lane(request):
    return request.param


@pytest.fixture
async def serve(lane):
    """Starts a transport of the lane; settings of [server] may be given, and further methods."""
    wires = []

    async def start(methods=None, *, admit=let_in, **settings):
        config = msgspec.structs.replace(LOCAL, transport=lane, **settings)
        transport = listen(config)
        assert isinstance(transport, FastTransport) == (lane == "fast")
        wire = Wire(transport, transport.address)
        wires.append(wire)
        transport.start(
            {
                "/test.Wire/Echo": echo,
                "/test.Wire/Held": wire.held,
                "/test.Wire/Broken": broken,
                "/test.Wire/Refused": refused,
                "/test.Wire/Talk": Streaming(wire.opened),
                **(methods or {}),
            },
            admit=admit,
        )
        return wire

    yield start
    for wire in wires:
        await wire.close()


@pytest.fixture
async def wire(serve):
    """A started transport with the default settings."""
    return await serve()
