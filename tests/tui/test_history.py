"""Rates come from differences of counters."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.protocol import control_pb2 as wire
from tui.history import MOMENTS_MAX, History

SECOND = 1_000_000_000


def status(at: float, answered: int, failed: int = 0, started: int = 1) -> wire.StatusReply:
    line = wire.ModelStatus(name="digits", answered=answered, failed=failed, p50_ms=1.0, p99_ms=2.0)
    return wire.StatusReply(wall_ns=int(at * SECOND) + 10, started_wall_ns=started, models=[line])


def seen(*statuses: wire.StatusReply) -> History:
    history = History()
    for each in statuses:
        history.add(each)
    return history


def test_nothing_is_known_before_the_first_look() -> None:
    assert History().traffic("digits").requests_per_second is None
    assert History().traffic("digits").answered == 0


def test_one_look_gives_counters_but_no_rate() -> None:
    traffic = seen(status(0, 50)).traffic("digits")
    assert (traffic.answered, traffic.requests_per_second, traffic.course) == (50, None, ())


def test_answered_and_failed_requests_count_alike() -> None:
    traffic = seen(status(0, 100), status(2, 150, failed=10)).traffic("digits")
    assert traffic.requests_per_second == 30.0


def test_the_rate_is_an_average_over_the_last_five_seconds() -> None:
    looks = [status(second, 100 * second) for second in range(10)]
    looks.append(status(10, 5900))
    assert seen(*looks).traffic("digits").requests_per_second == (5900 - 500) / 5


def test_the_course_ends_now() -> None:
    course = seen(status(0, 0), status(1, 10), status(3, 50)).traffic("digits").course
    assert [(moment.seconds, moment.requests_per_second) for moment in course] == [
        (-2.0, 10.0),
        (0.0, 20.0),
    ]


def test_a_restarted_runtime_starts_a_new_history() -> None:
    traffic = seen(status(0, 9000), status(1, 9100), status(2, 3, started=2)).traffic("digits")
    assert (traffic.answered, traffic.requests_per_second) == (3, None)


def test_a_clock_that_steps_back_starts_a_new_history() -> None:
    assert seen(status(5, 100), status(4, 200)).traffic("digits").requests_per_second is None


def test_a_model_that_is_gone_has_no_traffic() -> None:
    assert seen(status(0, 1), status(1, 2)).traffic("wine").course == ()


@given(st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 1000)), min_size=1, max_size=300))
def test_rates_are_never_negative_and_the_ring_is_bounded(steps: list[tuple[float, int]]) -> None:
    history, at, answered = History(), 0.0, 0
    for seconds, requests in steps:
        at, answered = at + seconds, answered + requests
        history.add(status(at, answered))
    traffic = history.traffic("digits")
    assert all(moment.requests_per_second >= 0 for moment in traffic.course)
    assert len(traffic.course) < MOMENTS_MAX
    assert traffic.answered == answered
