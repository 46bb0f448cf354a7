"""What keeping payloads costs: on the recorder's thread a request, on the writer's, and at rest.

Run with `python tests/bench/payloads.py DIRECTORY`; it takes under a minute and prints one table. The inputs are
simulated: a table of 16 columns, and camera pictures of 224 x 224 whose pixels shrink as a photo's do.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from appliance.clock import SystemClock
from appliance.config import PayloadsConfig
from appliance.payloads import PayloadReader, PayloadWriter
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.codec import Call
from runtime.payloads import PayloadKeeper

RANDOM = np.random.default_rng(1)
SECONDS = 3.0


def table() -> Array:
    """A row of 16 numbers."""
    return RANDOM.normal(size=(1, 16)).astype(np.float32)


def picture() -> Array:
    """A smooth picture with a little noise, UINT8 (1, 224, 224, 3): 150 KB."""
    across, down = np.meshgrid(np.arange(224), np.arange(224))
    shade = 128 + 90 * np.sin(across / 40 + RANDOM.random() * 9) * np.cos(down / 30)
    noisy = shade[..., None] + RANDOM.normal(scale=2, size=(224, 224, 3))
    return noisy.clip(0, 255).astype(np.uint8)[None]


def answer(number: int, inputs: Array, served: Interface) -> Any:
    """As much of an `Answered` as the keeper looks at."""
    name = served.inputs[0].name
    return SimpleNamespace(
        call=Call(
            model="m", version="", request_id=f"r-{number}", sent_id="", peer="p", outputs=(),
            timeout_us=0, bytes=1,
        ),
        route=SimpleNamespace(reason="active"),
        stored=SimpleNamespace(number=1, manifest=SimpleNamespace(served=served)),
        inputs={name: inputs},
    )  # fmt: skip


def keeping(file: Path, keep: str, made: Callable[[], Array]) -> tuple[float, float, int, int]:
    """Microseconds a request on the recorder's thread, payloads a second to disk, how many, their bytes."""
    sample = [made() for _ in range(64)]
    first = sample[0]
    datatype = DataType.UINT8 if first.dtype == np.uint8 else DataType.FP32
    spec = TensorSpec(name="x", datatype=datatype, shape=first.shape[1:])
    served = Interface(inputs=(spec,), outputs=(spec,), batch_max=1)
    writer = PayloadWriter.open(file)
    config = PayloadsConfig(keep=keep, bytes_max=1 << 40, queue_bytes_max=(1 << 31) - 1)
    keeper = PayloadKeeper(writer, config, SystemClock(), lambda _erased: None)
    number, spent, until = 0, 0.0, time.perf_counter() + SECONDS
    began = time.perf_counter()
    while time.perf_counter() < until:
        asked = answer(number, sample[number % 64], served)
        start = time.perf_counter()
        keeper.answered(asked)
        spent += time.perf_counter() - start
        number += 1
        if number % 512 == 0:
            keeper.erase("nobody").result()
    keeper.erase("nobody").result()
    rate = keeper.kept / (time.perf_counter() - began)
    size, kept = writer.bytes, keeper.kept
    keeper.close()
    return spent / number * 1e6, rate, kept, size


def timed(act: Callable[[], object]) -> float:
    """Milliseconds that `act` takes."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Print the table."""
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        print("inputs      keep    us/request  kept/s    bytes each")
        for name, made in (("table", table), ("picture", picture)):
            for keep in ("digest", "all"):
                file = Path(directory) / f"{name}-{keep}" / "payloads.db"
                cost, rate, kept, size = keeping(file, keep, made)
                each = f"{size / kept:,.0f}" if kept else "-"
                print(f"{name:11} {keep:7} {cost:10.1f} {rate:8.0f} {each:>12}")
        file = Path(directory) / "table-all" / "payloads.db"
        with PayloadReader(file) as reader:
            count = reader.count("m")
            last = f"r-{count - 1}"
            found = reader.newest("m", 1)[0]
            finding = timed(lambda: reader.find(found.sha256))
        writer = PayloadWriter.open(file)
        erasing = timed(lambda: writer.erase(last))
        writer.close()
        print(f"of {count:,} payloads: find {finding:.2f} ms, erase {erasing:.1f} ms")


if __name__ == "__main__":
    main()
