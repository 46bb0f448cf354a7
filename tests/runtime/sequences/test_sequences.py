"""The sequences of one version, over a batcher that answers when it is told to."""

import pytest

from appliance.errors import Overloaded, RequestError
from runtime.router import Route
from tests.runtime.sequences.doubles import Bench


@pytest.fixture
def bench():
    return Bench(idle_seconds=10, sequences_max=2, waiting_requests_max=3)


def test_each_request_gets_the_state_that_the_one_before_left(bench):
    bench.ask(1, start=True)
    bench.batcher.answer()
    bench.ask(2)
    bench.ask(3, end=True)
    assert len(bench.batcher.tickets) == 1  # one at a time
    bench.batcher.answer()
    bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1), (2, 3.0, 2), (3, 6.0, 3)]
    assert (bench.sequences.count, bench.version.count) == (0, 1)


def test_sequences_compute_side_by_side_and_are_told_apart_by_caller_and_kind_of_id(bench):
    bench.ask(1, 5, start=True)
    bench.ask(10, 5, start=True, name="other")
    assert len(bench.batcher.tickets) == 2
    with pytest.raises(RequestError, match="sequence 5 to model 'sums' must specify the START"):
        bench.ask(3, "5")


@pytest.mark.parametrize(
    ("request_of", "text"),
    [
        ({"sequence": None}, "model 'sums' must specify a non-zero or non-empty correlation ID"),
        ({}, "for sequence 5 to model 'sums' must specify the START flag on the first request"),
        ({"start": True, "rows": 2}, "must specify batch-size 1 due to requirements of sequence"),
        ({"sequence": "x" * 129, "start": True}, "the sequence id is longer than 128"),
    ],
)
def test_what_does_not_fit_is_refused_in_tritons_words(bench, request_of, text):
    with pytest.raises(RequestError, match=text):
        bench.ask(1, **request_of)
    assert (bench.sequences.count, bench.version.count, bench.told) == (0, 1, [])


def test_a_start_begins_anew_behind_what_waits(bench):
    bench.ask(1, start=True)
    bench.ask(2)
    bench.ask(10, start=True)
    for _ in range(3):
        bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1), (2, 3.0, 2), (10, 10.0, 1)]
    assert bench.sequences.count == 1


def test_a_failure_ends_the_sequence_and_what_waits_behind_it(bench):
    bench.ask(1, start=True)
    bench.ask(2)
    bench.ask(3)
    bench.batcher.fail()
    assert bench.told == [
        (1, "engine.failed"),
        (2, "sequence.broken"),
        (3, "sequence.broken"),
    ]
    with pytest.raises(RequestError, match="START"):
        bench.ask(4)
    assert bench.version.count == 1


def test_a_failure_reaches_no_sequence_that_begins_behind_it(bench):
    bench.ask(1, start=True)
    bench.ask(2)
    bench.ask(7, start=True)
    bench.batcher.fail()
    bench.batcher.answer()
    assert bench.told[-1] == (7, 7.0, 1)
    bench.ask(8)


def test_a_refusal_at_the_coming_leaves_the_sequence_as_it_was(bench):
    bench.ask(1, start=True)
    bench.batcher.answer()
    bench.batcher.refusing = 1
    with pytest.raises(Overloaded):
        bench.ask(2)
    bench.ask(2)
    bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1), (2, 3.0, 2)]


def test_a_refused_beginning_leaves_nothing(bench):
    bench.batcher.refusing = 1
    with pytest.raises(Overloaded):
        bench.ask(1, start=True)
    assert (bench.sequences.count, bench.version.count) == (0, 1)


def test_a_refusal_when_its_turn_has_come_ends_the_sequence(bench):
    bench.ask(1, start=True)
    bench.ask(2)
    bench.ask(3)
    bench.batcher.refusing = 1
    bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1), (2, "server.overloaded"), (3, "sequence.broken")]
    assert bench.version.count == 1


def test_waiting_for_its_turn_counts_as_waiting(bench):
    bench.ask(1, start=True, timeout_us=500)
    bench.ask(2, timeout_us=500)
    bench.ask(3, timeout_us=100)
    bench.clock.now_ns = 200_000
    bench.batcher.answer()
    bench.batcher.answer()
    assert bench.batcher.timeouts == [500, 300]
    assert bench.told[-1] == (3, "server.overloaded")


def test_a_caller_who_leaves_ends_the_sequence_there(bench):
    bench.ask(1, start=True)
    second = bench.ask(2)
    bench.ask(3)
    assert (second.line, second.gathered) == (0, False)
    assert second.cancel()
    assert not second.cancel()
    bench.batcher.answer()
    assert bench.told == [(3, "sequence.broken"), (1, 1.0, 1)]
    assert bench.version.count == 1


def test_a_caller_who_leaves_while_it_waits_in_the_queue(bench):
    first = bench.ask(1, start=True)
    assert first.line == 0
    bench.ask(2)
    assert first.cancel()
    assert bench.told == [(2, "sequence.broken")]
    assert not bench.batcher.tickets


def test_what_has_begun_to_compute_cannot_be_cancelled(bench):
    first = bench.ask(1, start=True)
    ticket = bench.batcher.tickets[0]
    bench.batcher.tickets.clear()
    assert not first.cancel()
    bench.batcher.tickets.append(ticket)
    bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1)]


def test_bounds(bench):
    for sequence in (1, 2):
        bench.ask(1, sequence, start=True)
    with pytest.raises(Overloaded, match="model 'sums' keeps 2 sequences"):
        bench.ask(1, 3, start=True)
    for _ in range(3):
        bench.ask(1, 1)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size: 3 requests of sequence 1"):
        bench.ask(1, 1)


def test_states_together_are_bounded():
    bench = Bench(state_bytes_max=8)
    bench.ask(1, 1, start=True)
    with pytest.raises(Overloaded, match="keeps 1 sequences"):
        bench.ask(1, 2, start=True)


def test_idle_sequences_are_forgotten(bench):
    bench.ask(1, 1, start=True)
    bench.batcher.answer()
    bench.ask(1, 2, start=True)
    bench.clock.now_ns = int(10.5e9)
    with pytest.raises(RequestError, match="START"):
        bench.ask(2, 1)
    assert bench.sequences.route(("", 1)) is None
    bench.sequences.check()
    assert (bench.sequences.count, bench.version.count) == (1, 2)  # the other still computes


def test_it_knows_how_a_sequence_came_here_until_it_ends(bench):
    canary = Route(1, "canary")
    assert bench.sequences.route(("", 5)) is None
    bench.ask(1, start=True, route=canary)
    assert bench.sequences.route(("", 5)) == canary
    bench.ask(2, end=True)
    assert bench.sequences.route(("", 5)) is None


def test_left_for_another_version_it_takes_no_more(bench):
    bench.ask(1, start=True)
    bench.ask(2)
    bench.sequences.leave(("", 5))
    bench.sequences.leave(("", 6))
    with pytest.raises(RequestError, match="START"):
        bench.ask(3)
    bench.batcher.answer()
    bench.batcher.answer()
    assert bench.told == [(1, 1.0, 1), (2, 3.0, 2)]
    bench.ask(1, 6, start=True)
    bench.batcher.answer()
    bench.sequences.leave(("", 6))
    assert (bench.sequences.count, bench.version.count) == (0, 1)


def test_an_answer_that_is_withdrawn_ends_its_sequence(bench):
    bench.ask(1, start=True)
    bench.batcher.answer()
    bench.ask(2)
    bench.ask(3)
    bench.sequences.end(("", 5))
    bench.sequences.end(("", 6))
    assert bench.told[-1] == (3, "sequence.broken")
    with pytest.raises(RequestError, match="START"):
        bench.ask(4)
    bench.batcher.answer()
    assert bench.version.count == 1
    bench.ask(1, start=True)
    bench.batcher.answer()
    bench.sequences.end(("", 5))
    assert (bench.sequences.count, bench.version.count) == (0, 1)


def test_forgotten_all_at_once(bench):
    bench.ask(1, 1, start=True)
    bench.ask(2, 1)
    bench.ask(1, 2, start=True)
    bench.batcher.answer(1)
    bench.sequences.forget()
    assert bench.told == [(1, 1.0, 1), (2, "sequence.broken")]
    bench.batcher.answer()
    assert bench.told[-1] == (1, 1.0, 1)
    assert (bench.sequences.count, bench.version.count) == (0, 1)


def test_one_that_ends_while_a_request_is_being_refused_stays_ended(bench):
    bench.ask(1, start=True)
    bench.batcher.answer()

    def refused(*_, **__):
        bench.sequences.end(("", 5))  # the first answer's record fails at this moment
        raise Overloaded("Exceeds maximum queue size", remedy="later")

    bench.batcher.submit = refused
    with pytest.raises(Overloaded):
        bench.ask(2)
    assert (bench.sequences.count, bench.version.count) == (0, 1)
    with pytest.raises(RequestError, match="START"):
        bench.ask(3)


def test_a_refused_beginning_leaves_the_route_as_it_was(bench):
    bench.ask(1, start=True)
    bench.batcher.answer()
    bench.batcher.refusing = 1
    with pytest.raises(Overloaded):
        bench.ask(1, start=True, route=Route(1, "pinned"))
    assert bench.sequences.route(("", 5)).reason == "active"


def test_any_number_of_beginnings_may_be_refused_when_their_turn_comes():
    ours = Bench(waiting_requests_max=3000)
    for value in range(3000):
        ours.ask(value, start=True)
    ours.batcher.refusing = 2999
    ours.batcher.answer()
    assert len(ours.told) == 3000
    assert not ours.batcher.refusing


def test_a_caller_that_fails_keeps_no_other_waiting(bench):
    turn = bench.ask(1, start=True)
    turn.then = lambda outcome: 1 / 0
    bench.ask(2)
    bench.batcher.answer()
    bench.batcher.answer()
    assert bench.told[-1][:2] == (2, 3.0)
