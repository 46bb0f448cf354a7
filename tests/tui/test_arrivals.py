"""Requests made of records, and of chance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.kinds import Failure, Inference, Stop
from appliance.audit.record import Entry
from runtime.tuning import Arrivals
from tui.arrivals import busiest, cut, filled, halves, poisson, rate, recorded, sped

DIGEST = "0" * 64
MS = 1_000_000


def entry(at_ms, *, rows=1, took_ms=1, boot="a", route="active", record=None):
    inference = Inference(
        request_id="r",
        model="digits",
        version=1,
        bundle_sha256=DIGEST,
        engine_sha256=DIGEST,
        recipe_sha256=DIGEST,
        route=route,
        principal="",
        peer="",
        rows=rows,
        input_sha256=DIGEST,
        output_sha256=DIGEST,
        outputs=(),
        vector=b"",
        queue_ns=0,
        compute_ns=0,
        total_ns=took_ms * MS,
    )
    return Entry(
        sequence=0,
        wall_ns=0,
        monotonic_ns=at_ms * MS,
        boot_id=boot,
        box=DIGEST,
        record=record or inference,
    )


def test_a_request_came_before_its_answer_was_written():
    entries = [entry(10, took_ms=1), entry(10, took_ms=5, rows=3), entry(12, took_ms=1, rows=2)]
    assert recorded(entries) == Arrivals(at_ns=(0, 4 * MS, 6 * MS), rows=(3, 1, 2))


def test_shadows_and_what_is_no_answer_are_no_requests():
    failed = Failure(
        request_id="r", model="digits", version=0, principal="", peer="", code="c", message="m"
    )
    others = [entry(3, route="shadow"), entry(4, record=failed), entry(5, record=Stop(reason="s"))]
    assert recorded([entry(1), *others, entry(9)]).at_ns == (0, 8 * MS)


def test_between_two_boots_no_time_passes():
    entries = [entry(900, boot="a"), entry(905, boot="a"), entry(3, boot="b"), entry(10, boot="b")]
    assert recorded(entries).at_ns == (0, 5 * MS, 5 * MS, 12 * MS)


def test_faster_means_closer_together():
    assert sped(Arrivals(at_ns=(0, 10, 40), rows=(1, 2, 3)), 2.0).at_ns == (0, 5, 20)


def test_a_long_pause_is_cut():
    assert cut(Arrivals(at_ns=(0, 3, 100, 104), rows=(1,) * 4), 10).at_ns == (0, 3, 13, 17)


def test_they_come_over_again_as_far_apart_as_on_average():
    again = filled(Arrivals(at_ns=(0, 4, 8), rows=(1, 2, 3)), 7)
    assert again == Arrivals(at_ns=(0, 4, 8, 12, 16, 20, 24), rows=(1, 2, 3, 1, 2, 3, 1))


def test_the_busiest_stretch_is_the_shortest():
    arrivals = Arrivals(at_ns=(0, 10, 20, 21, 22, 40), rows=(1, 2, 3, 4, 5, 6))
    assert busiest(arrivals, 3) == Arrivals(at_ns=(0, 1, 2), rows=(3, 4, 5))
    assert busiest(arrivals, 6) == arrivals


def test_halves_both_begin_at_zero():
    first, second = halves(Arrivals(at_ns=(0, 5, 20, 21, 30), rows=(1, 2, 3, 4, 5)))
    assert first == Arrivals(at_ns=(0, 5), rows=(1, 2))
    assert second == Arrivals(at_ns=(0, 1, 10), rows=(3, 4, 5))


def test_chance_repeats_and_keeps_its_rate():
    drawn = poisson(200.0, 4, 5000)
    assert drawn == poisson(200.0, 4, 5000)
    assert rate(drawn) == pytest.approx(200.0, rel=0.1)
    assert set(drawn.rows) == {4}
    assert rate(Arrivals(at_ns=(0,), rows=(1,))) == 0.0


@given(
    gaps=st.lists(st.integers(0, 10**9), min_size=2, max_size=50),
    speed=st.floats(0.1, 100),
    requests=st.integers(2, 200),
)
def test_whatever_was_recorded_requests_rise_from_zero(gaps, speed, requests):
    at = [sum(gaps[: place + 1]) // MS * MS for place in range(len(gaps))]
    arrivals = recorded([entry(each // MS) for each in at])
    for made in (
        sped(arrivals, speed),
        cut(arrivals, 10**6),
        filled(arrivals, requests),
        busiest(arrivals, min(requests, len(at))),
    ):
        assert made.at_ns[0] == 0
        assert list(made.at_ns) == sorted(made.at_ns)
        assert len(made.at_ns) == len(made.rows)
