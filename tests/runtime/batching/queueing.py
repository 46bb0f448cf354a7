"""Queues and requests for the tests of the pure queue."""

from appliance.config import BatchingConfig
from runtime.batching.sizes import Sizes
from runtime.batching.ticket import NEVER, Ticket
from runtime.batching.waiting import Waiting


def waiting_of(rows_max=8, preferred=(), **more):
    sizes = Sizes(rows_max, preferred=preferred, buckets=())
    return Waiting(BatchingConfig(**more), sizes)


def ticket(rows=1, *, client="a", key="k", queued_ns=0, deadline_ns=NEVER):
    return Ticket(
        {}, rows, lambda outcome: None, key, client, queued_ns, deadline_ns, lambda ticket: False
    )


def put(waiting, one, *, priority=0, timeout_us=0, row_ns=0, now_ns=0):
    return waiting.put(one, priority=priority, timeout_us=timeout_us, row_ns=row_ns, now_ns=now_ns)


def taken(waiting, lanes=1):
    batches = []
    while batch := waiting.take(lanes):
        batches.append(batch)
    return batches


def values(batch):
    return "".join(one.client for one in batch)
