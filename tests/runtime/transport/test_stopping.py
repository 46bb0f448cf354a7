"""Binding, draining and cutting, over both lanes."""

import asyncio
import socket
import threading
from contextlib import suppress

import grpc
import msgspec
import pytest

from appliance.config import ServerConfig
from appliance.errors import ConfigError, ListenError
from runtime.transport import listen

GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_running_calls_end_and_new_ones_are_refused(wire, until):
    running = wire.ask("Held")
    exchange = await wire.held.next()
    stopping = asyncio.create_task(wire.transport.stop(60))
    await until(lambda: _refuses(wire.address))
    # A call that crosses the server's farewell on the old connection is cut instead of refused.
    await until(lambda: wire.channel.get_state() is not grpc.ChannelConnectivity.READY)
    error = await wire.fails(wire.ask("Echo"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert not stopping.done()
    exchange.reply(b"in time")
    assert await running == b"in time"
    await stopping
    assert not wire.transport.in_flight


async def test_what_is_over_time_is_cut_and_told(wire, until):
    unary, idle = wire.ask("Held", b"one"), wire.stream()
    await wire.held.next()
    await idle.write(b"x")
    talk = await wire.talk()
    await wire.transport.stop(0.05)
    assert (await wire.fails(unary)).code() in GONE
    assert await idle.code() in GONE
    await until(lambda: wire.held.gone == [b"one"] and talk.events[-1:] == ["gone"])
    assert not wire.transport.in_flight
    wire.held.exchanges[0].reply(b"nobody listens")
    talk.stream.send(b"nobody listens")


async def test_a_call_that_nobody_watches_does_not_hold_up_a_stop(serve, until):
    kept = []
    wire = await serve({"/test.Wire/Keep": lambda message, exchange: kept.append(exchange)})
    call = wire.ask("Keep")
    await until(lambda: kept)
    await wire.transport.stop(0.05)
    assert (await wire.fails(call)).code() in GONE
    kept[0].reply(b"nobody listens")


async def test_a_stream_that_never_ends_is_cut_by_its_connections_age(serve, until):
    wire = await serve(connection_seconds_max=0.2, call_seconds_max=0.2)
    call = wire.stream()  # without a message, for which a busy machine may leave no time
    talk = await wire.talk()
    await until(lambda: talk.events[-1:] == ["gone"])
    assert await call.code() in GONE


async def test_stopping_leaves_no_thread_and_a_free_port(serve, until):
    wire = await serve()
    await wire.ask("Echo")
    await wire.channel.close()
    await wire.transport.stop(1)
    await wire.transport.stop(1)
    assert not [thread for thread in threading.enumerate() if thread.name == "holdfast-wire"]
    await until(lambda: _refuses(wire.address))


async def test_a_transport_that_was_never_started_gives_its_port_back(lane, until):
    config = ServerConfig(address="127.0.0.1:0", transport=lane)
    transport = listen(config)
    await transport.stop(0)
    taken = []

    def takes():
        """Whether the port can be had: for a moment anybody's connection may have it."""
        with suppress(ListenError):
            taken.append(listen(msgspec.structs.replace(config, address=transport.address)))
        return bool(taken)

    await until(takes)
    assert taken[0].address == transport.address
    await taken[0].stop(0)


async def test_a_taken_port_is_named(lane):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=address):
            listen(ServerConfig(address=address, transport=lane))


async def test_two_transports_do_not_share_a_port(wire, lane):
    with pytest.raises(ListenError, match="taken"):
        listen(ServerConfig(address=wire.address, transport=lane))


async def test_an_address_that_is_none_is_refused(lane):
    with pytest.raises(ConfigError):
        listen(ServerConfig(address="nowhere", transport=lane))


def _refuses(address):
    """Whether nobody listens on `address`."""
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


async def test_a_method_that_hangs_is_seen_from_outside(until):
    """By the fast lane's own account; the public one hangs the event loop, which its watchdog sees."""
    inside, leave = threading.Event(), threading.Event()

    def hang(message, exchange):
        inside.set()
        leave.wait()
        exchange.reply(b"")

    transport = listen(ServerConfig(address="127.0.0.1:0"))
    transport.start({"/test.Wire/Hang": hang})
    async with grpc.aio.insecure_channel(transport.address) as channel:
        call = channel.unary_unary("/test.Wire/Hang")(b"")
        await asyncio.to_thread(inside.wait)
        assert transport.held_seconds > 0
        leave.set()
        await call
        await until(lambda: transport.held_seconds == 0)
    await transport.stop(1)
