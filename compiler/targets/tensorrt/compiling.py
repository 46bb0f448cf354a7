"""One typed graph made into an engine file.

Knows: the order: parse, build or refit, read back, compile the recipe's kernels, write. Rules: nothing is written
unless everything before it held; what was done otherwise than asked (a refit that failed, no kernels) is noted in
the file and in the report. Leaves to others: each step.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from appliance.errors import EngineBuild
from appliance.manifest import Manifest, Precision
from appliance.tensors import Interface
from compiler.gpu import TIMINGS_FILE, BoxGpu
from compiler.opening.source import Source
from compiler.progress import Progress
from compiler.targets.tensorrt import STRIPPED
from compiler.targets.tensorrt.building import Timings, built, configured
from compiler.targets.tensorrt.kernels import Kernels, kernels_for
from compiler.targets.tensorrt.network import parsed
from compiler.targets.tensorrt.reading import loaded, read_back, tensors_of
from compiler.targets.tensorrt.refitting import refitted, structure_of
from compiler.targets.tensorrt.shapes import ranges_of
from runtime.gpu.engine_file import write_engine_file
from runtime.gpu.tensorrt_library import created_builder, library


class Order(NamedTuple):
    """What is compiled, on which GPU; `earlier` gives a structure's plan without weights, if there is one."""

    source: Source
    interface: Interface
    precision: Precision
    gpu: BoxGpu
    manifest: Manifest | None
    progress: Progress
    earlier: Callable[[str], bytes | None] | None


class _Plan(NamedTuple):
    """A plan; the same without weights, if such is kept; what is to be told of how it came about."""

    data: bytes
    stripped: bytes = b""
    notes: tuple[str, ...] = ()


def write_engine(order: Order, path: Path) -> None:
    """Compile the order into `path`, leaving timings beside it.

    Raises EngineBuild, GpuUnusable, GpuMemory, GpuLost, RecipeError or StateError.
    """
    trt, gpu, settings = library(), order.gpu, order.gpu.settings
    ranges = ranges_of(order.interface)
    structure = structure_of(order.source, _depends(order)) if settings.refit else ""
    plan = _plan(trt, order, path.parent, structure)
    engine = loaded(trt, gpu, plan.data, host_code=settings.version_compatible)
    try:
        told = read_back(
            engine, plan.data, order.source, order.precision, ranges, tf32=settings.tf32
        )
        tensors = tensors_of(engine)
    finally:
        engine.close()
    kernels = Kernels()
    if order.manifest is not None:
        kernels = kernels_for(path.parent, order.manifest, gpu.capability)
    notes = (*plan.notes, *([kernels.note] if kernels.note else []))
    write_engine_file(
        path,
        plan=plan.data,
        modules=kernels.modules,
        parts={STRIPPED: plan.stripped} if plan.stripped else {},
        kernels=kernels.names,
        edition=kernels.edition,
        stamp=gpu.stamp,
        profiles=({name: tuple(item) for name, item in ranges.items()},),
        version_compatible=settings.version_compatible,
        refittable=bool(plan.stripped),
        structure=structure,
        build=_told_settings(settings),
        inspection=msgspec.to_builtins(msgspec.structs.replace(told, notes=notes)),
        **tensors,
    )


def _plan(trt: Any, order: Order, directory: Path, structure: str) -> _Plan:
    """Built, or with `structure` refitted from an earlier plan or from one built for that."""
    if not structure:
        return _Plan(_built(trt, order, directory))
    host_code = order.gpu.settings.version_compatible
    earlier = order.earlier(structure) if order.earlier else None
    notes: tuple[str, ...] = ()
    if earlier is not None:
        try:
            data = refitted(trt, order.gpu, earlier, order.source, host_code=host_code)
        except EngineBuild as error:
            notes = (f"built anew, since {error}",)
        else:
            return _Plan(data, earlier, ("an earlier plan with new weights",))
    stripped = _built(trt, order, directory)
    data = refitted(trt, order.gpu, stripped, order.source, host_code=host_code)
    return _Plan(data, stripped, notes)


def _built(trt: Any, order: Order, directory: Path) -> bytes:
    gpu, settings = order.gpu, order.gpu.settings
    builder = created_builder(trt, gpu)
    network = parsed(trt, builder, order.source, order.interface)
    config = configured(trt, builder, settings, ranges_of(order.interface))
    before = Path(gpu.timings) if gpu.timings else None
    return built(
        trt,
        builder,
        network,
        config,
        timings=Timings(before, directory / TIMINGS_FILE, settings.timings_bytes_max),
        progress=order.progress,
        nodes=tuple(node.name for node in order.source.model.graph.node),
    )


def _depends(order: Order) -> Mapping[str, object]:
    """What a plan depends on besides its graph."""
    return {
        "stamp": order.gpu.stamp,
        "settings": order.gpu.settings,
        "precision": order.precision,
        "ranges": ranges_of(order.interface),
    }


def _told_settings(settings: msgspec.Struct) -> dict[str, str]:
    return {name: str(value) for name, value in msgspec.structs.asdict(settings).items()}
