"""What the objects of `fake_tensorrt` share, and the small ones among them.

Knows: what TensorRT answers when something is wrong: None or False and a logged line, seldom an exception. Rules: what a
test plants (`World`) happens. Leaves to others: whether a call is allowed at all (`fake_tensorrt`), building
(`fake_building`), engines and contexts (`fake_engines`), layers and weights (`fake_layers`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.gpu import fake_types
from tests.gpu.fake_engines import Plan

ITEM_BYTES = {
    "FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1, "UINT8": 1, "FP8": 1,
    "INT4": 0.5, "FP4": 0.5, "E8M0": 1,
}  # fmt: skip


@dataclass(kw_only=True)
class World:
    """What all objects of one fake share; a test may change any of it.

    `refusals`: what the parser says to nodes of an operator. `build_fails`, `run_fails`: what is logged when building
    or running is to fail. `workspace_needed`: bytes below which no tactic is found. `arithmetic`: the type that layers
    are computed in whatever was asked for. `memory` gives the bytes behind a pointer, `enqueue` runs a function when
    the stream comes to it; both as the fake device has them.
    """

    release: str
    version: str
    gpu: str = "Fake GPU"
    capability: tuple[int, int] = (9, 0)
    refusals: dict[str, str] = field(default_factory=dict)
    build_fails: str | None = None
    run_fails: str | None = None
    refit_fails: str | None = None
    workspace_needed: int = 0
    arithmetic: str | None = None
    activation_bytes: int = 1 << 16
    shapes_want: int | None = (
        None  # bytes of activations that a context tells of its shapes, where it is not all
    )
    profile_fails: bool = False
    inference_fails: bool = False
    memory: Callable[[int, int], memoryview] = fake_types.host_memory
    enqueue: Callable[[int, Callable[[], None]], None] = fake_types.at_once
    built: list[Plan] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)  # names of engines and contexts not yet let go
    module: Any = None
    lean: bool = False

    def make(self, name: str, does: object) -> Any:
        """See `FakeTensorRT`."""
        raise NotImplementedError

    def member(self, kind: str, name: str) -> Any:
        """See `FakeTensorRT`."""
        raise NotImplementedError

    def host(self, data: bytes) -> Any:
        """An IHostMemory of these bytes."""
        return self.make("IHostMemory", HostMemory(self, data))

    def log(self, logger: Any, severity: str, text: str) -> None:
        """As the library: through the logger, whose own mistakes are swallowed."""
        logger.log(self.member("ILogger.Severity", severity), text)

    def fail(self, logger: Any, recorder: Any, text: str, code: str = "INTERNAL_ERROR") -> None:
        """An error as the library tells it: to the recorder where there is one, and to the logger."""
        if recorder is not None:
            recorder.report_error(self.member("ErrorCodeTRT", code), text)
        self.log(logger, "ERROR", f"Error Code: {text}")


class Nothing:
    """What the base of a class does that users derive from."""

    def __init__(self, world: World, **given: object) -> None:
        """It keeps nothing."""


class HostMemory:
    """Bytes of the library's; the shown object is a `bytes` for the sake of the buffer protocol."""

    def __init__(self, world: World, data: bytes) -> None:
        self.data, self.nbytes, self.dtype = data, len(data), world.member("DataType", "INT8")


class Logger:
    """The library's own logger, which prints."""

    def __init__(self, world: World, min_severity: Any = None) -> None:
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        """Print it."""
        print(f"[TRT] [{severity.name[0]}] {msg}")


class Dims:
    """Nothing but sizes; most of the time lists are given in its place."""

    def __init__(self, world: World, shape: Any = ()) -> None:
        self.shape = tuple(shape)

    def __getitem__(self, arg0: Any) -> Any:
        return self.shape[arg0]

    def __len__(self) -> int:
        return len(self.shape)

    def __eq__(self, arg0: object) -> bool:
        return self.shape == tuple(arg0)  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]


class Weights:
    """An array, kept as it was given."""

    def __init__(
        self,
        world: World,
        a: Any = None,
        type: Any = None,  # noqa: A002 - the library's name
        ptr: int = 0,
        count: int = 0,
    ) -> None:
        if a is None:
            raise NotImplementedError("the fake's Weights take an array")
        self.array, self.nbytes, self.size, self.dtype = (
            a,
            a.nbytes,
            a.size,
            world.data_type(a.dtype),
        )  # type: ignore[attr-defined]

    def numpy(self) -> Any:
        """The array."""
        return self.array

    def __len__(self) -> int:
        return int(self.size)


def module_get_nv_onnx_parser_version(world: World) -> int:
    """As the module's function."""
    return int(world.version.split(".")[0]) * 10000


def module_nptype(world: World, trt_type: Any) -> Any:
    """As the module's function."""
    return fake_types.NUMPY[trt_type.name]


def module_volume(world: World, iterable: Any) -> int:
    """As the module's function."""
    return int(np.prod(iterable, dtype=np.int64))
