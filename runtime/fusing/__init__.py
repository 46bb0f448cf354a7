"""Versions whose recipe a GPU runs too: what is sent goes to the device as it is, and only answers come back.

Knows: when that is done. Rules: the same kernels prove a version and serve it; a part of a recipe that the device
cannot do runs on this processor, before or after, as `runtime.kernels.cuda.splitting` says; kernels of another edition
than the sources here are never launched. Read `division` first (what runs where), then `sheet` (a batch as a program), then
`work` (requests through it). Leaves to others: the kernels (`runtime.kernels.cuda`), running programs
(`runtime.gpu`), the plain way (`runtime.computing`).
"""

from collections.abc import Callable
from typing import TypeAlias

from appliance.clock import Clock
from appliance.errors import EngineLoad
from appliance.layout import VectorLayout
from appliance.manifest import Manifest
from runtime.computing import Work
from runtime.engines import Engine
from runtime.kernels.chain import Chain

__all__ = ["Fuse", "fusing"]

# Makes the work of a version whose recipe the GPU runs too, for each of its lanes.
Fuse: TypeAlias = Callable[[Engine, Clock], Work]


def fusing(engine: Engine, manifest: Manifest, layout: VectorLayout, chain: Chain) -> Fuse | None:
    """How each lane of `engine` becomes a work that runs on the GPU as a whole; None where it is to run plainly.

    That is so for engines of other kinds, for those whose inputs have bounds, which this processor checks, for those
    with an output called as an input, and where the engine's file has no kernels. Raises EngineLoad when its kernels are of another edition.
    """
    if engine.kind != "tensorrt":
        return None
    # Late, as a box without a GPU needs none of it.
    from runtime.engines.tensorrt import TensorRTEngine  # noqa: PLC0415

    if not isinstance(engine, TensorRTEngine) or not engine.header.kernels:
        return None
    if {spec.name for spec in manifest.engine.inputs} & {s.name for s in manifest.engine.outputs}:
        return None
    from runtime.fusing.division import Division  # noqa: PLC0415
    from runtime.fusing.work import Fused  # noqa: PLC0415
    from runtime.kernels.cuda.toolchain import edition  # noqa: PLC0415

    division = Division(manifest, layout)
    missing = sorted(division.kernels - {*engine.header.kernels})
    if missing or engine.header.edition != edition():
        raise EngineLoad(
            f"the engine's kernels are of edition {engine.header.edition}, this release's of {edition()}"
            + (f"; it lacks {missing}" if missing else ""),
            remedy="run `holdfast-compile refresh`, or build the bundle again on this box",
        )

    def made(lane: Engine, clock: Clock) -> Work:
        assert isinstance(lane, TensorRTEngine)
        return Fused(division, chain, lane, clock)

    return made
