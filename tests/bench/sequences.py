"""What a sequence costs beside a request of none, in process: submit to answer, over a runner that does nothing.

Run: python tests/bench/sequences.py
"""

import statistics
import threading
import time
from functools import partial

import numpy as np

from appliance.clock import SystemClock
from appliance.config import BatchingConfig, SequencesConfig
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.batching import Batcher
from runtime.codec import Sequence
from runtime.router import Route
from runtime.sequences import Sequences
from runtime.servable import Answer

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(1,))
ROW = {"x": np.zeros((1, 1), np.float32)}
ROUNDS, REQUESTS = 7, 5000


class Nothing:
    """A runner whose answer is always the same."""

    interface = Interface(inputs=(X,), outputs=(X,), batch_max=32)
    resting = False
    answer = Answer(outputs=ROW, vectors=ROW["x"], states=ROW)

    def run(self, requests, rows):
        return [self.answer] * len(requests)

    def lane(self):
        return Nothing()

    def close(self):
        pass


class Held:
    """A version that is never let go of."""

    def hold_again(self):
        return True

    def release(self):
        pass


def released(told: threading.Semaphore, outcome: object) -> None:
    """Let the caller go on."""
    told.release()


def main() -> None:
    """Print medians over the rounds, in microseconds."""
    batcher = Batcher([Nothing()], BatchingConfig(), SystemClock(), name="nothing")
    sequences = Sequences(batcher, SequencesConfig(), SystemClock(), model="nothing", state_bytes=4)
    gathered: list[Batcher] = []

    def plain(then, number):
        batcher.submit(ROW, 1, then, key=1, gather=gathered.append)

    def stepped(then, number):
        sequences.submit(
            ROW,
            1,
            then,
            sequence=Sequence(5, number == 0, False),
            name="",
            version=Held(),
            route=Route(1, "active"),
            key=1,
            gather=gathered.append,
        )

    for name, submit in (("no sequence", plain), ("a sequence", stepped)):
        took = []
        told = threading.Semaphore(0)
        then = partial(released, told)
        for _ in range(ROUNDS):
            began = time.perf_counter_ns()
            for number in range(REQUESTS):
                submit(then, number)
                while gathered:
                    gathered.pop().run_gathered()
                told.acquire()
            took.append((time.perf_counter_ns() - began) / REQUESTS / 1000)
        print(f"{name}: {statistics.median(took):.1f} us a request")
    batcher.close()


if __name__ == "__main__":
    main()
