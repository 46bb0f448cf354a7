"""Health, reflection and servicer coroutines, over both lanes."""

import asyncio

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from appliance.errors import UnknownModel
from runtime.access import ANYONE
from runtime.transport import Health, on_loop, reflection_methods

Check = health_pb2.HealthCheckRequest
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3
HEALTH = "/grpc.health.v1.Health"


@pytest.fixture
async def healthy(serve):
    health = Health(["test.Wire"])
    wire = await serve({**health.methods(), **reflection_methods(["grpc.health.v1.Health"])})
    wire.health = health
    wire.stub = health_pb2_grpc.HealthStub(wire.channel)
    return wire


async def test_a_check_tells_the_state(healthy):
    assert (await healthy.stub.Check(Check())).status == NOT_SERVING
    healthy.health.show_health(serving=True)
    assert (await healthy.stub.Check(Check(service="test.Wire"))).status == SERVING
    error = await healthy.fails(healthy.stub.Check(Check(service="other")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_bytes_that_are_no_request_are_refused(healthy, method):
    call = healthy.channel.unary_unary(f"{HEALTH}/{method}")
    error = await healthy.fails(call(b"\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_list_names_every_service(healthy):
    healthy.health.show_health(serving=True)
    raw = await healthy.channel.unary_unary(f"{HEALTH}/List")(b"")
    listed = _list_class().FromString(raw).statuses
    assert {name: listed[name].status for name in listed} == {"": SERVING, "test.Wire": SERVING}


async def test_a_watcher_is_told_each_change(healthy, until):
    call = healthy.stub.Watch(Check(service="test.Wire"))
    assert (await call.read()).status == NOT_SERVING
    healthy.health.show_health(serving=False)
    healthy.health.show_health(serving=True)
    assert (await call.read()).status == SERVING
    unknown = healthy.stub.Watch(Check(service="other"))
    assert (await unknown.read()).status == UNKNOWN
    call.cancel()
    unknown.cancel()
    await until(lambda: not healthy.transport.in_flight)


async def test_watchers_that_do_not_read_cost_nothing(healthy):
    call = healthy.stub.Watch(Check())
    assert (await call.read()).status == NOT_SERVING
    for turn in range(10_001):
        healthy.health.show_health(serving=turn % 2 == 0)
        (watcher,) = healthy.health._watchers
        assert watcher._stream.unsent <= 1
    while (await call.read()).status != SERVING:
        pass
    call.cancel()


async def test_a_watch_without_a_request_is_refused(healthy):
    call = healthy.channel.stream_stream(f"{HEALTH}/Watch")()
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_tells_services_and_files(healthy):
    stub = reflection_pb2_grpc.ServerReflectionStub(healthy.channel)
    ask = reflection_pb2.ServerReflectionRequest
    call = stub.ServerReflectionInfo()
    await call.write(ask(list_services=""))
    services = {service.name for service in (await call.read()).list_services_response.service}
    assert services == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    await call.write(ask(file_containing_symbol="grpc.health.v1.Health"))
    (file,) = (await call.read()).file_descriptor_response.file_descriptor_proto
    assert b"HealthCheckRequest" in file
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_reflections_first_version_is_served_and_garbage_refused(healthy):
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    call = healthy.channel.stream_stream(path)()
    await call.write(b"\xff\xff")
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


class Servicer:
    """Coroutines as a servicer has them."""

    def __init__(self):
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def answer(self, request, context):
        assert context.peer().startswith("ipv4:")
        assert context.principal is ANYONE
        assert dict(context.invocation_metadata())["key"] == "value"
        context.set_trailing_metadata((("model", request.service),))
        if request.service == "unknown":
            raise UnknownModel("no such model", remedy="name another")
        return health_pb2.HealthCheckResponse(status=SERVING)

    async def hang(self, request, context):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_a_coroutine_answers_refuses_and_is_cancelled(serve):
    servicer, loop = Servicer(), asyncio.get_running_loop()
    wire = await serve(
        {
            "/test.Wire/Answer": on_loop(servicer.answer, Check, loop),
            "/test.Wire/Hang": on_loop(servicer.hang, Check, loop),
        }
    )
    message, key = Check(service="m").SerializeToString(), (("key", "value"),)
    call = wire.ask("Answer", message, metadata=key)
    assert health_pb2.HealthCheckResponse.FromString(await call).status == SERVING
    assert dict(await call.trailing_metadata())["model"] == "m"
    unknown = Check(service="unknown").SerializeToString()
    error = await wire.fails(wire.ask("Answer", unknown, metadata=key))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    told = dict(error.trailing_metadata())
    assert told["holdfast-code"] == "model.unknown"
    assert told["model"] == "unknown"
    error = await wire.fails(wire.ask("Answer", b"\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    hanging = wire.ask("Hang")
    await servicer.begun.wait()
    hanging.cancel()
    await servicer.cancelled.wait()


async def test_a_closed_loop_refuses(serve):
    loop = asyncio.new_event_loop()
    loop.close()
    wire = await serve({"/test.Wire/Late": on_loop(Servicer().answer, Check, loop)})
    error = await wire.fails(wire.ask("Late"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def _list_class():
    """HealthListResponse as grpc.health.v1 publishes it, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    for file in (health_pb2.DESCRIPTOR.serialized_pb, _list_file().SerializeToString()):
        pool.AddSerializedFile(file)
    name = "grpc.health.v1.HealthListResponse"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _list_file():
    file = descriptor_pb2.FileDescriptorProto(
        name="list.proto",
        package="grpc.health.v1",
        syntax="proto3",
        dependency=[health_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="HealthListResponse")
    entry = message.nested_type.add(name="StatusesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    value = ".grpc.health.v1.HealthCheckResponse"
    entry.field.add(name="value", number=2, type=11, label=1, type_name=value)
    own = ".grpc.health.v1.HealthListResponse.StatusesEntry"
    message.field.add(name="statuses", number=1, type=11, label=3, type_name=own)
    return file
