"""The stand-in's kernels for the fake of a GPU, and modules of recipe kernels for it."""

from collections.abc import Sequence
from typing import Any

from tests.gpu.fake_kernels import Launched, module_image, sources_image
from tests.gpu.standin import LAYER, Plan

__all__ = ["fake_plan", "layer", "sources_image"]


def layer(launched: Launched) -> None:
    """out = scale * in + shift; an illegal access when the first value is `broken_at`."""
    count = int(launched.number(2))
    to, source = launched.array(0, "f4", count), launched.array(1, "f4", count)
    if source[0] == launched.number(5):
        launched.device.memory(16, 4)
    to[:] = source * launched.number(3) + launched.number(4)


def fake_plan(
    width: int = 4, layers: Sequence[tuple[float, float]] = ((2.0, 1.0),), **told: Any
) -> Plan:
    """A plan for the fake."""
    image = module_image({LAYER: "tests.gpu.standin_kernels:layer"})
    return Plan(image=image, width=width, layers=tuple(layers), **told)
