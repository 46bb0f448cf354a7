"""What an engine's calls tell of its costs."""

from runtime.batching.learned import CALM_CALLS, LONG, Learned

QUICK = 500_000


def learned(*took_ns, rows=1):
    known = Learned(inline_ns=QUICK)
    for took in took_ns:
        known.add(took, rows=rows)
    return known


def test_what_has_not_been_seen_is_not_quick():
    assert not learned().quick(1)


def test_rows_count_by_what_they_cost_at_their_best():
    known = learned(80_000, rows=10)
    assert known.quick(62)
    assert not known.quick(63)


def test_waits_for_a_processor_are_no_cost_of_the_engine():
    known = learned(20_000, *[900_000, 2_000_000, 30_000] * 30)
    assert known.quick(1)


def test_an_engine_that_became_slow_is_found_out():
    assert not learned(20_000, *[900_000] * 100).quick(1)


def test_a_call_that_is_really_long_counts_at_once_and_for_a_while():
    known = learned(20_000, LONG * QUICK + 1)
    for _ in range(CALM_CALLS):
        assert not known.quick(1)
        known.add(20_000, rows=1)
    assert known.quick(1)


def test_nothing_is_quick_where_it_is_not_wanted():
    known = Learned(inline_ns=0)
    for _ in range(20):
        known.add(1, rows=1)
    assert not known.quick(1)


def test_the_mean_follows():
    known = learned(*[1000] * 10, *[2000] * 60)
    assert 1900 < known.row_ns <= 2000
