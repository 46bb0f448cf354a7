"""Lanes whose device is away: the others take what comes, and nobody waits for nothing."""

import threading
from collections import Counter

import pytest

from appliance.errors import EngineError
from runtime.batching import Served

SECOND = 1_000_000_000


@pytest.fixture
def ran_on(monkeypatch):
    """Counts the calls of each runner."""
    counts = Counter()

    def watch(ours):
        for number, runner in enumerate(ours.runners):
            run = runner.run
            monkeypatch.setattr(
                runner, "run", lambda *told, n=number, r=run: counts.update([n]) or r(*told)
            )
        return counts

    return watch


@pytest.mark.parametrize("resting", [0, 1])
def test_a_resting_lane_leaves_requests_to_the_others_until_it_is_back(bench, ran_on, resting):
    ours = bench(lanes=2, rows_max=1)
    counts = ran_on(ours)
    ours.runners[resting].resting = True
    for number in range(20):
        ours.callers.send(number)
        assert isinstance(ours.callers.wait(number)[0], Served)
    assert counts == {1 - resting: 20}
    ours.runners[resting].resting = False
    ours.occupy(lanes=2)  # both are inside the engine
    assert counts[resting] == 1


def test_one_that_begins_to_rest_takes_nothing_of_what_is_queued(bench, ran_on):
    ours = bench(lanes=2, rows_max=1)
    counts = ran_on(ours)
    ours.occupy(lanes=2)
    before = counts.copy()
    for number in range(6):
        ours.callers.send(number)
    ours.runners[0].resting = True
    ours.engine.let_go()
    assert all(isinstance(one, Served) for one in ours.callers.wait(*range(6)))
    assert counts - before == {1: 6}


def test_what_waits_is_one_batch_of_the_lane_that_is_left(bench):
    ours = bench(lanes=2)
    ours.runners[1].resting = True
    ours.occupy()
    for number in range(4):
        ours.callers.send(number)
    ours.engine.let_go()
    ours.callers.wait(*range(4))
    assert ours.engine.batches == [[[0], [1], [2], [3]]], "not split between two"


def test_when_all_rest_requests_go_to_them_and_get_their_errors_at_once(bench, ran_on):
    ours = bench(lanes=2, rows_max=1)
    counts = ran_on(ours)
    for runner in ours.runners:
        runner.resting = True
    for number in range(4):
        ours.callers.send(number)
    ours.callers.wait(*range(4))
    assert counts.total() == 4


def test_what_a_resting_lane_would_have_gathered_waits_for_the_busy_one(bench):
    ours = bench(lanes=2)
    ours.runners[1].resting = True
    ours.occupy()
    ours.callers.send(1, gather=ours.gathered.add)
    ours.run_gathered()
    ours.batcher.check()
    assert ours.engine.inside == 1
    ours.engine.let_go()
    assert isinstance(ours.callers.wait(0)[0], Served)


def test_closing_answers_what_is_queued_with_the_lanes_that_are_left(bench):
    ours = bench(lanes=3, rows_max=1)
    for runner in ours.runners[1:]:
        runner.resting = True
    ours.occupy()
    for number in range(3):
        ours.callers.send(number)
    ours.close()
    assert all(isinstance(one, Served) for one in ours.callers.wait(*range(3)))
    assert ours.engine.closed == 3


def turns_away(lane, *, after):
    """Let a lane's device go away once it was asked about so often."""
    told = iter([False] * after)
    runner = lane.runner
    resting = property(lambda _: next(told, True))
    runner.__class__ = type("Turning", (type(runner),), {"resting": resting})


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_device_that_goes_away_at_any_moment_keeps_nobody_waiting(bench, after):
    ours = bench(lanes=2, rows_max=1)
    ours.settle()
    turns_away(ours.batcher._idle[-1], after=after)  # the one that is woken first
    ours.callers.send(1)
    assert isinstance(ours.callers.wait(0)[0], Served)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_so_it_is_while_the_others_are_busy(bench, after):
    ours = bench(lanes=2, rows_max=1)
    ours.occupy()
    ours.settle()
    turns_away(ours.batcher._idle[-1], after=after)
    ours.callers.send(1)
    ours.engine.let_go()
    assert isinstance(ours.callers.wait(0)[0], Served)
    ours.settle()


def test_lanes_that_come_and_go_while_it_closes_leave_nothing_unanswered(bench):
    ours = bench(lanes=2, rows_max=1)
    ours.occupy()
    ours.settle()
    (away,), (busy,) = ours.batcher._idle, [x for x in ours.batcher._lanes.working if x.batch]
    away.runner.resting = True
    ours.callers.send(1)
    closing = threading.Thread(target=ours.batcher.close)
    closing.start()
    away.over.wait()
    away.runner.resting, busy.runner.resting = False, True
    ours.engine.let_go()
    assert isinstance(ours.callers.wait(0)[0], Served)
    closing.join()


def test_closing_while_one_rests_and_the_other_hangs_tells_everybody(bench):
    ours = bench(lanes=2, rows_max=1, engine_seconds_max=0.01)
    ours.occupy()
    ours.settle()
    ours.engine.lanes_left = 0
    (away,) = ours.batcher._idle
    away.runner.resting = True
    ours.callers.send(1)
    closing = threading.Thread(target=ours.batcher.close)
    closing.start()
    away.over.wait()  # else it may be the last one left, and takes the request
    ours.clock.now += SECOND
    closing.join()
    assert isinstance(ours.callers.wait(0)[0], EngineError)


def test_a_lane_that_rests_does_not_wait_for_more(bench):
    ours = bench(lanes=2, rows_max=3, delay_us_max=60_000_000)
    ours.occupy(lanes=2)
    ours.callers.send(1)
    ours.clock.now += 1
    ours.runners[0].resting = True
    ours.engine.let_go(2)
    ours.until(lambda: ours.batcher._holding)
    ours.settle()
    assert [lane.runner for lane in ours.batcher._holding] == [ours.runners[1]]
    ours.engine.let_go()
