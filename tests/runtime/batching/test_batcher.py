"""The batcher's threads, each step of which the tests decide."""

import threading

import numpy as np
import pytest

from appliance.config import QueueConfig
from appliance.errors import Draining, EngineError, Overloaded
from runtime.batching import Served

SECOND = 1_000_000_000


def one_row():
    return {"x": np.ones((1, 1), np.float32)}


def test_what_queues_while_the_engine_runs_shares_the_next_batch(bench):
    ours = bench()
    ours.occupy()
    for value in (2, 3, 4):
        ours.callers.send(value)
    assert ours.batcher.queued == 3
    ours.clock.now += 500
    ours.engine.let_go()
    served = ours.callers.wait(0, 1, 2)
    assert ours.engine.batches == [[[2], [3], [4]]]
    assert {one.batch_rows for one in served} == {3}
    assert {one.queue_ns for one in served} == {500}


def test_each_caller_gets_its_own_rows_or_its_own_error(bench):
    ours = bench()
    ours.occupy()
    for values in ((1, 2), (-1,), (3,)):
        ours.callers.send(*values)
    ours.engine.let_go()
    good, bad, other = ours.callers.wait(0, 1, 2)
    assert isinstance(bad, EngineError)
    assert good.answer.outputs["x"].tolist() == [[2.0], [4.0]]
    assert other.answer.outputs["x"].tolist() == [[6.0]]


def test_a_fault_of_the_runner_fails_the_batch_and_not_the_thread(bench):
    ours = bench()
    ours.callers.send(-2)
    (failed,) = ours.callers.wait(0)
    assert failed.code == "engine.failed"
    assert "broken" in str(failed)
    ours.callers.send(1)
    assert isinstance(ours.callers.wait(1)[0], Served)


def test_a_runner_that_forgets_an_answer_serves_none(bench):
    ours = bench()
    ours.occupy()
    runner = ours.batcher._lanes.working[0].runner
    whole = runner.run
    runner.run = lambda requests, rows: whole(requests, rows)[:-1]
    ours.callers.send(1)
    ours.callers.send(2)
    ours.engine.let_go()
    assert all("1 answers to 2 requests" in str(one) for one in ours.callers.wait(0, 1))


def test_what_a_receiver_raises_does_not_reach_the_others(bench, caplog):
    ours = bench()
    ours.occupy()
    ours.batcher.submit(one_row(), 1, lambda outcome: 1 / 0, key=1)
    ours.callers.send(1)
    ours.engine.let_go()
    assert isinstance(ours.callers.wait(0)[0], Served)


def test_a_caller_that_left_never_reaches_the_engine_and_makes_room(bench):
    ours = bench(queue_requests_max=2)
    ours.occupy()
    left = [ours.callers.send(value) for value in (2, 3)]
    assert [ticket.cancel() for ticket in left] == [True, True]
    assert [ticket.cancel() for ticket in left] == [False, False]
    assert ours.batcher.queued == 0
    stays = ours.callers.send(4)
    ours.engine.let_go()
    ours.callers.wait(2)
    assert not stays.cancel()
    assert ours.engine.batches == [[[4]]]
    assert ours.callers.outcomes[:2] == [[], []]


def test_a_request_whose_time_is_over_is_refused_unrun(bench):
    ours = bench()
    with pytest.raises(Overloaded, match="Request timeout expired"):
        ours.callers.send(1, deadline_ns=SECOND)
    ours.occupy()
    ours.callers.send(2, deadline_ns=SECOND + 10)
    ours.callers.send(3, timeout_us=1)
    ours.callers.send(4)
    ours.clock.now += 1000
    ours.engine.let_go()
    ours.callers.wait(3)
    assert [str(one) for one in ours.callers.wait(1, 2)] == ["Request timeout expired"] * 2
    assert ours.engine.batches == [[[4]]]


def test_those_whose_time_is_over_are_told_while_the_engine_is_busy(bench):
    ours = bench()
    ours.occupy()
    ours.callers.send(1, timeout_us=1)
    ours.clock.now += 1000
    ours.batcher.check()
    assert "expired" in str(ours.callers.wait(0)[0])


def test_a_full_queue_refuses(bench):
    ours = bench(queue_requests_max=1)
    ours.occupy()
    ours.callers.send(2)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        ours.callers.send(3)


def test_who_has_to_make_room_is_told(bench):
    ours = bench(queue_requests_max=1, queues=(QueueConfig(), QueueConfig()))
    ours.occupy()
    ours.callers.send(1, priority=2)
    ours.callers.send(2, priority=1)
    assert "Exceeds" in str(ours.callers.wait(0)[0])


def test_an_unbatched_model_runs_one_request_a_call(bench):
    ours = bench(batch_max=0)
    ours.occupy()
    for value in (1, 2, 3):
        ours.callers.send(value)
    ours.engine.let_go()
    ours.callers.wait(0, 1, 2)
    assert [len(batch) for batch in ours.engine.batches] == [1, 1, 1]


def test_batches_are_padded_to_buckets(bench):
    ours = bench(bucket_rows=(4, 8))
    ours.occupy()
    ours.callers.send(1, 2, 3)
    ours.callers.send(4, 5)
    ours.engine.let_go()
    assert {one.batch_rows for one in ours.callers.wait(0, 1)} == {5}
    assert ours.engine.padded == [8]


def test_every_lane_works(bench):
    ours = bench(lanes=3)
    ours.engine.hold()
    for value in range(3):
        ours.callers.send(value)
    ours.engine.wait_inside(3)
    assert sorted(ours.engine.batches) == [[[0]], [[1]], [[2]]]
    ours.engine.let_go()
    ours.callers.wait(0, 1, 2)


def test_a_request_alone_is_not_held_whatever_the_delay(bench):
    ours = bench(delay_us_max=60_000_000)
    ours.callers.send(1)
    ours.callers.wait(0)
    ours.callers.send(2)
    ours.callers.wait(1)
    assert [len(batch) for batch in ours.engine.batches] == [1, 1]


@pytest.mark.parametrize("resting", [0, 1])
def test_a_lane_that_comes_back_to_a_queue_waits_for_enough(bench, resting):
    """Also beside a lane whose device is away."""
    ours = bench(lanes=1 + resting, rows_max=3, delay_us_max=60_000_000)
    for runner in ours.runners[1:]:
        runner.resting = True
    ours.occupy()
    ours.callers.send(1)
    ours.clock.now += 1
    ours.engine.let_go()
    ours.until(lambda: ours.batcher._holding)
    ours.callers.send(2)
    ours.callers.send(3)
    ours.callers.wait(0, 1, 2)
    assert ours.engine.batches == [[[1], [2], [3]]]


def test_a_lane_waits_no_longer_than_the_delay(bench):
    ours = bench(rows_max=3, delay_us_max=1000)
    ours.occupy()
    ours.callers.send(1)
    ours.clock.now += 1_000_000  # so the delay is over when the lane comes back
    ours.engine.let_go()
    ours.callers.wait(0)
    assert ours.engine.batches == [[[1]]]


def test_a_lane_that_waits_goes_on_when_the_delay_is_over(bench):
    ours = bench(rows_max=3, delay_us_max=2)
    real = ours.batcher._sleep

    def sleep(lane, hold_ns):
        ours.clock.now += hold_ns
        real(lane, hold_ns)

    ours.batcher._sleep = sleep
    ours.occupy()
    ours.callers.send(1)
    ours.clock.now += 1
    ours.engine.let_go()
    ours.callers.wait(0)


def test_a_lane_that_is_woken_as_its_delay_ends_waits_for_the_waking(bench):
    slept = []

    class Woken:
        def sleep(self, seconds=-1):
            slept.append(seconds)
            return False

    bench().batcher._sleep(Woken(), SECOND)
    assert slept == [1.0, -1]


def test_closing_answers_what_is_queued_and_takes_no_more(bench):
    ours = bench(lanes=2, delay_us_max=60_000_000)
    ours.occupy(2)
    for value in (1, 2):
        ours.callers.send(value)
    closing = threading.Thread(target=ours.batcher.close)
    closing.start()
    ours.engine.let_go()
    closing.join()
    assert all(isinstance(one, Served) for one in ours.callers.wait(0, 1))
    assert ours.engine.closed == 2
    with pytest.raises(Draining):
        ours.callers.send(3)
    ours.batcher.close()


def test_a_quick_engine_that_is_idle_runs_on_the_caller_s_thread(bench):
    ours, threads = bench(), []
    ours.callers.send(1, gather=ours.gathered.add)  # nothing is known of the engine yet
    ours.callers.wait(0)
    assert not ours.gathered
    ours.batcher._learned.add(1000, rows=1)

    def then(outcome):
        threads.append(threading.current_thread())

    ours.settle()
    ours.engine.batches.clear()
    for _ in range(3):
        ours.batcher.submit(one_row(), 1, then, key=1, gather=ours.gathered.add)
    assert not threads
    ours.run_gathered()
    assert threads == [threading.current_thread()] * 3
    assert len(ours.engine.batches) == 1, "what came at once is one batch"
    with pytest.raises(Overloaded):
        ours.callers.send(1, gather=ours.gathered.add, deadline_ns=0)


def test_what_comes_while_a_burst_runs_is_done_after_it(bench):
    ours = bench()
    ours.batcher._learned.add(1000, rows=1)
    ours.settle()

    def then(outcome):
        ours.callers.send(2, gather=ours.gathered.add)

    ours.batcher.submit(one_row(), 1, then, key=1, gather=ours.gathered.add)
    ours.run_gathered()
    assert isinstance(ours.callers.wait(0)[0], Served)


def test_more_than_is_quick_at_once_is_for_the_lanes(bench):
    ours = bench(inline_us_max=2)
    ours.batcher._learned.add(1000, rows=1)
    ours.settle()
    for value in range(3):
        ours.callers.send(value, gather=ours.gathered.add)
    ours.callers.wait(0, 1, 2)
    ours.run_gathered()


def test_what_was_gathered_and_forgotten_is_done_by_a_lane(bench):
    ours = bench()
    ours.batcher._learned.add(1000, rows=1)
    ours.settle()
    ours.callers.send(1, gather=ours.gathered.add)
    ours.batcher.check()
    assert isinstance(ours.callers.wait(0)[0], Served)
