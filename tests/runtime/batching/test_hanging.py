"""Engine calls that take too long: told once, the lane replaced, nothing else touched."""

import threading

import pytest

from appliance.errors import EngineError
from runtime.batching import Served

SECOND = 1_000_000_000


def hang(ours):
    ours.clock.now += 61 * SECOND
    ours.batcher.check()


def test_a_call_that_takes_too_long_costs_its_requests_and_its_lane_only(bench):
    ours = bench()
    ours.engine.hold()
    ours.callers.send(1)
    ours.engine.wait_inside()
    ours.callers.send(2)
    assert not ours.batcher.trouble
    hang(ours)
    assert "has not answered within 60 s" in str(ours.callers.wait(0)[0])
    assert ours.batcher.trouble == (
        f"{ours.name}: engine calls that have not ended within 60 s: 1; lanes at work: 1 of 1"
    )
    ours.engine.wait_inside(2)
    ours.engine.let_go()
    assert isinstance(ours.callers.wait(1)[0], Served)
    ours.batcher.close()
    assert [len(outcomes) for outcomes in ours.callers.outcomes] == [1, 1]


def test_an_engine_without_a_further_lane_refuses_until_it_comes_back(bench):
    ours = bench()
    ours.engine.lanes_left = 0
    ours.engine.hold()
    ours.callers.send(1)
    ours.engine.wait_inside()
    ours.callers.send(2)
    hang(ours)
    assert all("has not answered" in str(one) for one in ours.callers.wait(0, 1))
    assert "lanes at work: 0 of 1" in ours.batcher.trouble
    with pytest.raises(EngineError):
        ours.callers.send(3)
    ours.engine.let_go()
    ours.until(lambda: not ours.batcher.trouble)
    ours.callers.send(4)
    assert isinstance(ours.callers.wait(3)[0], Served)


def test_lanes_are_replaced_so_often_only(bench):
    ours = bench()
    ours.engine.hold()
    for number in range(4):
        ours.callers.send(number)
        ours.engine.wait_inside(number + 1)
        hang(ours)
    assert "60 s: 4;" in ours.batcher.trouble
    with pytest.raises(EngineError):
        ours.callers.send(9)


def test_an_inline_call_that_hangs_is_told_too(bench):
    ours = bench()
    ours.batcher._learned.add(1000, rows=1)
    ours.settle()
    ours.engine.hold()
    ours.callers.send(1, gather=ours.gathered.add)
    sender = threading.Thread(target=ours.run_gathered)
    sender.start()
    ours.engine.wait_inside()
    hang(ours)
    assert isinstance(ours.callers.wait(0)[0], EngineError)
    ours.engine.let_go()
    sender.join()
    ours.callers.send(2)
    assert isinstance(ours.callers.wait(1)[0], Served)
    assert len(ours.callers.outcomes[0]) == 1


def test_closing_does_not_wait_for_ever_for_a_call_that_hangs(bench):
    ours = bench(engine_seconds_max=0.01)
    ours.occupy()
    ours.engine.lanes_left = 0
    ours.callers.send(1)
    ours.clock.now += SECOND
    ours.batcher.close()
    assert isinstance(ours.callers.wait(0)[0], EngineError)
    ours.engine.let_go()


def test_a_fault_while_closing_a_runner_does_not_keep_the_others(bench):
    ours = bench()
    ours.batcher._lanes.working[0].runner.close = lambda: 1 / 0
    ours.batcher.close()
