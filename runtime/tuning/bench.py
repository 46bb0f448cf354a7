"""One version under one setting after the other.

Knows: what has to be made anew from trial to trial. Rules: lanes are loaded, warmed and proven as in the
server, and kept from one trial to the next while their number and threads stay; a batcher is new for each
trial. Leaves to others: sending (`driving`), the wire (`worker`).
"""

from collections.abc import Callable, Sequence

from appliance.clock import Clock
from appliance.config import BatchingConfig, EngineConfig
from appliance.errors import ApplianceError, EngineLoad
from appliance.store import StoredVersion
from appliance.tensors import Interface
from runtime.batching import Batcher
from runtime.holding import batching_of, engine_of
from runtime.lanes import load_lanes
from runtime.servable import Answer, Inputs, Servable, golden_of
from runtime.trials import over_again, repeated
from runtime.tuning.driving import Drive, Sent
from runtime.tuning.messages import Arrivals, Measured, Order, Trial, nothing

WARM_REQUESTS = 16
FOREVER_NS = 1 << 62


class Kept:
    """A runner that outlives its batcher."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.interface: Interface = servable.interface

    @property
    def resting(self) -> bool:
        """As the servable is."""
        return self._servable.resting

    def run(self, requests: Sequence[Inputs], rows: int) -> list[Answer | ApplianceError]:
        """As the servable does."""
        return self._servable.run(requests, rows)

    def lane(self) -> Servable:
        """A twin to replace this one while it hangs, which its batcher closes."""
        return self._servable.lane()

    def close(self) -> None:
        """Stay loaded: the next trial needs it."""


class Bench:
    """The version of `order`; `load` is `runtime.lanes.load_lanes`."""

    def __init__(
        self,
        order: Order,
        stored: StoredVersion,
        clock: Clock,
        load: Callable[..., Sequence[Servable]] = load_lanes,
    ) -> None:
        self._order, self._stored, self._clock, self._load = order, stored, clock, load
        self._golden = golden_of(stored.directory)
        self._lanes: Sequence[Servable] = ()
        self._loaded_as: tuple[int, int, tuple[int, ...]] | None = None

    def measure(self, trial: Trial, reached: Callable[[int], None]) -> Measured:
        """Measure one setting; what keeps it from being measured is its trouble."""
        config = self._order.config
        batching = batching_of(config.batching, self._stored, trial.tuning)
        engine = engine_of(config, self._stored, trial.tuning)
        try:
            lanes = self._loaded(batching, engine)
        except ApplianceError as error:
            return nothing(str(error))
        sent = {rows: self._sent(lanes[0], rows) for rows in sorted({*trial.arrivals.rows})}
        batcher = Batcher(
            [Kept(lane) for lane in lanes], batching, self._clock, name=self._order.model
        )
        try:
            self._warm(batcher, sent)
            drive = Drive(
                batcher,
                self._clock,
                goal_ns=self._order.goal_ns,
                late_max=trial.late_max,
            )
            return drive.run(trial.arrivals, sent, reached)
        finally:
            batcher.close()

    def close(self) -> None:
        """Free the engine."""
        for lane in self._lanes:
            lane.close()
        self._lanes, self._loaded_as = (), None

    def _loaded(self, batching: BatchingConfig, engine: EngineConfig) -> Sequence[Servable]:
        """The lanes that a setting wants. Raises EngineLoad and what `load_lanes` raises."""
        wanted = (engine.lanes, engine.threads, batching.bucket_rows)
        if wanted != self._loaded_as:
            self.close()  # first: two engines at a time may be more than fits
            try:
                self._lanes = self._load(
                    self._stored,
                    threads=engine.threads,
                    lanes=engine.lanes,
                    sizes=batching.bucket_rows,
                )
            except ApplianceError:
                raise
            except Exception as error:  # a library raises what it likes
                raise EngineLoad(
                    f"the engine failed to load: {error}", remedy="see the message"
                ) from error
            self._loaded_as = wanted
        return self._lanes

    def _sent(self, servable: Servable, rows: int) -> Sent:
        """A request of `rows` rows, golden ones in turn, or of as many as fit."""
        batch_max = servable.interface.batch_max
        if not batch_max:
            inputs = repeated(self._golden.inputs, 1, 0)
            return Sent(inputs, 1, servable.batch_key(inputs))
        fitting = min(rows, batch_max)
        inputs = over_again(self._golden, fitting).inputs
        return Sent(inputs, fitting, servable.batch_key(inputs))

    def _warm(self, batcher: Batcher, sent: dict[int, Sent]) -> None:
        """Let the batcher learn what a request costs, one at a time."""
        one = Arrivals(at_ns=(0,), rows=(min(sent),))
        for _ in range(WARM_REQUESTS):
            Drive(batcher, self._clock, goal_ns=FOREVER_NS, late_max=1).run(one, sent)
