"""Streams, over both lanes."""

import asyncio
import threading
from collections import deque
from types import SimpleNamespace

import grpc
import pytest

from runtime.access import ANYONE
from runtime.interceptors import Refusal
from runtime.transport import public

PIECE = bytes(256 << 10)


def count_to(number):
    """A receiver's answer: as many messages, then the end."""

    def answer(talk, message):
        for at in range(number):
            talk.stream.send(b"%d" % at)
        talk.stream.finish(trailing=(("count", str(number)),))

    return answer


def echo(talk, message):
    talk.stream.send(message)
    talk.stream.read()


async def test_a_server_stream_comes_in_order_with_trailing_metadata(wire):
    wire.answer = count_to(100)
    call = wire.channel.unary_stream("/test.Wire/Talk")(b"go")
    assert [message async for message in call] == [b"%d" % at for at in range(100)]
    assert dict(await call.trailing_metadata())["count"] == "100"


async def test_a_stream_goes_to_and_fro(wire, until):
    wire.answer = echo
    call = wire.stream()
    for message in (b"one", b"", PIECE):
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    talk = await wire.talk()
    await until(lambda: talk.events == ["ended"] and talk.taken == 3)  # in either order
    talk.stream.send(b"after the client's end")
    talk.stream.finish()
    assert await call.read() == b"after the client's end"
    assert await call.code() is grpc.StatusCode.OK
    assert await call.read() is grpc.aio.EOF


async def test_a_stream_knows_its_caller(wire):
    call = wire.channel.stream_stream("/test.Wire/Talk")(metadata=(("key", "v"),), timeout=1000)
    await call.write(b"x")
    stream = (await wire.talk()).stream
    assert stream.peer.startswith("ipv4:127.0.0.1:")
    assert stream.principal is ANYONE
    assert ("key", "v") in [tuple(pair) for pair in stream.metadata]
    assert stream.deadline_ns is not None
    stream.finish()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_message_comes_only_when_it_is_asked_for(wire, until):
    call = wire.stream()
    talk = await _begun(wire, call)
    await call.write(b"two")
    await call.write(b"three")
    assert await wire.ask("Echo", b"a round trip") == b"a round trip"
    assert talk.messages == [b"one"]
    talk.stream.read()
    talk.stream.read()
    await until(lambda: talk.messages == [b"one", b"two", b"three"])
    talk.stream.finish()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_writer_is_held_up_by_a_stream_that_does_not_read(wire, until):
    call = wire.stream()
    talk = await _begun(wire, call)
    written, enough = [], asyncio.Event()

    async def fill():
        while not enough.is_set():
            await call.write(PIECE)
            written.append(PIECE)

    filling, before = asyncio.create_task(fill()), 0
    # The slower the machine is, the more grpc lets go ahead, up to some bound.
    while not written or len(written) > before:
        before = len(written)
        assert before < 1000
        await asyncio.sleep(0.1)
    assert talk.messages == [b"one"]
    enough.set()
    talk.answer = lambda talk, message: talk.stream.read()
    talk.stream.read()
    await filling
    await until(lambda: talk.messages == [b"one", *written])
    talk.stream.finish()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_reader_that_stops_leaves_messages_unsent_and_loses_none(wire, until):
    # Unless told not to, grpc lets the more go ahead the slower the machine is.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(wire.address, options) as channel:
        call = channel.stream_stream("/test.Wire/Talk")()
        talk = await _begun(wire, call)
        for at in range(64):
            talk.stream.send(bytes([at]) + PIECE)
        assert talk.stream.unsent > 32
        await until(lambda: talk.stream.unsent + talk.taken >= 64)  # it is told after it was taken
        talk.stream.finish()
        got = [message[0] async for message in call]
        assert got == list(range(64))
    await until(lambda: talk.taken == 64)
    assert talk.stream.unsent == 0


async def test_sending_from_many_threads_loses_nothing(wire):
    call = wire.stream()
    talk = await _begun(wire, call)

    def send(first):
        for at in range(200):
            talk.stream.send(b"%d %d" % (first, at))

    threads = [threading.Thread(target=send, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    got = [await call.read() for _ in range(800)]
    for first in range(4):
        own = [message for message in got if message.startswith(b"%d " % first)]
        assert own == [b"%d %d" % (first, at) for at in range(200)]
    talk.stream.finish()
    assert await call.code() is grpc.StatusCode.OK


async def test_what_is_sent_and_finished_while_the_queue_is_looked_at_is_not_lost():
    """In the public lane, where other threads send while the event loop writes."""

    class Queue(deque):
        def __len__(self):
            found = super().__len__()
            if sent and stream.ending is None:  # as another thread, right after the look
                stream.send(b"last")
                stream.finish()
            return found

    sent = []

    async def write(message):
        sent.append(message)

    context = SimpleNamespace(
        peer=str,
        invocation_metadata=tuple,
        time_remaining=lambda: None,
        set_trailing_metadata=lambda _: None,
        write=write,
    )
    stream = public.PublicStream(context, ANYONE)
    stream.queue = Queue()
    stream.send(b"first")
    assert await public._write(stream, SimpleNamespace(sent=lambda: None), context) is None
    assert sent == [b"first", b"last"]


async def test_a_stream_ends_with_a_refusal_after_what_was_sent(wire):
    call = wire.stream()
    talk = await _begun(wire, call)
    talk.stream.send(b"one")
    talk.stream.finish(Refusal(grpc.StatusCode.NOT_FOUND, "no more", (("why", "test"),)))
    talk.stream.finish()
    talk.stream.send(b"late")
    assert await call.read() == b"one"
    assert await call.code() is grpc.StatusCode.NOT_FOUND
    assert await call.details() == "no more"
    assert dict(await call.trailing_metadata())["why"] == "test"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_streams_metadata_that_cannot_travel_is_an_internal_error(wire, begun):
    call = wire.stream()
    talk = await _begun(wire, call)
    if begun:
        talk.stream.send(b"one")
        assert await call.read() == b"one"
    talk.stream.finish(trailing=(("key", "\u00e4"),))
    assert await call.code() is grpc.StatusCode.INTERNAL


async def test_a_receiver_that_raises_ends_its_stream_only(wire):
    def fail(talk, message):
        raise RuntimeError("the secret")

    wire.answer = fail
    call = wire.stream()
    await call.write(b"one")
    assert await call.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in await call.details()
    assert await wire.ask("Echo", b"still here") == b"still here"


async def test_a_stream_that_cannot_be_opened_is_refused(wire):
    wire.fault = RuntimeError("the secret")
    call = wire.stream()
    assert await call.code() is grpc.StatusCode.INTERNAL


async def test_a_stream_learns_that_its_caller_left(wire, until):
    call = wire.stream()
    talk = await _begun(wire, call)
    call.cancel()
    await until(lambda: talk.events == ["gone"])
    talk.stream.send(b"nobody listens")
    talk.stream.read()
    talk.stream.finish()
    assert talk.stream.unsent == 0
    await until(lambda: not wire.transport.in_flight)
    assert talk.events == ["gone"]


async def test_a_stream_that_was_told_its_end_is_not_told_again(wire, until):
    call = wire.stream()
    talk = await _begun(wire, call)
    talk.stream.finish()
    assert await call.code() is grpc.StatusCode.OK
    await until(lambda: not wire.transport.in_flight)
    assert talk.events == []


async def test_a_slow_reader_that_leaves_frees_what_was_queued(wire, until):
    call = wire.stream()
    talk = await _begun(wire, call)
    for _ in range(64):
        talk.stream.send(PIECE)
    call.cancel()
    await until(lambda: talk.events == ["gone"])
    await until(lambda: talk.stream.unsent == 0 and not wire.transport.in_flight)


async def _begun(wire, call):
    """The receiver of `call`, after its first message."""
    await call.write(b"one")
    talk = await wire.talk()
    while not talk.messages:
        await asyncio.sleep(0.005)
    return talk
