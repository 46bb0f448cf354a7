"""TensorRT's Python bindings, imported late, its one logger, and its words as errors of ours.

Knows: under which names the bindings come, what of them 10.3 to 11.x have in common, and their traps: one logger a
process, which must outlive everything; without a driver a Runtime, Builder or Refitter is made and then crashes the
process, so that each is made only against something that a driver answered for (`OnGpu`); flags and enumerations are
renumbered between releases, so no number of theirs is ever kept. Rules: nobody else imports them. Leaves to others: what
TensorRT calls back (`tensorrt_callbacks`), building (`compiler`), running (`execution`).

Import order: `tensorrt` (NVIDIA's complete package, or JetPack's), `tensorrt_bindings` (bindings over libraries of apt or
a tar), `tensorrt_lean` and `tensorrt_lean_bindings` (they run plans and build none).
"""

import ctypes
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from appliance.errors import EngineError, GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu.tensorrt_callbacks import (
    Allocator,
    Recorder,
    new_allocator,
    new_monitor,
    new_recorder,
    new_writer,
)

__all__ = [
    "Allocator",
    "Heard",
    "Log",
    "OnGpu",
    "Recorder",
    "builds",
    "created_builder",
    "created_refitter",
    "created_runtime",
    "failure",
    "library",
    "log_of",
    "new_allocator",
    "new_monitor",
    "new_recorder",
    "new_writer",
    "nodes_in",
    "serialized",
]

NAMES = ("tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_lean_bindings")
OLDEST = (10, 3)
BELOW = (12,)
_LINES_KEPT = 500  # of errors, and of warnings: the first, for what follows on an error tells less
_TEXT_CHARACTERS_MAX = 600
_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|FAILED_ALLOCATION|insufficient memory", re.IGNORECASE
)
_LOST = re.compile(  # the runtime's words for what breaks a context: see `failures`
    r"illegal memory access|illegal address|unspecified launch failure|device-side assert|misaligned address"
    r"|illegal instruction|hardware stack error|invalid program counter|launch timed out|global/shared address space"
    r"|uncorrectable (?:ECC|NVLink) error",
    re.IGNORECASE,
)


class OnGpu(Protocol):
    """What only a driver that works can have told of: a device that is open, or one that the probe found."""

    @property
    def name(self) -> str:
        """What the driver calls the GPU."""


class Heard:
    """What TensorRT said while somebody listened: `errors` and `warnings`, in order, each once.

    A build says thousands of other lines, which are not kept: they would push out what matters.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def take(self, severity: str, text: str) -> None:
        """A line: "INTERNAL_ERROR", "ERROR", "WARNING", "INFO" or "VERBOSE", and its text."""
        if severity.endswith("ERROR"):
            _keep(self.errors, text)
        elif severity == "WARNING":
            _keep(self.warnings, text)


def _keep(texts: list[str], text: str) -> None:
    if len(texts) < _LINES_KEPT and text not in texts:
        texts.append(text)


class Log:
    """The process's one logger of TensorRT, and who listens to it. Any thread.

    Threads that listen hear each their own lines; those of TensorRT's own threads all of them hear.
    """

    def __init__(self) -> None:
        self.logger: Any = None  # what TensorRT is given
        self._listeners: list[tuple[int, Heard]] = []  # by thread
        self._lock = threading.Lock()

    @contextmanager
    def heard(self) -> Iterator[Heard]:
        """What is logged inside, but for what other threads that listen have logged."""
        listener = threading.get_ident(), Heard()
        with self._lock:
            self._listeners.append(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def said(self, severity: str, text: str) -> None:
        """Pass a line on."""
        with self._lock:
            own = [heard for thread, heard in self._listeners if thread == threading.get_ident()]
            for heard in own or [heard for _, heard in self._listeners]:
                heard.take(severity, text)


def library() -> Any:
    """The bindings' module. Raises GpuUnusable when none is installed, or none of a release that this one knows."""
    failures = []
    for load in (_complete, _bindings, _lean, _lean_bindings):
        try:
            module = load()
        except ModuleNotFoundError as error:
            if error.name not in NAMES:  # it is there, but something that it needs is not
                failures.append(str(error))
        except (ImportError, OSError) as error:
            failures.append(str(error))
        else:
            return _known(module)
    if failures:
        raise GpuUnusable(
            f"TensorRT cannot be imported: {'; '.join(failures)}",
            remedy="install the libraries that fit the bindings, such as libnvinfer10 or tensorrt-cu13; see docs/gpu.md",
        )
    raise GpuUnusable(
        "TensorRT is not installed",
        remedy="install the extra 'gpu', or on Jetson JetPack's TensorRT; see docs/gpu.md",
    )


def _complete() -> Any:
    import tensorrt as module  # noqa: PLC0415 - large, and only a box with a GPU has it

    return module


def _bindings() -> Any:
    import tensorrt_bindings as module  # noqa: PLC0415 - as above

    return module


def _lean() -> Any:
    import tensorrt_lean as module  # noqa: PLC0415 - as above

    return module


def _lean_bindings() -> Any:
    import tensorrt_lean_bindings as module  # noqa: PLC0415 - as above

    return module


def _known(module: Any) -> Any:
    """`module`, if it is of a release that we know. Raises GpuUnusable."""
    release = tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])
    if OLDEST <= release < BELOW:
        return module
    raise GpuUnusable(
        f"TensorRT {module.__version__} is not one of those that this release runs with",
        remedy="install TensorRT 10.3 or later, below 12",
    )


def builds(trt: Any) -> bool:
    """Whether these bindings build engines; the lean ones only run them."""
    return hasattr(trt, "Builder")


def serialized(trt: Any, builder: Any, network: Any, config: Any) -> bytearray | memoryview | None:
    """Build, and give the plan's bytes; None when TensorRT logged why there are none.

    A builder of 10.13 or later hands them over piece by piece, so that a large plan lies in memory once.
    """
    if not hasattr(trt.Builder, "build_serialized_network_to_stream"):
        built = builder.build_serialized_network(network, config)
        return None if built is None else memoryview(built).cast("B")
    plan = bytearray()
    writer = new_writer(trt, plan.extend)
    whole = builder.build_serialized_network_to_stream(network, config, writer)
    if writer.error is not None:
        raise writer.error
    return plan if whole and plan else None


_logs: dict[int, tuple[Any, Log]] = {}
_logs_lock = threading.Lock()


def log_of(trt: Any) -> Log:
    """The one logger for `trt`, made at the first call and kept for ever: TensorRT keeps the first that it is given."""
    with _logs_lock:
        if id(trt) not in _logs:
            log = Log()
            log.logger = _new_logger(trt, log)
            _logs[id(trt)] = (trt, log)
        return _logs[id(trt)][1]


def _new_logger(trt: Any, log: Log) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """TensorRT's lines, to whoever listens."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            log.said(severity.name, msg)

    return Logger()


def created_runtime(trt: Any, gpu: OnGpu) -> Any:
    """A Runtime. Raises GpuError when TensorRT gives none."""
    return _created(trt, gpu, "Runtime")


def created_builder(trt: Any, gpu: OnGpu) -> Any:
    """A Builder. Raises GpuUnusable with bindings that build none, GpuError when TensorRT gives none."""
    if not builds(trt):
        raise GpuUnusable(
            "TensorRT's lean runtime builds no engines",
            remedy="build where the complete TensorRT is installed, or install it here",
        )
    return _created(trt, gpu, "Builder")


def created_refitter(trt: Any, engine: Any, gpu: OnGpu) -> Any:
    """A Refitter of `engine`, which was built to be refitted. Raises GpuError when TensorRT gives none."""
    return _created(trt, gpu, "Refitter", engine)


def _created(trt: Any, gpu: OnGpu, kind: str, *arguments: Any) -> Any:
    assert gpu.name, "a driver has answered for this GPU"
    log = log_of(trt)
    with log.heard() as heard:
        try:
            made = getattr(trt, kind)(*arguments, log.logger)
        except TypeError as error:  # what pybind11 makes of a null pointer
            raise failure(f"TensorRT makes no {kind} ({error})", heard) from error
    if heard.errors:
        # CUDA did not start after all. What TensorRT then makes crashes the process when it goes, at its exit at the
        # latest (seen with 11.4): so it never goes.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
        raise failure(f"TensorRT makes no {kind} that works", heard)
    return made


def failure(
    what: str,
    heard: Heard,
    *,
    kind: type[EngineError] = GpuError,
    recorder: Recorder | None = None,
    allocator: Allocator | None = None,
    nodes: Iterable[str] = (),
    remedy: str = "see the message; `holdfast doctor` checks the GPU, its driver and TensorRT",
) -> EngineError:
    """The error for `what` went wrong, in TensorRT's own words.

    An allocation that failed is GpuMemory and a broken context GpuLost, whatever `kind` is asked for.
    `nodes` are the names of the ONNX model's nodes: those that the words speak of are named in front.
    """
    if allocator is not None and isinstance(allocator.error, (GpuMemory, GpuLost)):
        return allocator.error
    recorded = [description for _, description in recorder.recorded] if recorder else []
    words = "; ".join(dict.fromkeys(" ".join(text.split()) for text in (*heard.errors, *recorded)))
    named = nodes_in(words, nodes)
    at = f", at node {', '.join(repr(name) for name in named)}" if named else ""
    shown = words if len(words) <= _TEXT_CHARACTERS_MAX else f"{words[:_TEXT_CHARACTERS_MAX]}..."
    message = f"{what}{at}: {shown or 'TensorRT gave no reason'}"
    if _LOST.search(words):
        return GpuLost(
            message, remedy="the GPU's owner is started again; see the journal if it happens twice"
        )
    if _OUT_OF_MEMORY.search(words):
        return GpuMemory(message, remedy="unload a version, or lower batch_max or the workspace")
    return kind(message, remedy=remedy)


def nodes_in(text: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that `text` speaks of, longest first, none that is only a part of a longer name."""
    found: list[str] = []
    for name in sorted(filter(None, names), key=len, reverse=True):
        pattern = rf"(?<![\w/.]){re.escape(name)}(?![\w/]|\.\w)"
        if re.search(pattern, text):
            found.append(name)
    return found
