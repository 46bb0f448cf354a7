"""Unary calls, over both lanes."""

import asyncio
import gc
import logging
import threading
import time
import weakref

import grpc
import pytest

from runtime.access import ANYONE
from runtime.interceptors import Refusal

OTHER = Refusal(grpc.StatusCode.ABORTED, "too late", ())


@pytest.mark.parametrize("message", [b"hello", b"", bytes(range(256)) * 2], ids=len)
async def test_a_message_comes_back(wire, message):
    assert await wire.ask("Echo", message) == message


async def test_a_message_of_64_mb_comes_back_and_a_larger_one_is_refused(serve):
    wire = await serve(request_bytes_max=64 << 20)
    largest = bytes(64 << 20)
    assert await wire.ask("Echo", largest) == largest
    error = await wire.fails(wire.ask("Echo", largest + b"x"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_method_sees_who_calls(serve):
    seen = {}

    def look(message, exchange):
        seen.update(
            peer=exchange.peer,
            principal=exchange.principal,
            metadata=dict(exchange.metadata),
            deadline_ns=exchange.deadline_ns,
        )
        exchange.reply(b"")

    wire = await serve({"/test.Wire/Look": look})
    await wire.ask("Look", metadata=(("key", "value"), ("raw-bin", b"\x00\xff")))
    assert seen["peer"].startswith("ipv4:127.0.0.1:")
    assert seen["principal"] is ANYONE
    assert seen["metadata"]["key"] == "value"
    assert seen["metadata"]["raw-bin"] == b"\x00\xff"
    assert seen["deadline_ns"] is None
    before = time.monotonic_ns()
    await wire.ask("Look", timeout=1000)
    # The wire carries few digits of a long time.
    assert 0.9 < (seen["deadline_ns"] - before) / 1000e9 < 1.1


async def test_a_reply_may_come_from_any_thread_with_trailing_metadata(wire):
    call = wire.ask("Held")
    exchange = await wire.held.next()
    trailing = (("receipt", "7"), ("raw-bin", b"\x00"))
    threading.Thread(target=exchange.reply, args=(b"later", trailing)).start()
    assert await call == b"later"
    sent = dict(await call.trailing_metadata())
    assert sent["receipt"] == "7"
    assert sent["raw-bin"] == b"\x00"


async def test_a_refusal_carries_status_text_and_metadata(wire):
    error = await wire.fails(wire.ask("Refused"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "not here: \u00e4"
    assert ("why", "a test") in tuple(error.trailing_metadata())


async def test_an_unknown_method_is_unimplemented(wire):
    error = await wire.fails(wire.ask("Missing"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "/test.Wire/Missing" in error.details()


async def test_a_method_that_raises_tells_only_an_incident(wire, caplog):
    with caplog.at_level(logging.ERROR, logger="holdfast"):
        error = await wire.fails(wire.ask("Broken"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    (noted,) = [line for line in caplog.records if line.message == "request.crashed"]
    assert noted.fields["incident"] in error.details()
    assert noted.fields["message"] == "the secret"


@pytest.mark.parametrize("trailing", [(("key", "\u00e4"),), (("Key", "v"),), (("key", "a\nb"),)])
async def test_metadata_that_cannot_travel_is_an_internal_error(wire, trailing):
    for end in ("reply", "refuse"):
        call = wire.ask("Held")
        exchange = await wire.held.next(len(wire.held.exchanges) + 1)
        if end == "reply":
            exchange.reply(b"", trailing)
        else:
            exchange.refuse(Refusal(grpc.StatusCode.NOT_FOUND, "no", trailing))
        assert (await wire.fails(call)).code() is grpc.StatusCode.INTERNAL
    assert await wire.ask("Echo", b"still here") == b"still here"


async def test_only_the_first_ending_counts(wire):
    call = wire.ask("Held")
    exchange = await wire.held.next()
    exchange.reply(b"first")
    exchange.reply(b"second")
    exchange.refuse(OTHER)
    assert await call == b"first"
    call = wire.ask("Held")
    exchange = await wire.held.next(2)
    exchange.refuse(OTHER)
    exchange.reply(b"second")
    assert (await wire.fails(call)).code() is grpc.StatusCode.ABORTED
    assert not wire.held.gone


async def test_two_threads_may_end_a_call_at_once(wire):
    for number in range(1, 51):
        call = wire.ask("Held")
        exchange = await wire.held.next(number)
        both = threading.Barrier(2)

        def end(message, exchange=exchange, both=both):
            both.wait()
            exchange.reply(message)

        threads = [threading.Thread(target=end, args=(text,)) for text in (b"a", b"b")]
        for thread in threads:
            thread.start()
        assert await call in (b"a", b"b")
        for thread in threads:
            thread.join()


async def test_a_method_learns_that_its_caller_cancelled_and_may_still_reply(wire, until):
    call = wire.ask("Held", b"one")
    exchange = await wire.held.next()
    call.cancel()
    await until(lambda: wire.held.gone == [b"one"])
    exchange.reply(b"nobody listens")
    exchange.refuse(OTHER)
    assert await wire.ask("Echo", b"still here") == b"still here"
    assert wire.held.gone == [b"one"]


async def test_a_method_learns_that_the_deadline_passed(wire, until):
    seconds = 0.05
    while not wire.held.exchanges:  # on a busy machine it may pass before the call is there
        error = await wire.fails(wire.ask("Held", b"one", timeout=seconds))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        seconds *= 2
    await until(lambda: len(wire.held.gone) == len(wire.held.exchanges))


async def test_who_asks_late_still_learns_that_the_caller_left(serve, until):
    exchanges, gone = [], threading.Event()
    wire = await serve({"/test.Wire/Late": lambda message, exchange: exchanges.append(exchange)})
    call = wire.ask("Late")
    await until(lambda: exchanges)
    call.cancel()
    exchanges[0].on_gone(gone.set)
    await until(gone.is_set)


async def test_calls_over_the_limit_are_refused_with_a_hint(serve, until):
    wire = await serve(requests_in_flight_max=2)
    running = [wire.ask("Held") for _ in range(2)]
    await wire.held.next(2)
    error = await wire.fails(wire.ask("Echo"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    told = dict(error.trailing_metadata())
    assert told["holdfast-code"] == "server.overloaded"
    assert int(told["grpc-retry-pushback-ms"]) > 0
    for exchange in wire.held.exchanges:
        exchange.reply(b"")
    await asyncio.gather(*running)
    await until(lambda: not wire.transport.in_flight)
    assert await wire.ask("Echo", b"again") == b"again"


async def test_nothing_of_a_call_is_kept_after_its_end(serve, until):
    kept = []

    def note(message, exchange):
        left = Left(exchange)
        kept.append(weakref.ref(left))
        exchange.on_gone(left)
        if message:
            exchange.reply(message)

    wire = await serve({"/test.Wire/Note": note})
    for _ in range(20):
        await wire.ask("Note", b"x")
    call = wire.ask("Note")
    await until(lambda: len(kept) == 21)
    call.cancel()
    await until(lambda: not wire.transport.in_flight)
    await until(lambda: gc.collect() >= 0 and not any(left() for left in kept))


class Left:
    """What a method may hang on a call; the call hangs on it, too."""

    def __init__(self, exchange):
        self.exchange = exchange

    def __call__(self):
        """Nothing."""
