"""When another try is made, and how long before it: plain values only."""

import pytest

from runtime.client.retry import HINT_KEY, Attempts, Retry

TEN = Retry(attempts_max=10, first_wait_seconds=1.0, wait_seconds_max=5.0)


@pytest.fixture
def attempts(steps):
    def made(retry=TEN, *, seconds=1000.0, chance=0.999999):
        return Attempts(retry, deadline_seconds=seconds, clock=steps, uniform=lambda: chance)

    return made


def waits(attempts, count):
    return [attempts.wait_after({}) for _ in range(count)]


def test_waits_double_up_to_their_limit(attempts):
    assert waits(attempts(), 5) == pytest.approx([1, 2, 4, 5, 5], rel=1e-4)


def test_chance_takes_at_most_half_of_a_wait(attempts):
    assert waits(attempts(chance=0.0), 4) == [0.5, 1, 2, 2.5]


def test_tries_are_counted_the_first_included(attempts):
    assert waits(attempts(Retry(attempts_max=3)), 4)[2:] == [None, None]
    assert waits(attempts(Retry(attempts_max=1)), 1) == [None]


def test_no_wait_ends_behind_the_deadline(attempts, steps):
    made = attempts(seconds=4.0)
    for _ in range(2):
        steps.sleep(made.wait_after({}))
    assert made.seconds_left == pytest.approx(1.0, abs=1e-3)
    assert made.wait_after({}) is None


@pytest.mark.parametrize("hint", ["1500", b"1500"])
def test_the_server_says_how_long(attempts, hint):
    made = attempts()
    assert waits(made, 2) == pytest.approx([1, 2], rel=1e-4)
    assert made.wait_after({HINT_KEY: hint}) == 1.5
    assert made.wait_after({}) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("hint", ["-1", "soon", b"\xff", ""])
def test_the_server_says_never(attempts, hint):
    assert attempts().wait_after({HINT_KEY: hint}) is None


def test_a_hint_is_kept_within_deadline_and_count(attempts):
    assert attempts(seconds=1.0).wait_after({HINT_KEY: "1001"}) is None
    assert attempts(Retry(attempts_max=1)).wait_after({HINT_KEY: "1"}) is None
