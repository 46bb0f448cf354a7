"""The pure queue: any interleaving of comings, goings and time, held against a plain list."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.config import QueueConfig
from appliance.errors import Overloaded
from runtime.batching.ticket import NEVER
from tests.runtime.batching.queueing import put, taken, ticket, values, waiting_of

CLIENTS = ("a", "b", "c")


class AnyInterleaving(RuleBasedStateMachine):
    """Each request leaves the queue in exactly one way, and only in a way that its rights allow."""

    def __init__(self):
        super().__init__()
        self.now = 0
        self.inside = {}  # the queue as a plain dict: ticket -> (priority, may be late, from when)
        self.left = set()

    @initialize(
        rows_max=st.integers(1, 8),
        requests_max=st.integers(1, 12),
        actions=st.lists(st.sampled_from(["reject", "delay"]), min_size=0, max_size=3),
        bound=st.integers(0, 4),
        preferred=st.lists(st.integers(1, 8), max_size=2),
    )
    def begin(self, rows_max, requests_max, actions, bound, preferred):
        queues = tuple(QueueConfig(timeout_action=a, requests_max=bound) for a in actions)
        self.rows_max, self.requests_max = rows_max, requests_max
        self.policies = queues or (QueueConfig(),)
        self.waiting = waiting_of(
            rows_max, preferred, queue_requests_max=requests_max, queues=queues
        )

    def _leave(self, one):
        assert one not in self.left
        del self.inside[one]
        self.left.add(one)
        assert one.line == -1

    @rule(
        rows=st.integers(1, 9),
        client=st.sampled_from(CLIENTS),
        key=st.sampled_from("kkkl"),
        priority=st.integers(0, 4),
        timeout_us=st.sampled_from([0, 0, 1, 2, 5]),
        deadline=st.sampled_from([None, None, 0, 1000, 4000]),
    )
    def come(self, *, rows, client, key, priority, timeout_us, deadline):
        until = NEVER if deadline is None else self.now + deadline
        one = ticket(rows, client=client, key=key, queued_ns=self.now, deadline_ns=until)
        levels = len(self.policies)
        level = priority if 1 <= priority <= levels else levels
        may_be_late = self.policies[level - 1].timeout_action == "delay"
        over = self.now + timeout_us * 1000 if timeout_us else NEVER
        room = len(self.inside) < self.requests_max
        self.inside[one] = (level, until if may_be_late else min(until, over), min(until, over))
        leaving = put(self.waiting, one, priority=priority, timeout_us=timeout_us, now_ns=self.now)
        for gone, error in leaving:
            assert isinstance(error, Overloaded)
            if "expired" in str(error):
                assert self.inside[gone][1] <= self.now
            elif gone is not one and room:
                assert self.inside[gone][0] == level
            elif gone is not one:
                assert self.inside[gone][0] >= level
            self._leave(gone)

    @rule(step=st.sampled_from([1, 1000, 2500]))
    def time_goes_on(self, step):
        self.now += step

    @rule()
    def sweep(self):
        for gone, _ in self.waiting.expire(self.now):
            assert self.inside[gone][1] <= self.now
            self._leave(gone)
        assert all(end > self.now for _, end, _ in self.inside.values())

    @rule(lanes=st.integers(1, 3))
    def take(self, lanes):
        self.sweep()
        places = {one: one.line for one in self.inside}
        batch = self.waiting.take(lanes)
        assert bool(batch) == bool(self.inside)
        if not batch:
            return
        rows = sum(one.rows for one in batch)
        assert len(set(batch)) == len(batch)
        assert {one.key for one in batch} == {batch[0].key}
        share = max(-(-sum(one.rows for one in self.inside) // lanes), batch[0].rows)
        assert len(batch) == 1 or rows <= min(self.rows_max, share)
        first = min((level, late <= self.now) for level, _, late in self.inside.values())
        level, _, late = self.inside[batch[0]]
        assert (level, late <= self.now) == first
        for one in batch:
            self._leave(one)
        self._check_order(batch, places)

    def _check_order(self, batch, places):
        """A client's own requests of one key and right keep their order; the late come as they may."""
        for one, other in itertools.product(batch, self.inside):
            alike = (one.client, one.key, places[one]) == (other.client, other.key, places[other])
            assert not alike or places[one] % 2 or one.number < other.number

    @rule(data=st.data())
    def somebody_leaves(self, data):
        if self.inside:
            one = data.draw(st.sampled_from(sorted(self.inside, key=lambda one: one.number)))
            assert self.waiting.leave(one)
            self._leave(one)
            assert not self.waiting.leave(one)

    @rule()
    def gone_is_gone(self):
        assert not any(self.waiting.leave(one) for one in self.left)

    @invariant()
    def counts_are_right(self):
        if hasattr(self, "waiting"):
            assert self.waiting.requests == len(self.inside) <= self.requests_max
            assert self.waiting.rows == sum(one.rows for one in self.inside)

    def teardown(self):
        if hasattr(self, "waiting"):
            assert set(self.waiting.clear()) == set(self.inside)
            assert self.waiting.requests == self.waiting.rows == 0


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=150, stateful_step_count=40)


def test_clients_take_turns_whatever_one_of_them_sends():
    waiting = waiting_of(4)
    for client in "aaaaaaabc":
        put(waiting, ticket(client=client))
    assert [values(batch) for batch in taken(waiting)] == ["abca", "aaaa", "a"]


def test_turns_are_shared_by_rows_not_by_requests():
    waiting = waiting_of(8)
    for _ in range(6):
        put(waiting, ticket(4, client="a"))
    for _ in range(12):
        put(waiting, ticket(1, client="b"))
    batches = taken(waiting)
    # Eight rows each of the first sixteen: two requests of one, eight of the other.
    first = [one for batch in batches[:2] for one in batch]
    assert sorted(values(first)) == list("aabbbbbbbb")


def test_who_has_nothing_of_the_batch_s_key_keeps_its_turn():
    waiting = waiting_of(3)
    put(waiting, ticket(client="a"))
    put(waiting, ticket(client="c", key="other"))
    for client in "bababababa":
        put(waiting, ticket(client=client))
    assert [values(batch) for batch in taken(waiting)][:2] == ["aba", "c"]


def test_who_does_not_fit_is_first_in_the_next_batch():
    waiting = waiting_of(4)
    for client, rows in (("a", 2), ("b", 4), ("c", 1), ("d", 1)):
        put(waiting, ticket(rows, client=client))
    assert [values(batch) for batch in taken(waiting)] == ["acd", "b"]


def test_one_client_of_many_shapes_gets_batches_of_each():
    waiting = waiting_of(8)
    for _ in range(4):
        put(waiting, ticket(key="wide"))
        put(waiting, ticket(key="high"))
    assert [len(batch) for batch in taken(waiting)] == [4, 4]


def test_a_request_larger_than_a_batch_goes_alone():
    waiting = waiting_of(4)
    for rows in (6, 1):
        put(waiting, ticket(rows))
    assert [len(batch) for batch in taken(waiting)] == [1, 1]


def test_free_lanes_share_what_waits():
    waiting = waiting_of(32)
    for _ in range(7):
        put(waiting, ticket())
    assert len(waiting.take(2)) == 4
    assert len(waiting.take(1)) == 3


def test_higher_priorities_are_first_and_fill_up_with_lower_ones():
    waiting = waiting_of(3, queues=(QueueConfig(), QueueConfig()))
    for client, priority in (("low", 2), ("low", 0), ("high", 1), ("low", 7)):
        put(waiting, ticket(client=client), priority=priority)
    first, second = taken(waiting)
    assert [one.client for one in first] == ["high", "low", "low"]
    assert len(second) == 1


def test_the_priority_of_those_who_name_none_is_a_setting():
    waiting = waiting_of(1, queues=(QueueConfig(), QueueConfig()), priority_default=1)
    put(waiting, ticket(client="low"), priority=2)
    put(waiting, ticket(client="none"))
    assert [values(batch) for batch in taken(waiting)] == ["none", "low"]


def test_late_requests_go_behind_those_in_time_and_are_answered():
    waiting = waiting_of(1, queues=(QueueConfig(timeout_action="delay"),))
    put(waiting, ticket(client="late"), timeout_us=5)
    put(waiting, ticket(client="intime"))
    assert waiting.expire(5000) == []
    assert [values(batch) for batch in taken(waiting)] == ["intime", "late"]


def test_a_late_request_is_over_when_nobody_listens_any_more():
    waiting = waiting_of(1, queues=(QueueConfig(timeout_action="delay"),))
    put(waiting, ticket(deadline_ns=9000), timeout_us=5)
    assert waiting.expire(8999) == []
    ((_, error),) = waiting.expire(9000)
    assert str(error) == "Request timeout expired"


@pytest.mark.parametrize(
    ("default", "override", "asked", "over_us"),
    [
        (0, True, 0, None),
        (7, True, 0, 7),
        (7, True, 3, 3),
        (7, True, 9, 7),
        (7, False, 3, 7),
        (0, False, 3, None),
    ],
)
def test_a_request_may_shorten_its_queue_s_timeout_only(default, override, asked, over_us):
    queue = QueueConfig(timeout_us_default=default, timeout_override=override)
    waiting = waiting_of(queues=(queue,))
    put(waiting, ticket(), timeout_us=asked)
    if over_us is None:
        assert waiting.expire(NEVER - 1) == []
    else:
        assert waiting.expire(over_us * 1000 - 1) == []
        assert len(waiting.expire(over_us * 1000)) == 1
