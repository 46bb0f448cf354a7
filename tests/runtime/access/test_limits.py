"""How much of a real runtime one principal may take, on both lanes."""

import socket
import threading
from contextlib import ExitStack, contextmanager

import grpc
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure
from tests.runtime.access.guarded import OPEN_CALLS, code, guarded_box, image, until


@pytest.fixture(scope="module", params=["fast", "public"])
def box(request, digits_state, tmp_path_factory):
    with guarded_box(request.param, digits_state, tmp_path_factory.mktemp("box")) as box:
        yield box


def test_a_flood_is_cut_to_its_rate_and_the_others_are_answered(box):
    codes, stop = [], threading.Event()

    def flood():
        with box.client() as client:
            while not stop.is_set():
                codes.append(
                    code(lambda: client.infer("digits", [image()], headers=box.bearer("flood")))
                )

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: grpc.StatusCode.RESOURCE_EXHAUSTED in codes)
        with box.client() as client:
            for _ in range(50):
                client.infer("digits", [image()], headers=box.bearer("line-3"))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_a_stream_is_cut_to_its_rate_too(box):
    answers = []
    with box.client() as client:
        client.start_stream(
            lambda result, error: answers.append(error), headers=box.bearer("burst")
        )
        for _ in range(20):
            client.async_stream_infer("digits", [image()])
        until(lambda: len(answers) == 20)
        client.stop_stream()
    limited = [error for error in answers if error]
    assert all("more than 5 requests a second" in str(error) for error in limited)
    # Opening the stream was one, so there is room for four more at once, and for what time gives back.
    assert answers[:4] == [None] * 4
    # A flood of refusals is counted together from some number on, so not each has a record of its own.
    until(lambda: box.records(Failure, code="access.limit", principal="token:burst"))


def test_calls_that_are_held_open_keep_nobody_else_out(box):
    """Slow loris: calls whose message never comes, as many as one principal may have, and more."""
    bearer = tuple(box.bearer("loris").items())
    with box.channel() as channel, box.client() as client, ExitStack() as open_calls:

        def opened():
            call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
                _never(open_calls), metadata=bearer
            )
            open_calls.callback(call.cancel)
            return call

        def live(name):
            return code(lambda: client.is_server_live(headers=box.bearer(name)))

        def full():
            """Whether all are held: asking is a call too, which may have kept one of them out."""
            held[:] = [call if call.is_active() else opened() for call in held]
            return live("loris") is grpc.StatusCode.RESOURCE_EXHAUSTED

        held = [opened() for _ in range(OPEN_CALLS)]
        until(full)
        assert live("line-3") is grpc.StatusCode.OK
        client.infer("digits", [image()], headers=box.bearer("line-3"))
    with box.client() as client:
        until(
            lambda: (
                code(lambda: client.is_server_live(headers=box.bearer("loris")))
                is grpc.StatusCode.OK
            )
        )


@contextmanager
def silent(address, number):
    """So many connections that say nothing."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection((host, int(port))))
        yield


def test_connections_that_never_shake_hands_keep_nobody_out(box):
    with silent(box.runtime.address, 200), box.client() as client:
        for _ in range(20):
            client.infer("digits", [image()], headers=box.bearer("line-3"))


async def test_bytes_of_one_principal_are_bounded(box):
    """A request over the share is refused, whatever else is in flight; those within it are answered."""
    over, within = image(64), image(16)  # 4096 and 1024 of the 3000 bytes that this one may have
    async with box.client(triton_aio) as client:
        for _ in range(4):
            with pytest.raises(InferenceServerException, match="bytes of your requests") as told:
                await client.infer("digits", [over], headers=box.bearer("heavy"))
            assert told.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            # Refused or answered, what was taken is given back.
            await client.infer("digits", [within], headers=box.bearer("heavy"))
        await client.infer("digits", [within], headers=box.bearer("line-3"))
    until(lambda: box.records(Failure, code="access.limit", principal="token:heavy"))


def _never(stack):
    """A request stream without a message, until the stack ends."""
    ended = threading.Event()
    stack.callback(ended.set)

    def wait():
        ended.wait()
        yield from ()

    return wait()
