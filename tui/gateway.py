"""The only room of the console and its commands that talks to a runtime.

Knows: how replies become snapshots, and how often the store is worth listing. Rules: `look` never
raises, an unreachable runtime is a state and not a crash; after a failed look the connection is made
anew, so that the console finds a restarted runtime by itself. Leaves to others: threads (`tui.app` calls
from a worker), showing.
"""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Protocol, Self

from appliance.clock import Clock, SystemClock
from appliance.deployment import act_name
from appliance.errors import ApplianceError, Unreachable
from runtime.client import ControlClient
from runtime.protocol import control_pb2 as wire
from tui.history import History
from tui.preview import Order
from tui.replies import box_from_wire, model_from_wire
from tui.snapshot import Link, ModelLine, Snapshot, unreachable

# A listing makes the runtime read every version's description, so it is not asked for at every tick.
LIST_SECONDS = 5.0


class Gateway(Protocol):
    """What the console needs from the other side; calls block and may come from any thread."""

    def look(self) -> Snapshot:
        """Look once; never raises ApplianceError."""

    def decide(self, order: Order) -> tuple[str, ModelLine]:
        """Carry out `order`; returns the decision's id and the model after it."""

    def close(self) -> None:
        """End the connection; a call in flight ends with an error."""


class RuntimeGateway:
    """Talks to the runtime behind a Unix socket; a context manager."""

    def __init__(self, socket: Path, clock: Clock | None = None) -> None:
        self._socket = socket
        self._clock = clock or SystemClock()
        self._client = ControlClient(socket)
        self._deciding: ControlClient | None = None
        self._history = History()
        self._listed: tuple[int, list[wire.Model]] | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a call in flight ends with an error."""
        self._client.close()
        if self._deciding is not None:
            self._deciding.close()

    def look(self) -> Snapshot:
        """Look once; a runtime that does not answer gives a snapshot that says so."""
        try:
            return self.observe()
        except Unreachable as error:
            self._reconnect()
            return unreachable(error)
        except ApplianceError as error:
            return unreachable(error)

    def observe(self) -> Snapshot:
        """Look once. Raises Unreachable when no runtime answers, else the runtime's own error."""
        with self._lock:
            status = self._client.status()
            self._history.add(status)
            models = [
                model_from_wire(model, self._history.traffic(model.name))
                for model in self._models(status)
            ]
        return Snapshot(
            link=Link.DRAINING if status.draining else Link.SERVING,
            box=box_from_wire(status),
            models=tuple(models),
        )

    def models(self, name: str = "") -> list[ModelLine]:
        """All models, or the one called `name`, without traffic. Raises UnknownModel, Unreachable."""
        return [model_from_wire(model) for model in self._client.list(name)]

    def decide(self, order: Order) -> tuple[str, ModelLine]:
        """Carry out `order`; returns the decision's id and the model after it.

        Raises DecisionError, UnknownModel, UnknownVersion, Unreachable, or what kept the version from
        loading.
        """
        # A connection of its own: `look` may give up on the other one while a version is loading.
        with ControlClient(self._socket) as self._deciding:
            reply = self._deciding.decide(
                order.model,
                act_name(order.act),
                order.version,
                per_mille=order.per_mille,
                tuning=order.tuning,
                actor=order.actor,
                reason=order.reason,
            )
        self._listed = None
        return reply.decision_id, model_from_wire(reply.model)

    def _models(self, status: wire.StatusReply) -> list[wire.Model]:
        """The models with their versions, listed anew when due or when `status` contradicts them."""
        now, known = self._clock.monotonic_ns(), self._listed
        fresh = known is not None and now - known[0] < LIST_SECONDS * 1e9
        if known is not None and fresh and _roles(status.models) <= _roles(known[1]):
            return known[1]
        self._listed = (now, self._client.list())
        return self._listed[1]

    def _reconnect(self) -> None:
        self._client.close()
        self._client = ControlClient(self._socket)
        self._listed = None


def _roles(
    models: Iterable[wire.Model] | Iterable[wire.ModelStatus],
) -> set[tuple[str, int, int, int, int, int]]:
    return {
        (
            model.name,
            model.active,
            model.previous,
            model.canary,
            model.canary_per_mille,
            model.shadow,
        )
        for model in models
    }
