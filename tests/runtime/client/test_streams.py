"""Many requests over one call, against a scripted server."""

import asyncio
from contextlib import aclosing

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance import errors
from runtime.client import AsyncInferenceClient, Reply
from tests.runtime.client.conftest import echo


def rows(count):
    return [{"x": np.array([number], np.int64)} for number in range(count)]


def read(answers):
    return [int(answer.outputs["x"][0]) for answer in answers]


def in_turn(requests, context):
    for request in requests:
        yield oip.ModelStreamInferResponse(infer_response=echo(request))


def in_pairs_turned_round(requests, context):
    for request in requests:
        second = next(requests)
        for each in (second, request):
            yield oip.ModelStreamInferResponse(infer_response=echo(each))


@pytest.mark.parametrize("answer", [in_turn, in_pairs_turned_round])
@pytest.mark.parametrize("window", [2, 16])
def test_answers_come_in_the_order_of_the_requests(client, script, answer, window):
    script.stream = answer
    answers = list(client.stream("m", rows(40), name="s", window=window))
    assert read(answers) == list(range(40))
    assert [each.request_id for each in answers] == [f"s-{number}" for number in range(40)]


def test_no_requests_give_no_answers(client, script):
    script.stream = in_turn
    assert list(client.stream("m", [])) == []


def test_no_more_than_the_window_is_under_way(client, script):
    script.stream = in_turn
    taken = []

    def requests():
        for number, row in enumerate(rows(20)):
            taken.append(number)
            yield row

    for number, _ in enumerate(client.stream("m", requests(), window=3)):
        assert len(taken) <= number + 4


def test_a_refused_request_is_an_error_in_its_place(client, script):
    def second_is_bad(requests, context):
        for number, request in enumerate(requests):
            if number == 1:
                yield oip.ModelStreamInferResponse(error_message="bad shape")
            else:
                yield oip.ModelStreamInferResponse(infer_response=echo(request))

    script.stream = second_is_bad
    first, second, third = client.stream("m", rows(3))
    assert read([first, third]) == [0, 2]
    assert type(second) is errors.ApplianceError
    assert str(second) == "bad shape"


def test_a_stream_that_breaks_raises_and_sends_nothing_again(client, script, steps):
    def broken(requests, context):
        first, *_ = requests  # all: grpc.aio forgets what was said while it still wrote
        yield oip.ModelStreamInferResponse(infer_response=echo(first))
        script.left.wait()
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    script.stream = broken
    answers = client.stream("m", rows(3))
    assert isinstance(next(answers), Reply)
    script.left.set()
    with pytest.raises(errors.Unreachable, match="gone"):
        next(answers)
    assert steps.slept == []


def test_a_stream_that_ends_early_is_told(client, script):
    script.stream = lambda requests, context: iter([*requests][:0])
    with pytest.raises(errors.Unreachable, match="before its last answer"):
        list(client.stream("m", rows(1)))


def test_a_stream_that_is_cut_while_it_sends_is_told(client, script):
    script.stream = lambda requests, context: iter(())
    with pytest.raises(errors.Unreachable):
        list(client.stream("m", rows(100)))


def test_a_stream_has_a_deadline(client, script):
    def hang(requests, context):
        script.left.wait()
        yield oip.ModelStreamInferResponse()

    script.stream = hang
    with pytest.raises(errors.DeadlinePassed):
        list(client.stream("m", rows(1), deadline_seconds=0.05))


def test_a_stream_left_early_is_cancelled(client, script):
    def one_and_wait(requests, context):
        assert context.add_callback(script.left.set)
        yield oip.ModelStreamInferResponse(infer_response=echo(next(requests)))
        script.left.wait()

    script.stream = one_and_wait
    answers = client.stream("m", rows(9), window=1)
    next(answers)
    answers.close()
    script.left.wait()


def test_what_cannot_be_sent_ends_the_stream(client, script):
    script.stream = in_turn
    bad = [*rows(1), {"x": np.zeros(1, complex)}]
    with pytest.raises(errors.RequestError, match="complex128"):
        list(client.stream("m", bad))


async def test_requests_may_come_by_and_by(script, address):
    script.stream = in_turn

    async def slowly():
        for row in rows(5):
            await asyncio.sleep(0)
            yield row

    async with AsyncInferenceClient(address) as client:
        async with aclosing(client.stream("m", slowly(), window=2)) as answers:
            assert read([answer async for answer in answers]) == list(range(5))


async def test_a_cancelled_task_cancels_its_call(script, address):
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(request):
        loop.call_soon_threadsafe(arrived.set)
        script.left.wait()
        return echo(request)

    script.answers.append(hang)
    async with AsyncInferenceClient(address) as client:
        task = asyncio.create_task(client.infer("m", rows(1)[0]))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        script.left.set()
        many = await asyncio.gather(*(client.infer("m", row) for row in rows(20)))
        assert read(many) == list(range(20))
