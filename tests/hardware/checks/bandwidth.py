"""How much of the memory's bandwidth the preprocessing kernels use, against plain copies and what else is here."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.gpu.device import Address, Device, Scalar
from runtime.gpu.program import Argument, CopyOut, Launch, Place, scalar_of
from tests.gpu.image_cases import CASES, on_processor
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.outcome import Told
from tests.hardware.checks.parts import LAST, Case, laid, noise, resized

ABOUT = "bytes of pictures and results a second of the image kernels, as a share of a copy's in the device"
# In one graph, so that the time is the GPU's and not Python's, which launches more slowly than small kernels run.
REPEATS = 20
TURNS = 7
WARM_SECONDS = 0.3  # an idle GPU takes a while to raise its clocks
PICTURES_BYTES = 256 << 20  # well beyond any L2 cache
TORCH = "720p to 224, Pillow's bilinear"


def check(ground: Ground, told: Told) -> None:
    """Time copies, then each case, on one stream between two events."""
    device = ground.open()
    bench = Bench(device, *ground.sized((REPEATS, TURNS, WARM_SECONDS), (1, 1, 0.0)))
    pictures_bytes = min(PICTURES_BYTES, device.room().free // 8)  # results and scratch are larger
    peak = bench.copies(ground.sized(pictures_bytes, 1 << 16))
    told.figure("copies in the device, read and written", peak, "GB/s")
    side = ground.sized(224, 4)
    theirs = (resized("bilinear", "pillow", side, side), *LAST)
    rate = 0.0
    for name, (shape, steps) in {**CASES, TORCH: ((720, 1280, 3), theirs)}.items():
        small = ground.sized(shape, (8, 8, 3))
        rows = max(ground.sized(pictures_bytes, 1) // int(np.prod(small)), 1)
        case = Case(name, noise(np.uint8, rows, *small), ground.sized(steps, LAST))
        moved, seconds = bench.part(ground, case)
        share = moved / seconds / 1e9 / peak
        rate = rows / seconds
        told.figure(f"{name}: pictures", rate, "/s")
        told.goal(f"{name}: share", share, "", "at least 0.7", lambda found: found >= 0.7)
    device.close()
    try:
        _against_torch(told, rate, ground.sized(pictures_bytes, 1 << 16), side)
    except ImportError:
        told.note("torch is not here: nothing to compare with")
    except Exception as error:  # noqa: BLE001 - what is wrong with torch is no fault of ours
        told.note(f"torch could not be compared with: {type(error).__name__}: {error}")


class Bench:
    """Timings on one stream."""

    def __init__(self, device: Device, repeats: int, turns: int, warm_seconds: float) -> None:
        self._device, self._repeats = device, repeats
        self._turns, self._warm_seconds = turns, warm_seconds
        self._stream = device.stream()
        self._marks = device.event(), device.event()

    def seconds(self, work: Callable[[], None]) -> float:
        """Seconds of one `work` on the GPU: the median of graphs of many, once the GPU is warm."""
        work()
        self._device.synchronise(self._stream)
        with self._device.captured(self._stream) as capture:
            for _ in range(self._repeats):
                work()
        until = time.monotonic() + self._warm_seconds
        while time.monotonic() < until:
            self._once(capture.graph)
        times = [self._once(capture.graph) for _ in range(self._turns)]
        self._device.drop_graph(capture.graph)
        return max(statistics.median(times) / self._repeats, 1e-9)

    def copies(self, size: int) -> float:
        """GB/s of copies within the device, what is read and what is written both counted."""
        one, two = self._device.allocate(size), self._device.allocate(size)
        seconds = self.seconds(lambda: self._device.copy(two, one, size, self._stream))
        for pointer in (one, two):
            self._device.free(pointer)
        return 2 * size / seconds / 1e9

    def part(self, ground: Ground, case: Case) -> tuple[int, float]:
        """Bytes that a part must move, and the seconds that it takes; its first result is held to the CPU's."""
        device, placed = self._device, laid(case)
        (module, *_), _ = ground.compiled(case.part.kernels())
        loaded, program = device.load(module.image), placed.program
        arena = device.allocate(program.arena_bytes)
        constants = device.allocate(max(len(program.constants), 1))
        if program.constants:
            self._put(constants, np.frombuffer(program.constants, np.uint8).copy())
        self._put(arena, case.raw)
        launches = [step for step in program.steps if isinstance(step, Launch)]
        functions = {launch.kernel: device.function(loaded, launch.kernel) for launch in launches}

        def scalar(argument: Argument) -> Scalar:
            if isinstance(argument, Place):
                base = arena if argument.space == "arena" else constants
                return Address(base + argument.offset)
            return scalar_of(argument)

        calls = [
            (
                functions[launch.kernel],
                launch.grid,
                launch.block,
                tuple(map(scalar, launch.arguments)),
            )
            for launch in launches
        ]

        def work() -> None:
            for call in calls:
                device.launch(*call, self._stream)

        seconds = self.seconds(work)
        (out,) = (step for step in program.steps if isinstance(step, CopyOut))
        found: Any = np.empty((1, *placed.shape[1:]), placed.dtype)
        device.copy_out(
            int(found.ctypes.data), arena + out.source.offset, found.nbytes, self._stream
        )
        device.synchronise(self._stream)
        wanted, _ = on_processor(case.raw[:1], case.steps)
        assert np.array_equal(found, wanted), f"{case.name}: not what the CPU makes of it"
        for pointer in (arena, constants):
            device.free(pointer)
        device.unload(loaded)
        return case.part.moved({"image": case.raw.shape}), seconds

    def _once(self, graph: int) -> float:
        self._device.record(self._marks[0], self._stream)
        self._device.replay(graph, self._stream)
        self._device.record(self._marks[1], self._stream)
        self._device.synchronise(self._stream)
        return self._device.elapsed_ms(*self._marks) / 1000

    def _put(self, to: int, data: Any) -> None:
        self._device.copy_in(to, int(data.ctypes.data), data.nbytes, self._stream)
        self._device.synchronise(self._stream)


def _against_torch(told: Told, ours: float, size: int, side: int) -> None:
    """The case TORCH by torch, of pictures as clients send them to what the engine is given; `ours` is pictures a second."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    if not torch.cuda.is_available():
        told.note("torch sees no GPU: nothing to compare with")
        return
    rows = max(size // (720 * 1280 * 3), 1)
    raw = torch.randint(0, 256, (rows, 720, 1280, 3), dtype=torch.uint8, device="cuda")
    mean, std = (
        torch.tensor(values, device="cuda").view(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def turn() -> float:
        begin.record()
        for _ in range(REPEATS):
            planes = raw.permute(0, 3, 1, 2).float()
            small = torch.nn.functional.interpolate(
                planes, (side, side), mode="bilinear", antialias=True
            )
            (small / 255 - mean) / std
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    until = time.monotonic() + WARM_SECONDS
    while time.monotonic() < until:
        turn()
    seconds = statistics.median(turn() for _ in range(TURNS)) / REPEATS
    told.figure(f"{TORCH}, by torch {torch.__version__}: pictures", rows / seconds, "/s")
    told.figure("ours against torch's", ours / (rows / seconds), "")
