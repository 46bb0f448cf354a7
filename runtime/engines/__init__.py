"""The engines that serve, and how one is loaded from its file.

Knows: the table of engine kinds. Rules: a file is loaded by the kind its version record names, never by
looking at its bytes. Leaves to others: digests (`appliance.store` checks them first) and building
(`compiler.targets`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.errors import EngineLoad
from appliance.manifest import Precision
from appliance.tensors import Interface
from runtime.engines.bounded import Bounded
from runtime.engines.engine import Engine
from runtime.engines.libraries import cores
from runtime.engines.onnxruntime_cpu import OnnxRuntimeEngine, PortableEngine
from runtime.engines.openvino_cpu import OpenVinoEngine
from runtime.engines.stamp import stamp_of


def _tensorrt(*arguments: Any) -> Engine:
    from runtime.engines.tensorrt import TensorRTEngine  # noqa: PLC0415 - only a box with a GPU pays for it

    return TensorRTEngine.load(*arguments)


ENGINES: dict[str, Callable[[Path, Interface, int, Precision, int], Engine]] = {
    OnnxRuntimeEngine.kind: OnnxRuntimeEngine.load,
    PortableEngine.kind: PortableEngine.load,
    OpenVinoEngine.kind: OpenVinoEngine.load,
    "tensorrt": _tensorrt,
}

__all__ = ["ENGINES", "Engine", "load_engine", "stamp_of"]


def load_engine(
    kind: str,
    path: Path,
    *,
    interface: Interface,
    threads: int,
    precision: Precision,
    bounds: Mapping[str, tuple[int, int]] | None = None,
    lanes: int = 1,
) -> Engine:
    """Load the engine file at `path`, of `kind` and `precision`, for as many `lanes` at a time.

    Each runs on `threads` threads; with 0 they share the cores. `bounds` are those of integer inputs,
    lowest and highest value by name; others are refused. Raises EngineLoad when the kind is unknown here,
    or the file is missing, damaged, made for another machine or library version, or does not have
    `interface`.
    """
    load = ENGINES.get(kind)
    if load is None:
        raise EngineLoad(
            f"this release has no engine of kind '{kind}'",
            remedy=f"build the bundle again for one of {', '.join(sorted(ENGINES))}",
        )
    engine = load(path, interface, threads or max(cores(0) // lanes, 1), precision, lanes)
    return Bounded(engine, bounds) if bounds else engine
