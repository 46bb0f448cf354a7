"""Batches under any interleaving: each caller gets exactly its own rows, once."""

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.clock import SystemClock
from appliance.config import BatchingConfig
from appliance.errors import Draining, EngineError, Overloaded
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.batcher import Batcher
from runtime.servable import Answer

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(-1,))


class Doubler:
    """A stand-in servable: doubles its input; a request that holds -1 fails; may be held up."""

    def __init__(self, batch_max=8):
        self.interface = Interface(inputs=(X,), outputs=(X,), batch_max=batch_max)
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def batch_key(self, inputs):
        return inputs["x"].shape[1:]

    def run(self, requests):
        self.entered.set()
        self.gate.wait()
        self.batches.append([len(request["x"]) for request in requests])
        assert len({self.batch_key(request) for request in requests}) == 1
        return [self._answer(request["x"]) for request in requests]

    def _answer(self, x):
        if (x == -1).any():
            return EngineError("no", remedy="none")
        return Answer(outputs={"x": x * 2}, vectors=np.zeros((len(x), 0), np.float32))


def rows(*values, width=1):
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


async def submit(batcher, inputs, **more):
    return await batcher.submit(inputs, len(inputs["x"]), **more)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 2)),
        min_size=1,
        max_size=30,
    ),
    rows_max=st.integers(1, 8),
    delay_us_max=st.sampled_from([0, 200]),
)
def test_each_caller_gets_exactly_its_own_rows(requests, rows_max, delay_us_max):
    servable = Doubler()

    async def go():
        config = BatchingConfig(rows_max=rows_max, delay_us_max=delay_us_max)
        batcher = Batcher(servable, config, SystemClock(), name="test")
        sent = [rows(*values, width=width) for values, width in requests]
        served = await asyncio.gather(*(submit(batcher, inputs) for inputs in sent))
        await asyncio.to_thread(batcher.close)
        return sent, served

    sent, served = asyncio.run(go())
    for inputs, one in zip(sent, served, strict=True):
        np.testing.assert_array_equal(one.answer.outputs["x"], inputs["x"] * 2)
    assert sum(map(len, servable.batches)) == len(requests)
    assert all(sum(batch) <= rows_max or len(batch) == 1 for batch in servable.batches)


async def test_what_queues_while_the_engine_runs_shares_the_next_batch():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    servable.gate.clear()
    first = asyncio.ensure_future(submit(batcher, rows(1)))
    await asyncio.to_thread(servable.entered.wait)
    rest = [asyncio.ensure_future(submit(batcher, rows(value))) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    servable.gate.set()
    served = await asyncio.gather(first, *rest)
    assert servable.batches == [[1], [1, 1, 1]]
    assert [one.batch_rows for one in served] == [1, 3, 3, 3]
    await asyncio.to_thread(batcher.close)


async def test_one_failing_request_does_not_fail_its_neighbours():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(delay_us_max=5000), SystemClock(), name="test")
    results = await asyncio.gather(
        *(submit(batcher, rows(value)) for value in (1, -1, 3)), return_exceptions=True
    )
    assert isinstance(results[1], EngineError)
    assert [float(results[i].answer.outputs["x"][0, 0]) for i in (0, 2)] == [2.0, 6.0]
    await asyncio.to_thread(batcher.close)


async def test_a_caller_that_left_never_reaches_the_engine():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    servable.gate.clear()
    first = asyncio.ensure_future(submit(batcher, rows(1)))
    await asyncio.to_thread(servable.entered.wait)
    left = asyncio.ensure_future(submit(batcher, rows(2)))
    stays = asyncio.ensure_future(submit(batcher, rows(3)))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    servable.gate.set()
    await asyncio.gather(first, stays)
    assert servable.batches == [[1], [1]]
    await asyncio.to_thread(batcher.close)


async def test_callers_that_left_make_room_in_the_queue():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(queue_requests_max=2), SystemClock(), name="test")
    servable.gate.clear()
    first = asyncio.ensure_future(submit(batcher, rows(1)))
    await asyncio.to_thread(servable.entered.wait)
    left = [asyncio.ensure_future(submit(batcher, rows(value))) for value in (2, 3)]
    await asyncio.sleep(0)
    for caller in left:
        caller.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert batcher.queued == 0
    stays = asyncio.ensure_future(submit(batcher, rows(4)))
    await asyncio.sleep(0)
    servable.gate.set()
    await asyncio.gather(first, stays)
    await asyncio.to_thread(batcher.close)


async def test_a_request_whose_time_is_over_is_refused_unrun():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    with pytest.raises(Overloaded, match="Request timeout expired"):
        await submit(batcher, rows(1), deadline_ns=time.monotonic_ns() - 1)
    assert servable.batches == []
    await asyncio.to_thread(batcher.close)


async def test_a_full_queue_refuses():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(queue_requests_max=1), SystemClock(), name="test")
    servable.gate.clear()
    first = asyncio.ensure_future(submit(batcher, rows(1)))
    await asyncio.to_thread(servable.entered.wait)
    second = asyncio.ensure_future(submit(batcher, rows(2)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        await submit(batcher, rows(3))
    servable.gate.set()
    await asyncio.gather(first, second)
    await asyncio.to_thread(batcher.close)


async def test_an_unbatched_model_runs_one_request_a_call():
    servable = Doubler(batch_max=0)
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    await asyncio.gather(*(submit(batcher, rows(value)) for value in (1, 2, 3)))
    assert servable.batches == [[1], [1], [1]]
    await asyncio.to_thread(batcher.close)


async def test_a_fault_of_the_servable_fails_the_batch_and_not_the_thread():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    healthy, servable.run = servable.run, lambda requests: 1 / 0
    with pytest.raises(EngineError, match="division by zero"):
        await submit(batcher, rows(1))
    servable.run = healthy
    assert (await submit(batcher, rows(2))).answer.outputs["x"][0, 0] == 4.0
    await asyncio.to_thread(batcher.close)


async def test_closing_answers_what_is_queued_and_takes_no_more():
    servable = Doubler()
    batcher = Batcher(servable, BatchingConfig(), SystemClock(), name="test")
    waiting = [asyncio.ensure_future(submit(batcher, rows(value))) for value in (1, 2)]
    await asyncio.sleep(0)
    await asyncio.to_thread(batcher.close)
    assert len(await asyncio.gather(*waiting)) == 2
    with pytest.raises(Draining):
        await submit(batcher, rows(3))
