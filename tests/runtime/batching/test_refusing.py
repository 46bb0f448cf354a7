"""Whom the queue refuses: when it is full, and when an answer would come too late."""

from appliance.config import QueueConfig
from tests.runtime.batching.queueing import put, ticket, values, waiting_of


def refused(leaving):
    return [str(error) for _, error in leaving], values([one for one, _ in leaving])


def test_a_full_queue_refuses_a_client_like_the_others():
    waiting = waiting_of(queue_requests_max=2)
    put(waiting, ticket(client="a"))
    put(waiting, ticket(client="a"))
    assert refused(put(waiting, ticket(client="a"))) == (["Exceeds maximum queue size"], "a")


def test_in_a_full_queue_the_newest_of_the_greediest_client_makes_room():
    waiting = waiting_of(queue_requests_max=3)
    three = [ticket(client="a") for _ in range(3)]
    for one in three:
        put(waiting, one)
    ((gone, error),) = put(waiting, ticket(client="b"))
    assert (gone, str(error)) == (three[2], "Exceeds maximum queue size")
    assert refused(put(waiting, ticket(client="b")))[1] == "b"


def test_in_a_full_queue_lower_priorities_make_room():
    waiting = waiting_of(queue_requests_max=1, queues=(QueueConfig(), QueueConfig()))
    put(waiting, ticket(client="low"), priority=2)
    assert refused(put(waiting, ticket(client="low"), priority=2))[1] == "low"
    assert refused(put(waiting, ticket(client="high"), priority=1))[1] == "low"
    assert refused(put(waiting, ticket(client="high"), priority=1))[1] == "high"


def test_in_a_full_queue_what_is_over_makes_room_first():
    waiting = waiting_of(queue_requests_max=1)
    put(waiting, ticket(client="over", deadline_ns=5))
    assert refused(put(waiting, ticket(client="new"), now_ns=5)) == (
        ["Request timeout expired"],
        "over",
    )


def test_a_priority_has_its_own_bound():
    queues = (QueueConfig(requests_max=1), QueueConfig())
    waiting = waiting_of(queues=queues)
    put(waiting, ticket(), priority=1)
    assert len(put(waiting, ticket(), priority=1)) == 1
    assert put(waiting, ticket(), priority=2) == []


def test_who_would_wait_beyond_its_deadline_is_refused_at_once():
    waiting = waiting_of()
    for _ in range(10):
        put(waiting, ticket(client="a"))
    soon = ticket(client="a", deadline_ns=13_749_999)
    ((gone, error),) = put(waiting, soon, row_ns=1_000_000)
    assert gone is soon
    assert str(error) == "Request timeout would expire: an answer takes about 13 ms"
    assert put(waiting, ticket(client="a", deadline_ns=13_750_000), row_ns=1_000_000) == []
    # A newcomer's turn comes soon, however many of one client's wait.
    assert put(waiting, ticket(client="b", deadline_ns=3_750_000), row_ns=1_000_000) == []


def test_what_is_being_computed_is_waited_for_too():
    waiting = waiting_of()
    late = ticket(deadline_ns=6_249_999)
    ((gone, _),) = waiting.put(
        late, priority=0, timeout_us=0, row_ns=1_000_000, now_ns=0, running_rows=4
    )
    assert gone is late
    in_time = ticket(deadline_ns=6_250_000)
    assert (
        waiting.put(in_time, priority=0, timeout_us=0, row_ns=1_000_000, now_ns=0, running_rows=4)
        == []
    )


def test_a_timeout_is_of_the_wait_and_not_of_the_answer():
    waiting = waiting_of()
    for _ in range(4):
        put(waiting, ticket())
    assert put(waiting, ticket(), timeout_us=4000, row_ns=1_000_000) == []
    assert len(put(waiting, ticket(), timeout_us=4000, row_ns=1_000_000)) == 1


def test_an_idle_engine_refuses_nobody_for_what_it_once_took():
    waiting = waiting_of()
    assert put(waiting, ticket(deadline_ns=1), row_ns=1_000_000) == []
