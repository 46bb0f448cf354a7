"""Requests that keep coming while a test does something else."""

import threading

import numpy as np
import tritonclient.grpc as triton

IMAGE = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)


def tensor():
    """One image for digits."""
    made = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
    made.set_data_from_numpy(IMAGE)
    return made


class Load:
    """Threads that ask digits while the block runs; `answered` maps request id to version, `failed` has the errors."""

    def __init__(self, address, threads=4, mean_seconds=0.0):
        """Each thread asks as often as it is answered, or on a Poisson schedule; the first error ends it."""
        self.answered: dict[str, int] = {}
        self.failed: list[Exception] = []
        self._stop = threading.Event()
        self._some = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._ask, args=(address, number, mean_seconds))
            for number in range(threads)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more):
        """Wait until `more` further requests have been answered; fails when nobody asks any more."""
        for _ in range(more):
            while not self._some.acquire(timeout=0.1):
                assert any(thread.is_alive() for thread in self._threads), self.failed

    def _ask(self, address, number, mean_seconds):
        random, count = np.random.default_rng(number), 0
        with triton.InferenceServerClient(address) as client:
            while not self._stop.wait(random.exponential(mean_seconds)):
                name, count = f"{number}-{count}", count + 1
                try:
                    reply = client.infer("digits", [tensor()], request_id=name).get_response()
                except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                    self.failed.append(error)
                    return
                self.answered[name] = int(reply.model_version)
                self._some.release()
