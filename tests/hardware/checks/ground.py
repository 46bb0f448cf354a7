"""What the checks stand on: a GPU, or for trying the checks themselves the fake of one.

Knows: which device, how its kernels are made and how it is opened. Rules: over the fake everything is small and no goal counts. Leaves to
others: what is checked.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from appliance.config import GpuConfig
from appliance.driver import Gpu, probe
from appliance.errors import GpuUnusable
from runtime.gpu.device import Device
from runtime.gpu.engine_file import Compiled
from runtime.gpu.opened import Lane
from runtime.gpu.owner import Owner
from runtime.gpu.process import environment
from runtime.gpu.program import CopyIn, CopyOut, Execute, Place, Program
from runtime.kernels.cuda import KernelSource
from tests.gpu.fake_kernels import sources_image
from tests.gpu.standin import Plan, write_standin
from tests.hardware.checks.kernels import layer
from tests.hardware.checks.outcome import NotRun

T = TypeVar("T")
LAYERS = "tests.gpu.standin:open_execution"
BROKEN = 666.0


class Ground:
    """The device `device`, an index or a UUID; `fake` is for trying the checks."""

    def __init__(self, device: str, *, fake: bool) -> None:
        self.device, self.fake = device, fake
        self.devices = "tests.gpu.fakes:open_fake" if fake else "runtime.gpu.opening:open_device"
        self._gpu: Gpu | None = None
        self._environment: dict[str, str] | None = None

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of the device."""
        if self.fake:
            return (9, 0)
        if self._gpu is None:
            self._gpu = probe(self.device).gpu(self.device)
        return self._gpu.capability

    def sized(self, full: T, small: T) -> T:
        """`full` on a GPU, `small` on the fake."""
        return small if self.fake else full

    def compiled(
        self, sources: Iterable[KernelSource]
    ) -> tuple[tuple[Compiled, ...], tuple[str, ...]]:
        """Kernels of `sources` for this device, and their names. Raises NotRun without the toolchain."""
        named = {source.name: source for source in sources}
        if self.fake:
            return (Compiled("ptx", (1, 0), sources_image(named.values())),), tuple(named)
        from runtime.kernels.cuda.toolchain import compile_kernels

        # numba-cuda 0.30 asks for a name that numpy has had no more since 2.5.
        vars(np).setdefault("row_stack", np.vstack)
        try:
            module = compile_kernels([*named.values()], capability=self.capability)
        except (GpuUnusable, AttributeError, OSError) as error:
            if type(error.__cause__).__name__ == "nvJitLinkError":
                raise  # it was there, and refused what we wrote
            why = f"the kernels cannot be compiled here: {error}"
            needs = "numba-cuda, NVVM and NVRTC 13.0, and nvidia-nvjitlink 13"
            raise NotRun(f"{why}; needs {needs}") from error
        return (Compiled("cubin", self.capability, module.cubin),), module.names

    def open(self, library: str = "auto") -> Device:
        """The device itself, for this process."""
        if self.fake:
            from tests.gpu.fakes import open_fake

            return open_fake()
        import os

        from runtime.gpu.opening import open_device

        if self._environment is None:
            assert self.capability  # asked before this process sees one device only
            self._environment = environment(os.environ, self.device)
            os.environ.update(self._environment)
        return open_device("0", library)  # type: ignore[arg-type]

    @contextmanager
    def owner(self, executions: str = LAYERS, **settings: Any) -> Iterator[Owner]:
        """Its owner's process."""
        told = GpuConfig(**settings)
        owner = Owner(self.device, executions=executions, devices=self.devices, settings=told)
        try:
            yield owner
        finally:
            owner.close()

    def standin(self, path: Path, width: int, layers: int, **told: Any) -> Path:
        """An engine file of the element-wise stand-in: each layer doubles and adds one."""
        (module,), _ = self.compiled([layer])
        plan = Plan(
            image=module.image,
            width=width,
            layers=((2.0, 1.0),) * layers,
            rows_max=1 << 20,
            broken_at=BROKEN,
            **told,
        )
        write_standin(path, plan)
        return path


def batch(rows: int, width: int) -> Program:
    """A batch of the stand-in: in, through, out."""
    size = rows * width * 4
    out = -(-size // 256) * 256
    steps = (
        CopyIn(slot=0, to=Place(space="arena", offset=0), size=size),
        Execute(
            shapes={"x": (rows, width)},
            inputs={"x": Place(space="arena", offset=0)},
            outputs={"y": Place(space="arena", offset=out)},
        ),
        CopyOut(source=Place(space="arena", offset=out), slot=out, size=size),
    )
    return Program(steps=steps, slot_bytes=out + size, arena_bytes=out + size)


def views(lane: Lane, rows: int, width: int) -> tuple[Any, Any]:
    """Input and output of such a batch in the lane's slot."""
    out = -(-rows * width * 4 // 256) * 256
    shape = (rows, width)
    return np.ndarray(shape, np.float32, lane.slot), np.ndarray(shape, np.float32, lane.slot, out)


def through(x: Any, layers: int) -> Any:
    """What the stand-in makes of `x`, in FP32."""
    for _ in range(layers):
        x = x * np.float32(2) + np.float32(1)
    return x
