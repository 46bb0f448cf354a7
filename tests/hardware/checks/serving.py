"""The runtime's whole GPU lane: the real server over the real wire, in front of a stand-in engine of our own kernels."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from appliance.store import Store
from runtime.client import ControlClient
from runtime.gpu import current
from runtime.servable import load_proven
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.outcome import Told
from tests.hardware.checks.version import MODEL, STAMP, made, pictures

ABOUT = "raw pictures over gRPC, recipe, engine and after-steps on the GPU: proven, equal to the CPU, speed, swaps under load"
ROOT = Path(__file__).resolve().parents[3]
EXECUTIONS = "tests.hardware.checks.engine:open_dense"
START_SECONDS_MAX = 60
WARM = 10  # of them the third makes the graph
SERVER = """
import os
import sys

sys.path.insert(0, os.getcwd())
from appliance.config import GpuConfig
from runtime import stale
from runtime.entry import main
from runtime.gpu import current

real = stale.stamp_of
stale.stamp_of = lambda kind: {stamp!r} if kind == "tensorrt" else real(kind)
current.use(GpuConfig(), executions={executions!r}, devices={devices!r})
main()
"""


def check(ground: Ground, told: Told) -> None:
    """Build the version, compare it with the CPU's, then serve it."""
    batch, side, pixels = ground.sized((32, 224, 256), (2, 2, 5))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        state = made(ground, root, batch=batch, side=side, pixels=pixels)
        images = pictures(pixels, batch)
        wanted = _by_processor(state, images)
        bare_rate, bare_p99 = _bare(ground, told, state, images, wanted)
        with _served(ground, root, state) as (address, socket):
            _activate(socket, 1)
            _answers(address, images, wanted)
            _alone(ground, told, address, images, bare_p99)
            _many(ground, told, address, images, bare_rate)
            _swaps(ground, told, address, socket, images)


def _by_processor(state: Path, images: Any) -> dict[str, Any]:
    """What the portable engine and the CPU's kernels answer."""
    from dataclasses import replace

    import msgspec

    stored = Store(state / "store").open(MODEL, 1)
    portable = stored.record.fallback
    assert portable is not None
    record = msgspec.structs.replace(stored.record, engine=portable)
    servable = load_proven(replace(stored, record=record), threads=0)
    try:
        (answer,) = servable.run([{"image": images}])
    finally:
        servable.close()
    assert not isinstance(answer, Exception), answer
    return {"vectors": answer.vectors, **answer.outputs}


def _bare(
    ground: Ground, told: Told, state: Path, images: Any, wanted: dict[str, Any]
) -> tuple[float, float]:
    """The servable without server and wire: proven, equal to the CPU, and its speed.

    Returns pictures a second at the largest batch and the p99 of one picture in seconds.
    """
    from appliance.config import GpuConfig

    settings = GpuConfig(devices=(ground.device,))
    current.use(settings, executions=EXECUTIONS, devices=ground.devices)
    stored = Store(state / "store").open(MODEL, 1)
    try:
        servable = load_proven(stored, threads=0)
        twin = servable.lane()
        (answer,) = servable.run([{"image": images}])
        assert not isinstance(answer, Exception), answer
        for name, array in {"vectors": answer.vectors, **answer.outputs}.items():
            if array.dtype.kind == "f":  # which class is third may hang on a rounding
                np.testing.assert_allclose(array, wanted[name], atol=1e-3, rtol=1e-3, err_msg=name)
        for _ in range(WARM):
            servable.run([{"image": images[:1]}])
        times = [
            _timed(lambda: servable.run([{"image": images[:1]}]))
            for _ in range(ground.sized(600, 10))
        ]
        runs = ground.sized(60, 2)

        def drive(lane: Any, count: int) -> None:
            for _ in range(count):
                (answer,) = lane.run([{"image": images}])
                if isinstance(answer, Exception):
                    raise answer

        for lane in (servable, twin):
            drive(lane, WARM)
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(drive, (servable, twin), (runs, runs)))  # raises what they raised
        rate = 2 * runs * len(images) / (time.perf_counter() - began)
        servable.close()
        twin.close()
    finally:
        current.release()
    told.figure(f"without a server, two lanes: pictures at {len(images)} a batch", rate, "/s")
    told.figure("without a server: one picture, p50", statistics.median(times) * 1e6, "us")
    return rate, _p99(times)


@contextmanager
def _served(ground: Ground, root: Path, state: Path) -> Iterator[tuple[str, Path]]:
    """The runtime; its address and its control socket."""
    config, journal = root / "holdfast.toml", root / "journal"
    config.write_text(
        f'[state]\ndirectory = "{state}"\n[server]\naddress = "127.0.0.1:0"\n'
        f'[metrics]\naddress = "127.0.0.1:0"\n[gpu]\ndevices = ["{ground.device}"]\n'
    )
    code = SERVER.format(stamp=STAMP, executions=EXECUTIONS, devices=ground.devices)
    with journal.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--config", str(config)], stderr=log, cwd=ROOT
        )
    try:
        yield _ready(process, journal), state / "control.sock"
        process.terminate()
        assert process.wait(START_SECONDS_MAX) == 0, journal.read_text()[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ready(process: "subprocess.Popen[bytes]", journal: Path) -> str:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and process.poll() is None:
        for line in journal.read_text().splitlines():
            if line.startswith("{") and '"runtime.ready"' in line:
                return str(json.loads(line)["address"])
        time.sleep(0.05)
    raise AssertionError(f"the runtime is not ready: {journal.read_text()[-2000:]}")


def _activate(socket: Path, number: int) -> None:
    with ControlClient(socket) as control:
        control.decide(MODEL, "activate", number, actor="gpu-check", reason="gpu-check")


def _ask(client: Any, images: Any) -> Any:
    sent = triton.InferInput("image", images.shape, "UINT8")
    sent.set_data_from_numpy(images)
    return client.infer(MODEL, [sent])


def _answers(address: str, images: Any, wanted: dict[str, Any]) -> None:
    """Over the wire as on the CPU."""
    with triton.InferenceServerClient(address) as client:
        reply = _ask(client, images)
    np.testing.assert_allclose(
        reply.as_numpy("probabilities"), wanted["probabilities"], atol=1e-3, rtol=1e-3
    )


def _alone(ground: Ground, told: Told, address: str, images: Any, bare_p99: float) -> None:
    """One caller. The client's own round trip is measured by a call that asks nothing, and taken off."""
    turns = ground.sized(600, 5)
    with triton.InferenceServerClient(address) as client:
        for _ in range(WARM):
            _ask(client, images[:1])
        empty = [_timed(client.is_server_live) for _ in range(turns)]
        times = [_timed(lambda: _ask(client, images[:1])) for _ in range(turns)]
    told.figure("one caller: p50", statistics.median(times) * 1000, "ms")
    told.figure("one caller: p99", _p99(times) * 1000, "ms")
    told.figure("the client's call that asks nothing: p50", statistics.median(empty) * 1000, "ms")
    added = _p99(times) - statistics.median(empty) - bare_p99
    told.goal(
        "one caller: p99 added to bare servable and empty call",
        added * 1000,
        "ms",
        "at most 0.5",
        lambda found: found <= 0.5,
    )


def _many(ground: Ground, told: Told, address: str, images: Any, bare: float) -> None:
    """Callers that send whole batches, each a process of its own."""
    callers, turns = ground.sized((6, 40), (2, 2))
    rows, side = images.shape[:2]
    command = [sys.executable, "-m", "tests.hardware.checks.calling", address, MODEL]
    processes = [
        subprocess.Popen(
            [*command, str(side), str(rows), str(turns)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(callers)
    ]
    try:
        _each_says(processes, "ready")
        began = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        _each_says(processes, "done")
        rate = callers * turns * rows / (time.perf_counter() - began)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    told.figure(f"served: pictures at {rows} a request, {callers} Python callers", rate, "/s")
    told.goal(
        "served against the bare servable",
        rate / bare,
        "",
        "at least 0.95",
        lambda ratio: ratio >= 0.95,
    )


def _each_says(processes: "list[subprocess.Popen[str]]", word: str) -> None:
    for process in processes:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        assert said == word, f"a caller said '{said}', not '{word}'"


def _swaps(ground: Ground, told: Told, address: str, socket: Path, images: Any) -> None:
    """Swaps while callers ask."""
    swaps, failed, answered, over = ground.sized(10, 2), [], [], threading.Event()

    def drive() -> None:
        with triton.InferenceServerClient(address) as client:
            while not over.is_set():
                try:
                    _ask(client, images[:2])
                    answered.append(1)
                except Exception as error:  # noqa: BLE001 - each failed request counts
                    failed.append(str(error))

    threads = [threading.Thread(target=drive) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for swap in range(swaps):
            _activate(socket, 2 - swap % 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed, failed[:3]
    told.figure(f"requests answered during {swaps} swaps, none failed", len(answered), "")


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
