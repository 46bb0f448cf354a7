"""The search for a setting, on a simulated queue in place of an engine."""

import heapq
from itertools import pairwise

import pytest
from msgspec.structs import replace

from appliance.deployment import Tuning
from appliance.errors import EngineLoad
from runtime.tuning import Arrivals, Measured
from tui.arrivals import poisson
from tui.livetune import search
from tui.search import _rounded, best, joined, layouts, ranked, rounds, verdict

PRESENT = Tuning(rows_max=32, delay_us_max=0, lanes=1, threads=0)
CALL_NS, ROW_NS = 2_000_000, 100_000


def measured(**changes):
    plain = Measured(
        requests=2000,
        late=0,
        abandoned=False,
        throughput=100.0,
        p50_ms=1.0,
        p99_ms=2.0,
        batch_rows=1.0,
        cpu_us_row=100.0,
    )
    return replace(plain, **changes)


def simulated(tuning: Tuning, arrivals: Arrivals, late_max: int, goal_ns: int) -> Measured:
    """Lanes that take what has come when they are free; a call costs CALL_NS and ROW_NS a row."""
    free = [0] * tuning.lanes
    took, rows_run, calls, late, sent = [], 0, 0, 0, 0
    waiting = list(arrivals.at_ns)
    while waiting and late <= late_max:
        lane = heapq.heappop(free)
        start = max(lane, waiting[0])
        batch = [at for at in waiting if at <= start][: tuning.rows_max]
        del waiting[: len(batch)]
        end = start + CALL_NS + ROW_NS * len(batch)
        heapq.heappush(free, end)
        took += [end - at for at in batch]
        late = sum(each > goal_ns for each in took)
        rows_run, calls, sent = rows_run + len(batch), calls + 1, sent + len(batch)
    took.sort()
    return measured(
        requests=sent,
        late=late,
        abandoned=late > late_max,
        p50_ms=took[len(took) // 2] / 1e6,
        p99_ms=took[len(took) * 99 // 100 - 1] / 1e6,
        batch_rows=rows_run / calls,
        cpu_us_row=(calls * CALL_NS + rows_run * ROW_NS) / rows_run / 1000,
    )


def searched(rate, goal_ms, *, cores=4, batch_max=32, told=None):
    arrivals = poisson(rate, 1, 1000)
    seen = []

    def measure(tuning, arrivals, late_max, reached):
        seen.append(len(arrivals.at_ns))
        reached(len(arrivals.at_ns))
        return simulated(tuning, arrivals, late_max, int(goal_ms * 1e6))

    found, chosen = search(
        measure,
        arrivals,
        PRESENT,
        cores=cores,
        batch_max=batch_max,
        goal_us=int(goal_ms * 1000),
        progress=lambda done, total: told is not None and told.append((done, total)),
    )
    return found, chosen, seen


def test_under_load_batches_are_found_that_one_row_at_a_time_cannot_keep_up_with():
    found, chosen, _ = searched(1500, 30)
    assert chosen is not None
    assert chosen.rows_max > 1
    assert verdict(found[chosen]) == "yes"
    assert verdict(found[replace(chosen, rows_max=1, lanes=1, threads=0, bucket_rows=())]) == "no"


def test_a_goal_below_one_call_is_met_by_nothing_and_finalists_are_measured_whole():
    found, chosen, seen = searched(100, 1)
    assert chosen is None
    assert found[PRESENT].requests == 1000
    assert seen[-1] == 500


def test_the_search_is_small_and_says_beforehand_how_long_it_is():
    told = []
    _, _, seen = searched(1000, 30, told=told)
    assert sum(seen) < 12 * 1000
    dones, totals = zip(*told, strict=True)
    assert list(dones) == sorted(dones)
    assert all(later <= sooner for sooner, later in pairwise(totals))
    assert told[-1] == (sum(seen), sum(seen))


@pytest.mark.parametrize(("cores", "batch_max"), [(1, 1), (2, 16), (3, 7), (64, 1024)])
def test_what_runs_now_is_in_every_round_and_every_setting_fits(cores, batch_max):
    present = replace(PRESENT, rows_max=min(32, batch_max))
    course = rounds(present, cores=cores, batch_max=batch_max, goal_us=10_000, requests=1000)
    now, count = next(course), 0
    try:
        while True:
            count += 1
            assert now.settings[0] == present
            assert len(set(now.settings)) == len(now.settings)
            for setting in now.settings[1:]:
                assert setting.rows_max <= batch_max
                assert setting.lanes * max(setting.threads, 1) <= cores
                assert setting.delay_us_max < 10_000
                assert all(rows <= setting.rows_max for rows in setting.bucket_rows)
            now = course.send({setting: measured(batch_rows=4.0) for setting in now.settings})
    except StopIteration:
        assert count == 4


def test_padding_is_tried_only_where_requests_share_batches():
    for shared, padded in ((1.1, False), (4.0, True)):
        course = rounds(PRESENT, cores=2, batch_max=16, goal_us=10_000, requests=1000)
        now = next(course)
        while now.left:
            now = course.send({each: measured(batch_rows=shared) for each in now.settings})
        assert any(setting.bucket_rows for setting in now.settings) is padded


@pytest.mark.parametrize(
    ("late", "requests", "wanted"),
    [(0, 1000, "yes"), (3, 1000, "yes"), (10, 1000, "open"), (30, 1000, "no"), (0, 100, "open")],
)
def test_a_goal_is_met_beyond_chance_or_not_at_all(late, requests, wanted):
    assert verdict(measured(late=late, requests=requests)) == wanted


def test_what_was_not_measured_meets_nothing():
    assert verdict(measured(abandoned=True)) == "no"
    assert verdict(measured(trouble="it does not load")) == "no"
    assert ranked({PRESENT: measured(trouble="it does not load")}) == []


def test_the_best_costs_least_and_among_equals_is_what_runs_now_then_the_plainest():
    cheap, dear = replace(PRESENT, lanes=2), replace(PRESENT, lanes=4)
    padded, late = replace(cheap, bucket_rows=(1, 32)), replace(PRESENT, lanes=8)
    found = {
        PRESENT: measured(cpu_us_row=105.0),
        cheap: measured(cpu_us_row=100.0),
        padded: measured(cpu_us_row=99.0, p99_ms=1.0),
        dear: measured(cpu_us_row=150.0, p99_ms=0.1),
        late: measured(cpu_us_row=1.0, late=100),
    }
    assert best(found, PRESENT) == PRESENT
    found[PRESENT] = measured(cpu_us_row=120.0)
    assert best(found, PRESENT) == cheap


def test_two_halves_are_one_measurement():
    quick = measured(requests=500, late=1, p99_ms=1.0, throughput=100.0, batch_rows=1.0)
    slow = measured(requests=500, late=2, p99_ms=3.0, throughput=300.0, batch_rows=3.0)
    found = joined(quick, replace(slow, cpu_us_row=50.0))
    assert (found.requests, found.late, found.p99_ms, found.cpu_us_row) == (1000, 3, 3.0, 50.0)
    assert (found.throughput, found.batch_rows) == (150.0, 1.5)
    assert joined(quick, measured(p99_ms=None, throughput=0.0)).p99_ms is None
    assert joined(quick, measured(throughput=0.0)).throughput == 0.0
    assert joined(quick, measured(trouble="gone")).trouble == "gone"


def test_finalists_are_measured_in_two_halves_there_and_back():
    _, _, seen = searched(1000, 30)
    assert set(seen[-6:]) == {500}


def test_a_setting_that_does_not_load_is_passed_over_and_none_that_does_is_an_error():
    lone = replace(measured(), trouble="no memory", abandoned=True)

    def measure(tuning, arrivals, late_max, reached):
        return lone if tuning.lanes > 1 or broken else measured()

    arrivals, broken = poisson(100, 1, 1000), False
    limits = {"cores": 2, "batch_max": 4, "goal_us": 1000}
    found, chosen = search(measure, arrivals, PRESENT, **limits)
    assert chosen == PRESENT
    assert any(each.trouble for each in found.values())
    broken = True
    with pytest.raises(EngineLoad, match="no memory"):
        search(measure, arrivals, PRESENT, **limits)


def test_layouts_share_all_cores_or_half_of_them():
    assert layouts(1) == [(1, 0)]
    assert layouts(2) == [(1, 0), (2, 0), (1, 1)]
    assert layouts(64)[-1] == (8, 4)


def test_delays_are_told_in_two_digits():
    assert [_rounded(number) for number in (0, 7, 62, 3125, 12_500)] == [0, 7, 62, 3100, 12_000]
