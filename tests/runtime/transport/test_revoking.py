"""Who is revoked or unknown: idle streams end at once, and a stranger's message is not waited for."""

import asyncio
import gc
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from appliance.access import Role
from runtime.access import Principal
from runtime.interceptors import Refusal, refusal
from runtime.transport import Health, reflection_methods, while_standing
from runtime.transport.exchange import Streaming
from tests.runtime.transport.conftest import Held

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
async def watched(serve):
    """A server whose callers are all `principal`; `refused` is what was to be recorded."""
    health, told, principal = Health([]), [], Principal("token:leaver", Role.CLIENT)
    unary = Held()

    def refused(error, name, peer, method):
        told.append((name, method, peer.partition(":")[0]))
        return refusal(error)

    methods = {
        **health.methods(),
        **reflection_methods(["grpc.health.v1.Health"]),
        "/test.Wire/Unary": unary,
    }
    wire = await serve(while_standing(methods, refused), admit=lambda _: principal)
    wire.health, wire.principal, wire.refused, wire.unary = health, principal, told, unary
    return wire


def opened(watched):
    """An idle watch and an idle reflection stream, each after its first answer."""
    watch = health_pb2_grpc.HealthStub(watched.channel).Watch(health_pb2.HealthCheckRequest())
    reflection = reflection_pb2_grpc.ServerReflectionStub(watched.channel).ServerReflectionInfo()
    return watch, reflection


async def test_idle_streams_end_when_their_caller_is_revoked(watched, until):
    watch, reflection = opened(watched)
    assert (await watch.read()).status == 2
    await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    assert (await reflection.read()).list_services_response.service
    await asyncio.to_thread(watched.principal.fall)
    for stream in (watch, reflection):
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked") as ended:
            await stream.read()
        assert ended.value.code() is UNAUTHENTICATED
    await until(lambda: not watched.transport.in_flight)
    assert not watched.health._watchers
    assert sorted(watched.refused) == [
        ("token:leaver", "/grpc.health.v1.Health/Watch", "ipv4"),
        ("token:leaver", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "ipv4"),
    ]
    watched.principal.fall()
    watched.health.show_health(serving=True)
    assert len(watched.refused) == 2


async def test_a_stream_that_was_opened_meanwhile_ends_too(watched):
    watched.principal.fall()
    watch, _ = opened(watched)
    with pytest.raises(grpc.aio.AioRpcError, match="was revoked"):
        await watch.read()


def test_what_a_message_began_while_its_caller_fell_is_over_too():
    principal, begun = Principal("token:leaver", Role.CLIENT), []

    class Slow:
        def received(self, _):
            principal.fall()  # on another thread, as it may be
            begun.append(self)

        def gone(self):
            begun.clear()

    stream = SimpleNamespace(principal=principal, peer="ipv4:1.2.3.4:5", finish=lambda _: None)
    (held,) = while_standing(
        {"/a/B": Streaming(lambda _: Slow())}, lambda error, *_: refusal(error)
    ).values()
    held.open(stream).received(b"")
    assert not begun


async def test_streams_that_are_over_are_not_kept(watched, until):
    watch, reflection = opened(watched)
    await watch.read()
    await until(lambda: len(watched.principal._followers) == 2)
    watch.cancel()
    reflection.cancel()
    await until(lambda: not watched.transport.in_flight)
    await until(lambda: gc.collect() is not None and not watched.principal._followers)
    watched.principal.fall()
    assert not watched.refused


async def test_unary_calls_are_as_they_were(watched):
    call = asyncio.ensure_future(watched.channel.unary_unary("/test.Wire/Unary")(b"x"))
    exchange = await watched.unary.next()
    watched.principal.fall()
    exchange.reply(b"y")
    assert await call == b"y"


async def test_a_stranger_is_refused_before_the_message_is_there(serve):
    stranger = Refusal(UNAUTHENTICATED, "who are you", ())
    wire = await serve(admit=lambda _: stranger)
    hanging = asyncio.Event()

    async def never():
        await hanging.wait()
        yield b"late"

    for method in ("Echo", "Talk"):
        call = wire.channel.stream_unary(f"/test.Wire/{method}")(never())
        error = await wire.fails(call)
        assert (error.code(), error.details()) == (UNAUTHENTICATED, "who are you")
    assert not wire.transport.in_flight


async def test_a_unary_call_without_a_message_is_refused(serve):
    wire = await serve()

    async def nothing():
        return
        yield

    error = await wire.fails(wire.channel.stream_unary("/test.Wire/Echo")(nothing()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
