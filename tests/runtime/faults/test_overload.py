"""More requests than there is room for: the engine works on, the rest is refused at once and told when to retry."""

import asyncio

import grpc
import pytest

REFUSALS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
WAITING = 8


async def refused_of(asked, count):
    """The first `count` of the requests that end."""
    while len(done := [one for one in asked if one.done()]) < count:
        await asyncio.wait([one for one in asked if not one.done()], return_when="FIRST_COMPLETED")
    return [one.result() for one in done]


async def overloaded(start, *, more, **settings):
    """A box whose engine is held with one request inside, and `more` that came then."""
    box = await start(**settings)
    box.engine.hold()
    first = box.ask(0)
    await box.inside()
    asked = []
    for value in range(1, more + 1):
        asked.append(box.ask(value))
        if value <= WAITING:  # so that it is known who waits
            await box.until(lambda value=value: box.active.batcher.queued == value)
    return box, first, asked


@pytest.mark.parametrize("calls_max", [1024, 3 * WAITING // 2 + 1])
async def test_what_is_too_much_is_refused_at_once_with_a_hint(start, calls_max):
    box, first, asked = await overloaded(
        start,
        more=3 * WAITING,
        batching={"queue_requests_max": WAITING},
        server={"requests_in_flight_max": calls_max},
    )
    refused = await refused_of(asked, 2 * WAITING)
    assert len(refused) == 2 * WAITING
    assert {told.code for told in refused} <= REFUSALS
    assert {told.trailing.get("grpc-retry-pushback-ms") for told in refused} == {"100"}
    assert {told.trailing["holdfast-code"] for told in refused} == {"server.overloaded"}
    assert not first.done()
    box.engine.let_go()
    served = [await one for one in asked[:WAITING]]
    assert [told.value for told in served] == [2.0 * value for value in range(1, WAITING + 1)]
    assert (await first).value == 0.0


async def test_the_engine_makes_full_batches_of_what_it_is_asked_for_and_nothing_else(start):
    box, first, asked = await overloaded(
        start, more=3 * WAITING, batching={"queue_requests_max": WAITING}
    )
    await refused_of(asked, 2 * WAITING)
    for _ in range(3):
        box.engine.let_go(1)
        await box.until(lambda: not box.engine.passes)
    await asyncio.gather(first, *asked)
    assert box.engine.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]


async def test_nothing_of_an_overload_stays_behind(start):
    box, first, asked = await overloaded(
        start, more=10 * WAITING, batching={"queue_requests_max": WAITING}
    )
    await refused_of(asked, 9 * WAITING)
    assert box.active.batcher.queued == WAITING
    await box.until(lambda: box.transport.in_flight == WAITING + 1)
    box.engine.let_go()
    await asyncio.gather(first, *asked)
    await box.until(box.at_rest)
    assert (await box.ask(21)).value == 42.0
    assert (await asyncio.gather(*(box.ask(n) for n in range(4))))[-1].value == 6.0


async def test_a_client_that_floods_does_not_shut_out_another(start):
    """A full queue makes room for somebody who has less in it."""
    box, _, asked = await overloaded(
        start, more=3 * WAITING, batching={"queue_requests_max": WAITING}
    )
    await refused_of(asked, 2 * WAITING)
    ticket = box.active.batcher.submit(
        {"x": asked}, 1, lambda outcome: None, key=1, client="another host"
    )
    assert ticket.line >= 0
    refused = await refused_of(asked, 2 * WAITING + 1)
    assert refused[-1].code in REFUSALS
    assert ticket.cancel()


async def test_calls_whose_time_is_over_never_reach_the_engine(start):
    box = await start()
    box.engine.hold()
    first = box.ask(0)
    await box.inside()
    waiting, seconds = box.active.batcher._waiting, 0.05
    before = waiting._numbered
    while waiting._numbered == before:  # until one has waited here when its time was over
        late = await box.ask(1, timeout=seconds)
        assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
        seconds *= 2
    await box.until(lambda: not box.active.batcher.queued)
    box.engine.let_go()
    assert (await first).value == 0.0
    assert (await box.ask(2)).value == 4.0
    assert box.engine.batches == [[0], [2]]
