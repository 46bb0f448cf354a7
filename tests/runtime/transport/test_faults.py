"""What clients may do wrong, over both lanes: the server goes on, and nothing of them stays behind."""

import asyncio
import signal
import socket
import sys
import threading
from pathlib import Path

import grpc
import pytest

from runtime.transport import listening

GARBAGE = [
    b"\x00" * 4096,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

# A client with many calls in flight, which says so and waits to be killed.
CLIENT = """
import asyncio, sys, grpc
async def main(address, calls):
    channel = grpc.aio.insecure_channel(address)
    held = [channel.unary_unary("/test.Wire/Held")(b"%d" % at) for at in range(calls)]
    talks = [channel.stream_stream("/test.Wire/Talk")() for at in range(10)]
    for talk in talks:
        await talk.write(b"x")
    print("ready", flush=True)
    await asyncio.gather(*held)
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.parametrize("sent", GARBAGE, ids=["zeros", "http1", "frames", "tls"])
async def test_garbage_on_the_port_ends_its_connection_only(wire, sent):
    closed = await asyncio.to_thread(_until_closed, wire.address, sent)
    assert closed
    assert await wire.ask("Echo", b"still here") == b"still here"


async def test_a_connection_that_says_nothing_is_closed(serve, monkeypatch):
    monkeypatch.setattr(listening, "HANDSHAKE_SECONDS_MAX", 0.2)
    wire = await serve()
    assert await asyncio.to_thread(_until_closed, wire.address, b"")
    assert await asyncio.to_thread(_until_closed, wire.address, PREFACE[:10])


async def test_an_idle_connection_is_asked_to_leave(serve):
    wire = await serve(idle_seconds_max=0.2)
    assert await asyncio.to_thread(_until_closed, wire.address, PREFACE)
    assert await wire.ask("Echo", b"x") == b"x"


async def test_a_connection_that_does_not_answer_probes_is_cut(serve):
    wire = await serve(probe_seconds=1.0)
    assert await asyncio.to_thread(_until_closed, wire.address, PREFACE)


async def test_hundreds_of_idle_connections_do_not_hinder_a_call(wire, until):
    before = _open_files()
    crowd = [await asyncio.to_thread(_connect, wire.address) for _ in range(500)]
    try:
        assert await wire.ask("Echo", b"still here") == b"still here"
    finally:
        for connection in crowd:
            connection.close()
    await until(lambda: _open_files() <= before + 5)


async def test_connections_over_the_limit_are_closed(serve):
    wire = await serve(connections_max=4)
    assert await wire.ask("Echo", b"x") == b"x"
    crowd = [_connect(wire.address) for _ in range(3)]
    assert await asyncio.to_thread(_until_closed, wire.address, PREFACE)
    assert await wire.ask("Echo", b"still here") == b"still here"
    for connection in crowd:
        connection.close()


async def test_oversize_metadata_is_refused(serve):
    wire = await serve(metadata_bytes_max=4096)
    error = await wire.fails(wire.ask("Echo", metadata=(("key", "v" * 5000),)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await wire.ask("Echo", metadata=(("key", "v" * 2000),)) == b""


async def test_a_unary_call_without_a_message_is_refused(serve, lane):
    if lane == "public":
        pytest.skip("grpc.aio ends such a call by itself")
    wire = await serve()
    call = wire.stream("Echo")
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_that_cancels_everything_leaves_nothing(wire, until):
    for _ in range(20):
        calls = [wire.ask("Held", b"x") for _ in range(25)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
    await until(lambda: not wire.transport.in_flight)
    assert await wire.ask("Echo", b"still here") == b"still here"
    await until(lambda: not wire.transport.in_flight)
    # A call is counted out before it is told.
    await until(lambda: len(wire.held.gone) == len(wire.held.exchanges))


async def test_replies_to_callers_that_leave_meanwhile_are_harmless(wire, until):
    for number in range(1, 51):
        call = wire.ask("Held", b"x")
        exchange = await wire.held.next(number)
        replying = threading.Thread(target=exchange.reply, args=(b"y",))
        replying.start()
        call.cancel()
        replying.join()
    await until(lambda: not wire.transport.in_flight)
    assert await wire.ask("Echo", b"still here") == b"still here"


async def test_killed_clients_leave_no_call_thread_or_file(serve, until):
    wire = await serve()
    await wire.ask("Echo")
    files, threads = _open_files(), threading.active_count()
    clients = [await _client(wire.address, 300) for _ in range(2)]
    await until(lambda: len(wire.held.exchanges) == 600 and len(wire.talks) == 20)
    for exchange in wire.held.exchanges[::3]:
        exchange.reply(b"in time")
    for client in clients:
        client.send_signal(signal.SIGKILL)
        await client.wait()
        client._transport.close()
    await until(lambda: not wire.transport.in_flight)
    await until(lambda: all(talk.events == ["gone"] for talk in wire.talks))
    await until(lambda: len(wire.held.gone) >= 400)  # a call is counted out before it is told
    for exchange in wire.held.exchanges:
        exchange.reply(b"nobody listens")
    assert await wire.ask("Echo", b"still here") == b"still here"
    await until(lambda: _open_files() <= files)
    await until(lambda: threading.active_count() <= threads)  # asyncio had some for the clients


async def _client(address, calls):
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, address, str(calls)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert client.stdout
    assert await client.stdout.readline() == b"ready\n"
    return client


def _connect(address):
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(PREFACE)
    return connection


def _until_closed(address, sent):
    """Send bytes and read until the other side ends the connection."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        try:
            connection.sendall(sent)
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))
