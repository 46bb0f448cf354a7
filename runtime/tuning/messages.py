"""What passes between the console and the process that measures. Pure.

Knows: the form of every message, one line of JSON each. Rules: first one order, then trials, each answered
by any number of `Reached` and one of the others. Leaves to others: pipes (`process`, `worker`).
"""

from typing import TypeAlias

import msgspec

from appliance.config import Config
from appliance.deployment import Tuning


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """One line."""


class Arrivals(Message, frozen=True, kw_only=True):
    """Requests to come: when, in nanoseconds from a common start, rising; and the rows of each."""

    at_ns: tuple[int, ...]
    rows: tuple[int, ...]


class Order(Message, frozen=True, kw_only=True):
    """What is measured: a version under the settings of its box, but for what each trial says.

    `tuning` is the recorded one, None without. A request is late when it took longer than `goal_ns`.
    """

    config: Config
    model: str
    version: int
    goal_ns: int
    tuning: Tuning | None = None


class Trial(Message, frozen=True, kw_only=True):
    """One setting, to be measured with these requests; given up once more than `late_max` were late."""

    tuning: Tuning
    arrivals: Arrivals
    late_max: int


class Ready(Message, frozen=True, kw_only=True):
    """The version is there and runs with `present`; a batch has at most `batch_max` rows, 1 without a batch axis."""

    batch_max: int
    present: Tuning


class Reached(Message, frozen=True, kw_only=True):
    """So many requests of the running trial have come."""

    requests: int


class Measured(Message, frozen=True, kw_only=True):
    """What came of a trial: of the `requests` that came `late` took longer than the goal or got no answer.

    One with more late requests than its trial allows is `abandoned` there and then. Times are from the moment a request was due to its answer, in milliseconds, None where that got none;
    `throughput` counts answered requests a second; `batch_rows` is the mean over engine calls; `cpu_us_row`
    is processor time of a row in microseconds, on all cores, sending included. `trouble` says why nothing
    was measured, else "".
    """

    requests: int
    late: int
    abandoned: bool
    throughput: float
    p50_ms: float | None
    p99_ms: float | None
    batch_rows: float
    cpu_us_row: float
    trouble: str = ""


class Failed(Message, frozen=True, kw_only=True):
    """The order cannot be carried out."""

    message: str
    remedy: str


Reply: TypeAlias = Ready | Reached | Measured | Failed


def nothing(trouble: str) -> Measured:
    """What is known of a setting that could not be measured."""
    return Measured(
        requests=0,
        late=0,
        abandoned=True,
        throughput=0.0,
        p50_ms=None,
        p99_ms=None,
        batch_rows=0.0,
        cpu_us_row=0.0,
        trouble=trouble,
    )
