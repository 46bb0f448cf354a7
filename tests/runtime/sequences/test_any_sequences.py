"""Under any order of requests, answers, failures and departures no answer lacks a request."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.errors import ApplianceError
from tests.runtime.sequences.doubles import Bench

IDLE_SECONDS, WAITING_MAX, LIVE_MAX = 10, 3, 3
SEQUENCES = st.integers(1, 4)


class Sequencing(RuleBasedStateMachine):
    """Each value is asked once, so that a sum says which requests it is made of."""

    def __init__(self):
        super().__init__()
        self.bench = Bench(
            idle_seconds=IDLE_SECONDS,
            sequences_max=LIVE_MAX,
            waiting_requests_max=WAITING_MAX,
        )
        self.asked = {}  # value: its sequence, its turn
        self.order = {}  # sequence: (value, start) of all requests that got a place, in order
        self.gone = set()
        self.exponent = 0

    @rule(
        sequence=SEQUENCES,
        start=st.booleans(),
        end=st.booleans(),
        refused=st.booleans(),
    )
    def ask(self, sequence, start, end, refused):
        value = 1 << self.exponent
        self.exponent += 1
        self.bench.batcher.refusing = int(refused)
        try:
            turn = self.bench.ask(value, sequence, start=start, end=end)
        except ApplianceError:
            return
        finally:
            self.bench.batcher.refusing = 0
        self.asked[value] = sequence, turn
        self.order.setdefault(sequence, []).append((value, start))

    @rule(at=st.integers(0, 9), failed=st.booleans(), refused=st.integers(0, 2))
    def end_one(self, at, failed, refused):
        count = len(self.bench.batcher.tickets)
        self.bench.batcher.refusing = refused
        if count:
            (self.bench.batcher.fail if failed else self.bench.batcher.answer)(at % count)
        self.bench.batcher.refusing = 0

    @rule(at=st.integers(0, 99))
    def go(self, at):
        if self.asked:
            value, (_, turn) = list(self.asked.items())[at % len(self.asked)]
            if turn.cancel():
                self.gone.add(value)

    @rule(sequence=SEQUENCES)
    def leave(self, sequence):
        self.bench.sequences.leave(("", sequence))

    @rule(sequence=SEQUENCES)
    def end(self, sequence):
        self.bench.sequences.end(("", sequence))

    @rule()
    def forget(self):
        self.bench.sequences.forget()

    @rule(seconds=st.integers(1, 2 * IDLE_SECONDS))
    def wait(self, seconds):
        self.bench.clock.now_ns += seconds * 1_000_000_000
        self.bench.sequences.check()

    @invariant()
    def each_is_told_once_or_gone(self):
        told = [each[0] for each in self.bench.told]
        assert len(told) == len(set(told))
        assert not self.gone & set(told)
        assert set(told) <= set(self.asked)

    @invariant()
    def a_sum_has_every_request_since_the_start(self):
        for value, *rest in self.bench.told:
            if len(rest) != 2:
                continue
            order = self.order[self.asked[value][0]]
            at = next(i for i, each in enumerate(order) if each[0] == value)
            begin = max(i for i in range(at + 1) if order[i][1])
            assert rest == [sum(each[0] for each in order[begin : at + 1]), at - begin + 1]

    @invariant()
    def one_computes_at_a_time_and_holds_are_given_back(self):
        computing = [int(t.inputs["x"][0, 0]) for t in self.bench.batcher.tickets]
        sequences = [self.asked[value][0] for value in computing]
        assert len(sequences) == len(set(sequences))
        assert self.bench.version.count == 1 + self.bench.sequences.count
        assert self.bench.sequences.count <= LIVE_MAX

    def teardown(self):
        while self.bench.batcher.tickets:
            self.bench.batcher.answer()
        assert {each[0] for each in self.bench.told} | self.gone == set(self.asked)
        self.bench.sequences.forget()
        assert self.bench.version.count == 1


Sequencing.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestSequencing = Sequencing.TestCase
