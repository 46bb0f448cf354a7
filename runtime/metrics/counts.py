"""What the runtime counts.

Knows: the counters of each version, of each model's recent latency and of the audit log's commits. Rules: a
request is counted once, by whichever thread ends it, under the lock of its model; whoever reads several
figures that must agree holds that lock too; a code that is counted is one of ours, so that clients cannot add
counters. Leaves to others: showing them (`exposition`).
"""

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from runtime.gpu.standing import Standing as Owner
    from runtime.gpu.telemetry import Reading

RECENT_REQUESTS = 1000
UNTOLD = "internal"  # the code of what is no error of ours
# Upper bounds of the latency histograms, in nanoseconds: three a decade from 0.1 ms to 10 s.
TIME_BOUNDS_NS = tuple(step * 10**power for power in range(5, 11) for step in (1, 2, 5))[:16]


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took together, as the protocol counts."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Note `count` more that took `ns` nanoseconds together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class Times:
    """A histogram over TIME_BOUNDS_NS: how many were at most each bound, the last one above them all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(TIME_BOUNDS_NS) + 1))
    ns: int = 0

    def add(self, ns: int) -> None:
        """Note one that took `ns` nanoseconds."""
        self.counts[bisect_left(TIME_BOUNDS_NS, ns)] += 1
        self.ns += ns


@dataclass(slots=True)
class BatchCounts:
    """The executions of one batch size.

    Each request of a batch brings its rows and, a row, the times of the whole batch; a batch whose requests
    are all counted adds up to exactly one execution, without a fraction on the way.
    """

    rows: int = 0
    input_row_ns: int = 0
    infer_row_ns: int = 0
    output_row_ns: int = 0

    def executions(self, size: int) -> int:
        """How many executions of `size` rows these were, to the nearest."""
        return round(self.rows / size)


@dataclass(slots=True)
class VersionCounts:
    """Counters of one version since the start of the process; `lock` guards every one of them."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: float = 0.0
    by_batch: dict[int, BatchCounts] = field(default_factory=dict)
    took: Times = field(default_factory=Times)
    waited: Times = field(default_factory=Times)
    last_wall_ms: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))
    lock: Lock = field(default_factory=Lock)

    def answered(
        self,
        *,
        rows: int,
        batch_rows: int,
        queue_ns: int,
        compute_ns: int,
        took_ns: int,
        wall_ns: int,
        input_ns: int = 0,
        output_ns: int = 0,
    ) -> None:
        """Count one answered request of `rows` rows; from any thread.

        `batch_rows` rows shared its engine call. Times are nanoseconds: `compute_ns` of the whole batch,
        of which `input_ns` went before the engine and `output_ns` after it; `took_ns` from the request to
        its reply. `wall_ns` is when it was answered (Unix epoch).
        """
        infer_ns = max(compute_ns - input_ns - output_ns, 0)
        with self.lock:
            self.success.add(took_ns)
            self.queue.add(queue_ns)
            self.compute.add(compute_ns)
            self.compute_input.add(input_ns)
            self.compute_infer.add(infer_ns)
            self.compute_output.add(output_ns)
            self.rows += rows
            # Each request of a batch carries its share, so that the shares add up to whole executions.
            self.batches += rows / batch_rows
            batch = self.by_batch.setdefault(batch_rows, BatchCounts())
            batch.rows += rows
            batch.input_row_ns += rows * input_ns
            batch.infer_row_ns += rows * infer_ns
            batch.output_row_ns += rows * output_ns
            self.took.add(took_ns)
            self.waited.add(queue_ns)
            self.last_wall_ms = max(self.last_wall_ms, wall_ns // 1_000_000)
            self.recent_ns.append(took_ns)

    def failed(self, took_ns: int, code: str = UNTOLD) -> None:
        """Count one request that reached this version and got the error `code`; from any thread."""
        with self.lock:
            self.fail.add(took_ns)
            self.codes[code] += 1


@dataclass(slots=True)
class ModelCounts:
    """Counters of one model: per version, refusals that reached no version and their codes, recent latencies."""

    versions: dict[int, VersionCounts] = field(default_factory=dict)
    refused: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    recent_ns: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS))
    lock: Lock = field(default_factory=Lock)

    def version(self, number: int) -> VersionCounts:
        """The counters of a version, made at first use; from any thread."""
        found = self.versions.get(number)
        if found is None:
            made = VersionCounts(recent_ns=self.recent_ns, lock=self.lock)
            found = self.versions.setdefault(number, made)
        return found

    def refused_one(self, code: str = UNTOLD) -> None:
        """Count one request that reached no version and got the error `code`; from any thread."""
        with self.lock:
            self.refused += 1
            self.codes[code] += 1

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the recent requests' latency in milliseconds, 0.0 without any."""
        with self.lock:
            recent = list(self.recent_ns)
        return float(np.quantile(np.array(recent), quantile)) / 1e6 if recent else 0.0


@dataclass(slots=True)
class Commits:
    """The audit log's commits, of which one runs at a time; from any thread.

    `now_ns` is a clock of nanoseconds that never steps back; `done_ns` when the last one was durable, or
    the process began; `began_ns` when the one that runs began, 0 when none does.
    """

    now_ns: Callable[[], int] = time.monotonic_ns
    took: Times = field(default_factory=Times)
    records: int = 0
    failures: int = 0
    began_ns: int = 0
    done_ns: int = 0
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.done_ns = self.now_ns()

    def begun(self) -> None:
        """A commit begins."""
        self.began_ns = self.now_ns()

    def ended(self, records: int) -> None:
        """The commit that began is over: so many records are durable; 0 that it failed."""
        with self.lock:
            now, began = self.now_ns(), self.began_ns
            self.began_ns = 0
            if not records:
                self.failures += 1
                return
            self.done_ns = now
            self.records += records
            self.took.add(now - began)

    def running_ns(self) -> int:
        """How long the commit that runs has taken so far, 0 when none runs."""
        began = self.began_ns
        return self.now_ns() - began if began else 0


class Standing(Protocol):
    """Where a version stands (see `runtime.standing`): its states, its roles and its queue."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def states(self) -> Sequence[str]:
        """Those of STATES that it is in."""

    @property
    def roles(self) -> Sequence[str]:
        """The roles that it plays now, as "active"."""

    @property
    def queued(self) -> int:
        """Requests that wait for it."""

    @property
    def lanes(self) -> int:
        """Lanes at work."""

    @property
    def sequences(self) -> int:
        """Sequences that it keeps."""

    @property
    def hanging(self) -> int:
        """Engine calls that were given up and have not ended."""


class Expiring(Protocol):
    """A certificate in use."""

    @property
    def what(self) -> str:
        """Which one it is, such as "server"."""

    @property
    def name(self) -> str:
        """Whose it is."""

    @property
    def not_after_ns(self) -> int:
        """Until when it holds, nanoseconds since the epoch."""


class Payloads(NamedTuple):
    """Requests whose inputs were kept, those that should have been, and the bytes of what is kept."""

    kept: int = 0
    missed: int = 0
    bytes: int = 0


STATES = ("loading", "loaded", "draining", "failed")


@dataclass(slots=True)
class Metrics:
    """All counters, and what reads the state of this moment from other rooms, on the asker's thread.

    `queued` and `audit_queue` tell what waits, `standings` where every version stands, `calls` how many
    calls are open and `calls_refused` how many were refused because too many were, `certificates` which ones
    are in use, `checkpoints_blocked` where the newest checkpoint did not get to, `payloads` what is kept of inputs, `gpus` and `gpu_owners` how the GPUs in use fare,
    `bytes_free` is of the state directory's disk, `audit_bytes` what the log takes there.
    """

    models: dict[str, ModelCounts] = field(default_factory=dict)
    commits: Commits = field(default_factory=Commits)
    queued: Callable[[], dict[str, int]] = dict
    audit_queue: Callable[[], int] = int
    standings: Callable[[], Iterable[Standing]] = tuple
    calls: Callable[[], int] = int
    calls_refused: Callable[[], int] = int
    certificates: Callable[[], Iterable[Expiring]] = tuple
    checkpoints_blocked: Callable[[], Mapping[str, ApplianceError]] = dict
    payloads: Callable[[], Payloads] = Payloads
    gpus: Callable[[], Iterable["Reading"]] = tuple
    gpu_owners: Callable[[], Iterable["Owner"]] = tuple
    bytes_free: Callable[[], int] = int
    audit_bytes: Callable[[], int] = int

    def model(self, name: str) -> ModelCounts:
        """The counters of a model, made at first use; from any thread."""
        found = self.models.get(name)
        return found if found is not None else self.models.setdefault(name, ModelCounts())
