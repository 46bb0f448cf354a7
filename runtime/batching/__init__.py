"""Batching: many callers, few engine calls, each caller's own rows back.

Knows: who may use it, and by what names. Rules: `sizes`, `line`, `waiting` and `ticket` are pure, `lane`
and `lanes` are what has a thread, `batcher` has them all. Leaves to others: what a batch computes (`runtime.servable`).
"""

from runtime.batching.batcher import Batcher
from runtime.batching.lane import Runner
from runtime.batching.ticket import Outcome, Served, Ticket

__all__ = ["Batcher", "Outcome", "Runner", "Served", "Ticket"]
