"""The program of the process that measures: one order on standard input, then trials until it ends.

Knows: the order of its life. Rules: what libraries print goes to standard error, for standard output is the
other end's; it ends with its input, so it never outlives who started it by more than a trial. Leaves to
others: measuring (`bench`), the other end (`process`).
"""

import os
import sys
from collections.abc import Callable

import msgspec

from appliance.clock import SystemClock
from appliance.config import use_kernel_cache
from appliance.errors import ApplianceError
from appliance.store import Store
from runtime.gpu import current
from runtime.holding import present
from runtime.stale import with_fitting_engine
from runtime.tuning.bench import Bench
from runtime.tuning.messages import Failed, Order, Reached, Ready, Reply, Trial


def main() -> None:
    """Carry out what comes on standard input."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0) as pipe:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def tell(reply: Reply) -> None:
            pipe.write(msgspec.json.encode(reply) + b"\n")

        try:
            _measure(msgspec.json.decode(sys.stdin.buffer.readline(), type=Order), tell)
        except ApplianceError as error:
            tell(Failed(message=str(error), remedy=error.remedy))


def _measure(order: Order, tell: Callable[[Reply], None]) -> None:
    use_kernel_cache(order.config.state.kernel_cache)
    current.use(order.config.gpu)
    found = Store(order.config.state.store).open(order.model, order.version)
    stored, _ = with_fitting_engine(found)
    bench = Bench(order, stored, SystemClock())
    now = present(order.config, stored, order.tuning)
    tell(Ready(batch_max=max(stored.manifest.served.batch_max, 1), present=now))
    for line in sys.stdin.buffer:
        trial = msgspec.json.decode(line, type=Trial)
        tell(bench.measure(trial, lambda requests: tell(Reached(requests=requests))))
    bench.close()
    current.release()


if __name__ == "__main__":
    main()
