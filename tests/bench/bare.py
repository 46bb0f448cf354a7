"""The ceiling: an engine alone, on prepared rows, in processes of its own that wait between windows.

Knows: how a stored version's engine is loaded and called. Rules: one thread at one row, and both cores at
whatever uses them best: one engine on all threads, or one engine on one thread for each core, at the best
number of rows, found before the rounds. Leaves to others: what is served of it.

Run as a program it is one such process: arguments store, model, threads; a line "rows seconds" on its
standard input is answered by rows a second.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from states import ROOT

PROBE_SECONDS = 0.4


class Bare:
    """The engine of one model, alone: `one_thread`, `one_row` and `both_cores` give rows a second."""

    def __init__(self, store: Path, model: str, batches: tuple[int, ...]) -> None:
        cores = os.cpu_count() or 1
        self._single = [Engine(store, model, threads=1) for _ in range(cores)]
        self._wide = [Engine(store, model, threads=0)]
        self._batches = batches
        self.best = ""
        self._engines, self._rows = self._wide, 1

    def probe(self, seconds: float = PROBE_SECONDS) -> None:
        """Find what uses all cores best. `best` tells it in words."""
        found = {}
        for rows in self._batches:
            found[rows, False] = together(self._wide, rows, seconds)
            found[rows, True] = together(self._single, rows, seconds)
        self._rows, apart = max(found, key=lambda setting: found[setting])
        self._engines = self._single if apart else self._wide
        engines = (
            f"{len(self._single)} engines of one thread" if apart else "one engine on all threads"
        )
        self.best = f"{engines}, {self._rows} rows a call"

    def one_thread(self, seconds: float) -> float:
        """One engine, one thread, one row a call."""
        return together(self._single[:1], 1, seconds)

    def one_row(self, seconds: float) -> float:
        """One engine on all threads, one row a call: what a lone caller can hope for."""
        return together(self._wide, 1, seconds)

    def both_cores(self, seconds: float) -> float:
        """What `probe` found."""
        return together(self._engines, self._rows, seconds)

    def close(self) -> None:
        """End the processes."""
        for engine in (*self._single, *self._wide):
            engine.close()


class Engine:
    """One process with one engine."""

    def __init__(self, store: Path, model: str, *, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(store), model, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit(f"the bare engine of {model} did not start")

    def begin(self, rows: int, seconds: float) -> None:
        """Start one window."""
        self._process.stdin.write(f"{rows} {seconds}\n")
        self._process.stdin.flush()

    def rate(self) -> float:
        """Wait for the window's end: rows a second."""
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def together(engines: list[Engine], rows: int, seconds: float) -> float:
    """The engines at once: rows a second of all."""
    for engine in engines:
        engine.begin(rows, seconds)
    return sum(engine.rate() for engine in engines)


def main(store: str, model: str, threads: str) -> None:
    """Load the engine and answer windows until the input ends."""
    sys.path.insert(0, str(ROOT))
    from appliance.store import Store
    from runtime.engines import load_engine

    stored = Store(Path(store)).describe(model, 1)
    entry, interface = stored.record.engine, stored.manifest.engine
    engine = load_engine(
        entry.kind, stored.directory / entry.file, precision=entry.precision, interface=interface,
        threads=int(threads),
    )  # fmt: skip
    random = np.random.default_rng(1)
    print("ready", flush=True)
    for line in sys.stdin:
        rows, seconds = int(line.split()[0]), float(line.split()[1])
        inputs = {
            spec.name: random.normal(size=(rows, *spec.shape)).astype(spec.datatype.numpy)
            for spec in interface.inputs
        }
        engine.run(inputs)
        calls, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            engine.run(inputs)
            calls += 1
        print(calls * rows / took, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
