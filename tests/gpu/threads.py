"""Running kernels of `runtime.kernels.cuda` without a GPU, over numpy arrays.

Two ways, with the same call: here in plain Python, every thread of a block one after another, or as threads of their own
where the kernel waits for others; or, with NUMBA_ENABLE_CUDASIM=1 in the environment, numba's CUDA simulator. The tests of the
kernels run here; `simulated` runs each of them in the simulator too.
"""

import math
import os
import threading
from collections.abc import Callable, Mapping
from itertools import product
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from runtime.gpu.program import Launch, Layout, Long, Place, Single, Whole
from runtime.kernels.cuda import KernelSource, Part
from runtime.kernels.cuda.binding import bound

NUMBERS = {Whole: "int32", Long: "int64", Single: "float32"}
Size3 = tuple[int, int, int]
Runner = Callable[[list[Launch], np.ndarray, bytes], None]


def is_simulated() -> bool:
    """Whether numba's simulator runs the kernels."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def run(source: KernelSource, grid: Size3, block: Size3, arguments: list[Any]) -> None:
    """Run a kernel; `arguments` are 1-D arrays for pointers, numbers for numbers."""
    assert len(arguments) == len(source.parameters)
    taken = [_taken(p, a) for p, a in zip(source.parameters, arguments, strict=True)]
    if is_simulated():
        from numba import cuda
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        function = bound(source, cuda, cuda.jit(device=True))
        # Plain arrays would be copied in and back, each over what overlaps it.
        lent = [FakeCUDAArray(each) if isinstance(each, np.ndarray) else each for each in taken]
        with np.errstate(all="ignore"):
            cuda.jit(function)[grid, block](*lent)
        return
    device = Threads(block, grid)
    function = bound(source, device, lambda callee: callee)
    waits = _asks(function, "syncthreads")
    for at in product(*(range(n) for n in reversed(grid))):
        device.begin_block(tuple(reversed(at)))
        threads = [tuple(reversed(t)) for t in product(*(range(n) for n in reversed(block)))]
        if waits:
            _together(device, function, threads, taken)
        else:
            for thread in threads:
                device.begin_thread(thread)
                with np.errstate(all="ignore"):
                    function(*taken)


def run_launches(
    sources: tuple[KernelSource, ...], launches: list[Launch], arena: np.ndarray, constants: bytes
) -> None:
    """Run launches over an `arena` of bytes (uint8) and a program's constants."""
    by_name = {source.name: source for source in sources}
    spaces = {"arena": arena, "constants": np.frombuffer(constants + bytes(64), np.uint8)}
    for launch in launches:
        source = by_name[launch.kernel]
        arguments: list[Any] = []
        for parameter, argument in zip(source.parameters, launch.arguments, strict=True):
            match argument:
                case Place(space=space, offset=offset):
                    dtype = np.dtype(parameter.removesuffix("*"))
                    rest = spaces[space][offset:]
                    arguments.append(
                        rest[: len(rest) // dtype.itemsize * dtype.itemsize].view(dtype)
                    )
                case Whole(value) | Long(value) | Single(value):
                    # The device takes as many bytes as the parameter has, whatever it is given.
                    assert NUMBERS[type(argument)] == parameter, f"{argument} for {parameter}"
                    arguments.append(value)
        run(source, launch.grid, launch.block, arguments)


class Threads:
    """What a kernel asks of the device: `threadIdx` and the like, shared arrays, barriers, atomic adds."""

    def __init__(self, block: Size3, grid: Size3) -> None:
        self.blockDim, self.gridDim = _xyz(block), _xyz(grid)
        self._own = threading.local()
        self._lock = threading.Lock()
        self.shared = SimpleNamespace(array=self._shared)
        self.atomic = SimpleNamespace(add=self._add, max=self._max, min=self._min)
        self.barrier: threading.Barrier | None = None

    def begin_block(self, at: tuple[int, ...]) -> None:
        self.blockIdx = _xyz(at)
        self._arrays: list[np.ndarray] = []

    def begin_thread(self, at: tuple[int, ...]) -> None:
        self._own.at, self._own.arrays = _xyz(at), 0

    @property
    def threadIdx(self) -> SimpleNamespace:
        at: SimpleNamespace = self._own.at
        return at

    def grid(self, axes: int) -> Any:
        places = [
            getattr(self.blockIdx, a) * getattr(self.blockDim, a) + getattr(self.threadIdx, a)
            for a in "xyz"[:axes]
        ]
        return places[0] if axes == 1 else tuple(places)

    def syncthreads(self) -> None:
        assert self.barrier is not None
        self.barrier.wait()

    def _shared(self, length: int, dtype: Any) -> np.ndarray:
        with self._lock:
            number, self._own.arrays = self._own.arrays, self._own.arrays + 1
            if number == len(self._arrays):
                # What lies in shared memory at first is anything; a kernel that trusts it must fail.
                self._arrays.append(
                    np.frombuffer(os.urandom(length * np.dtype(dtype).itemsize), dtype).copy()
                )
            return self._arrays[number]

    def _add(self, array: np.ndarray, at: int, value: Any) -> Any:
        with self._lock:
            old = array[at]
            array[at] += value
            return old

    def _max(self, array: np.ndarray, at: int, value: Any) -> Any:
        with self._lock:
            old = array[at]
            array[at] = max(old, value)
            return old

    def _min(self, array: np.ndarray, at: int, value: Any) -> Any:
        with self._lock:
            old = array[at]
            array[at] = min(old, value)
            return old


def _together(
    device: Threads, function: FunctionType, threads: list[tuple[int, ...]], taken: list[Any]
) -> None:
    """Run a block's threads beside each other; one that fails breaks the barrier for all."""
    device.barrier = threading.Barrier(len(threads))
    failures: list[BaseException] = []

    def live(at: tuple[int, ...]) -> None:
        device.begin_thread(at)
        try:
            with np.errstate(all="ignore"):
                function(*taken)
        except threading.BrokenBarrierError:
            pass
        except Exception as cause:  # noqa: BLE001  raised again by the caller
            failures.append(cause)
            device.barrier.abort()

    running = [threading.Thread(target=live, args=(at,)) for at in threads]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]


def _asks(function: Any, name: str) -> bool:
    """Whether a function, or one that it calls, uses the attribute `name`."""
    code = function.__code__
    if name in code.co_names:
        return True
    callees = [function.__globals__[g] for g in code.co_names if g in function.__globals__]
    callees += [cell.cell_contents for cell in function.__closure__ or ()]
    return any(_asks(callee, name) for callee in callees if isinstance(callee, FunctionType))


def _taken(parameter: str, argument: Any) -> Any:
    if parameter.endswith("*"):
        assert (argument.ndim, argument.dtype) == (1, np.dtype(parameter.removesuffix("*"))), (
            parameter
        )
        # A bool is a byte to a kernel.
        return argument.view(np.uint8) if argument.dtype == np.bool_ else argument
    return np.float32(argument) if parameter == "float32" else int(argument)


def _xyz(at: tuple[int, ...]) -> SimpleNamespace:
    return SimpleNamespace(x=at[0], y=at[1], z=at[2])


def run_part(
    part: Part, given: Mapping[str, np.ndarray], runner: Runner | None = None
) -> dict[str, np.ndarray]:
    """What `part` makes of tensors with rows in front, over an arena that holds anything at first.

    `runner` takes launches, arena and constants, and runs them in another way.
    """
    shapes = {name: given[name].shape for name in part.reads}
    made = part.made(shapes)
    room, places = Layout(), {}
    sizes = {name: given[name].nbytes for name in part.reads}
    sizes |= {
        name: math.prod(shape) * np.dtype(dtype).itemsize for name, (shape, dtype) in made.items()
    }
    for name, size in sizes.items():
        places[name] = Place(space="arena", offset=room.take(size))
    scratch_at = Place(space="arena", offset=room.take(part.scratch(shapes)))
    arena = np.random.default_rng(0).integers(0, 256, room.size + 256, np.uint8)
    for name in part.reads:
        at = places[name].offset
        arena[at : at + sizes[name]] = np.ascontiguousarray(given[name]).view(np.uint8).ravel()
    constants_at = Place(space="constants", offset=256)
    constants = bytes(256) + part.constants(shapes)
    launches = part.launches(shapes, places, constants_at, scratch_at)
    if runner is None:
        run_launches(part.kernels(), launches, arena, constants)
    else:
        runner(launches, arena, constants)
    return {
        name: arena[places[name].offset :][: sizes[name]].view(dtype).reshape(shape).copy()
        for name, (shape, dtype) in made.items()
    }
