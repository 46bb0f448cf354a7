"""The control socket: who the kernel says is there, what they may, what is recorded."""

import asyncio
import contextlib
import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pytest

from appliance.config import AccessConfig
from appliance.errors import Forbidden, ListenError, Unidentified, Unreachable
from runtime.access import CONTROL_METHODS, Person, caller_name
from runtime.client import ControlClient
from runtime.protocol import control_pb2 as wire
from runtime.protocol import control_pb2_grpc as stubs
from runtime.transport import ControlTransport, relay

ROOT = Path(__file__).resolve().parents[3]
ME = pwd.getpwuid(os.geteuid()).pw_name
NOBODY = pwd.getpwnam("nobody")

# A stranger's process: looks, then decides; prints what came of both. It becomes one when all is imported, for
# this checkout may be closed to strangers.
STRANGER = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from appliance.errors import ApplianceError
from runtime.client import ControlClient
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[4]))
told = []
with ControlClient(Path(sys.argv[1])) as client:
    for ask in (client.list, lambda: client.decide("m", "activate", 1, actor="root", reason="r")):
        try:
            ask()
            told.append("")
        except ApplianceError as error:
            told.append(error.code)
print(json.dumps(told))
"""


class Service(stubs.ControlServicer):
    """Notes who asks."""

    def __init__(self):
        self.heard = []

    async def List(self, request, context):
        self.heard.append(caller_name())
        return wire.ListReply()

    async def Decide(self, request, context):
        self.heard.append(caller_name())
        return wire.DecideReply(decision_id=request.actor)

    async def Watch(self, request, context):
        for _ in range(3):
            yield wire.StatusReply(release=caller_name())


class Box:
    """A control transport on its socket."""

    def __init__(self, path, access=None):
        self.path, self.service, self.refused = path, Service(), []
        self.transport = ControlTransport(path, access, lambda *told: self.refused.append(told))

    async def __aenter__(self):
        await self.transport.start(self.service)
        return self

    async def __aexit__(self, *_):
        await self.transport.stop(1.0)


@pytest.fixture
def path():
    """A socket's place that strangers can reach; not deep, for a Unix socket's path has 107 bytes."""
    directory = Path(tempfile.mkdtemp(prefix="holdfast-"))
    directory.chmod(0o711)
    yield directory / "control.sock"
    shutil.rmtree(directory)


@contextlib.asynccontextmanager
async def asking(path):
    async with grpc.aio.insecure_channel(
        f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield stubs.ControlStub(channel)


async def test_the_actor_is_the_account_whatever_it_calls_itself(path):
    async with Box(path) as box, asking(path) as stub:
        reply = await stub.Decide(wire.DecideRequest(actor="somebody else"))
        assert reply.decision_id == "somebody else"
        assert [item.release async for item in stub.Watch(wire.WatchRequest())] == [ME] * 3
        await stub.List(wire.ListRequest())
    assert box.service.heard == [ME, ME]
    assert not path.exists()
    assert not path.with_suffix(".grpc").exists()


async def test_a_call_that_goes_round_the_relay_has_nobody_behind_it(path):
    async with Box(path) as box, asking(path.with_suffix(".grpc")) as stub:
        for call in (stub.List(wire.ListRequest()), stub.Watch(wire.WatchRequest()).read()):
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await call
            assert told.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [type(error) for error, *_ in box.refused] == [Unidentified, Unidentified]
    assert not box.service.heard


async def test_what_is_not_in_the_table_is_refused_to_the_runtimes_own_user_too(path, monkeypatch):
    monkeypatch.setattr("runtime.access.people.CONTROL_METHODS", {})
    async with Box(path) as box, asking(path) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.List(wire.ListRequest())
        assert told.value.code() is grpc.StatusCode.PERMISSION_DENIED
    ((error, name, peer, method),) = box.refused
    assert isinstance(error, Forbidden)
    assert (name, method) == (ME, "/holdfast.control.v1.Control/List")
    assert peer.startswith(f"unix:uid={os.geteuid()},pid=")


async def test_more_connections_than_there_may_be_are_closed(path, monkeypatch):
    monkeypatch.setattr(relay, "CONNECTIONS_MAX", 1)
    async with Box(path), asking(path) as first:
        await first.List(wire.ListRequest())
        async with asking(path) as second:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await second.List(wire.ListRequest())
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        await first.List(wire.ListRequest())


async def test_one_account_does_not_keep_the_others_out(path, monkeypatch):
    monkeypatch.setattr(relay, "CONNECTIONS_EACH_MAX", 1)
    async with Box(path), asking(path) as first:
        await first.List(wire.ListRequest())
        async with asking(path) as second:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await second.List(wire.ListRequest())
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    stranger = Person(uid=os.geteuid() + 1, pid=1, groups=())
    full = relay.Relay(socket.socket(socket.AF_UNIX), path)
    full._people = {"unix-abstract:1": Person(uid=os.geteuid(), pid=1, groups=())}
    assert full._has_room(stranger)
    await full.stop()


async def test_a_connection_that_cannot_be_passed_on_is_closed(path):
    async with Box(path), asking(path) as stub:
        path.with_suffix(".grpc").unlink()
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.List(wire.ListRequest())
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_sockets_are_the_runtimes_own(path):
    async with Box(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.with_suffix(".grpc").stat().st_mode & 0o777 == 0o600


async def test_the_socket_is_given_to_the_group_that_is_configured(path):
    group = grp.getgrgid(os.getegid()).gr_name
    async with Box(path, AccessConfig(control_group=group)):
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.stat().st_gid == os.getegid()
        assert path.with_suffix(".grpc").stat().st_mode & 0o777 == 0o600


async def test_a_group_that_is_not_there_keeps_the_box_from_starting(path):
    box = Box(path, AccessConfig(control_group="no such group"))
    with pytest.raises(ListenError, match="no such group"):
        await box.transport.start(box.service)
    await box.transport.stop(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(
    ("access", "told"),
    [
        ({}, ["server.unreachable"] * 2),
        ({"control_group": "GROUP"}, ["access.unidentified"] * 2),
        ({"control_group": "GROUP", "auditor_groups": ("GROUP",)}, ["", "access.forbidden"]),
        ({"control_group": "GROUP", "engineer_groups": ("GROUP",)}, ["", "access.forbidden"]),
        ({"control_group": "GROUP", "operator_groups": ("GROUP",)}, ["", ""]),
    ],
)
async def test_another_user_may_what_their_group_may(path, access, told):
    group = grp.getgrgid(NOBODY.pw_gid).gr_name
    given = {key: group if value == "GROUP" else (group,) for key, value in access.items()}
    async with Box(path, AccessConfig(**given)) as box:
        answer = await _as_nobody(path)
    assert answer == told
    assert set(box.service.heard) <= {"nobody"}
    assert {name for _, name, *_ in box.refused} <= {"nobody"}
    refused = [code for code in told if code.startswith("access")]
    assert [error.code for error, *_ in box.refused] == refused


async def _as_nobody(path):
    """What a process of the user nobody is told."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STRANGER, path, ROOT, str(NOBODY.pw_gid), str(NOBODY.pw_uid)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    return json.loads(out)


def test_a_client_without_a_runtime_is_told_so(path):
    with ControlClient(path) as client, pytest.raises(Unreachable):
        client.list()


def test_names_of_the_table_are_what_the_service_answers():
    described = wire.DESCRIPTOR.services_by_name["Control"]
    served = {f"/{described.full_name}/{method.name}" for method in described.methods}
    assert set(CONTROL_METHODS) == served
