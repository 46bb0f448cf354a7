"""Under any interleaving of threads each caller gets exactly its own rows, once."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import QueueConfig
from appliance.errors import ApplianceError
from runtime.batching import Served

SECOND = 1_000_000_000

values = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, -1, -2]), min_size=1, max_size=5)
send = st.tuples(
    st.just("send"),
    values,
    st.fixed_dictionaries(
        {
            "width": st.integers(1, 2),
            "client": st.sampled_from("abc"),
            "priority": st.integers(0, 3),
            "gather": st.booleans(),
            "timeout_us": st.sampled_from([0, 0, 0, 2_000_000]),
        }
    ),
)
step = st.one_of(
    send,
    send,
    send,
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("go"), st.integers(1, 3)),
    st.tuples(st.just("time"), st.sampled_from([1, SECOND, 30 * SECOND])),
    st.tuples(st.just("burst")),
    st.tuples(st.just("check")),
    st.tuples(st.just("hang")),
    st.tuples(st.just("rest"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("settle")),
    st.tuples(st.just("settle")),
)


def run(ours, script, tickets):
    """Carry a script out; a request that may run on this thread must not be held there."""
    for act, *more in script:
        match act:
            case "send":
                number = len(ours.callers.sent)
                gather = more[1]["gather"] and ours.engine.open
                asked = more[1] | {"gather": ours.gathered.add if gather else None}
                try:
                    tickets[number] = ours.callers.send(*more[0], **asked)
                except ApplianceError:
                    tickets[number] = None
            case "cancel":
                if ticket := tickets.get(more[0]):
                    ticket_left = ticket.cancel()
                    tickets[more[0]] = False if ticket_left else ticket
            case "go":
                ours.engine.let_go(more[0])
            case "time":
                ours.clock.now += more[0]
            case "burst":
                ours.run_gathered()
            case "check":
                ours.batcher.check()
            case "settle":
                ours.settle()
            case "rest":
                ours.runners[more[0] % len(ours.runners)].resting = more[1]
            case "hang":
                ours.clock.now += 61 * SECOND
                ours.batcher.check()


@settings(max_examples=300)
@given(
    script=st.lists(step, max_size=30),
    rows_max=st.integers(1, 8),
    lanes=st.integers(1, 3),
    quick=st.sampled_from([False, False, True]),
    delay_us_max=st.sampled_from([0, 100]),
    lanes_left=st.integers(0, 3),
    bucket_rows=st.sampled_from([(), (2, 8)]),
)
def test_each_caller_gets_exactly_its_own_rows_once(
    make_bench, *, script, rows_max, lanes, quick, delay_us_max, lanes_left, bucket_rows
):
    ours = make_bench(
        lanes=lanes,
        rows_max=rows_max,
        delay_us_max=delay_us_max,
        bucket_rows=bucket_rows,
        queue_requests_max=12,
        queues=(QueueConfig(), QueueConfig(timeout_action="delay")),
    )
    ours.engine.lanes_left = lanes_left
    tickets = {}
    if quick:
        ours.batcher._learned.add(1000, rows=1)
    else:
        ours.engine.hold()
    run(ours, script, tickets)
    ours.close()
    for number, ticket in tickets.items():
        if ticket:
            ours.callers.check(number)
        else:  # refused at once, or cancelled in time: nobody is told anything
            assert ours.callers.outcomes[number] == []
    assert not ours.batcher.queued
    ran = [value for batch in ours.engine.batches for one in batch for value in one]
    served = sum(
        len(ours.callers.sent[number])
        for number, ticket in tickets.items()
        if ticket and isinstance(ours.callers.outcomes[number][0], Served)
    )
    assert served <= len(ran)


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    lanes=st.integers(1, 3),
    rows_max=st.integers(1, 8),
    gather=st.booleans(),
)
def test_so_it_is_with_many_threads_that_send_at_once(make_bench, counts, lanes, rows_max, gather):
    ours = make_bench(lanes=lanes, rows_max=rows_max)
    ours.batcher._learned.add(1000, rows=1)
    send_lock, start = threading.Lock(), threading.Barrier(len(counts))

    def caller(count, client):
        gathered = set()
        start.wait()
        for value in range(count):
            with send_lock:
                number = len(ours.callers.sent)
                ticket = ours.callers.send(
                    value, client=client, gather=gathered.add if gather else None
                )
            if value % 3 == 2 and gathered:
                gathered.pop().run_gathered()
            if value % 5 == 4 and ticket.cancel():
                ours.callers.outcomes[number].append(None)

    threads = [
        threading.Thread(target=caller, args=(count, str(place)))
        for place, count in enumerate(counts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ours.close()
    assert len(ours.callers.sent) == sum(counts)
    for number in range(sum(counts)):
        ours.callers.check(number)
