"""How the GPUs in use fare, as messages.

Knows: how an owner's standing and a look at its GPU become one. Rules: what is not known is left out. Leaves to
others: knowing it (`runtime.gpu`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from runtime.protocol import control_pb2 as wire

if TYPE_CHECKING:
    from runtime.gpu.standing import Standing
    from runtime.gpu.telemetry import Reading


def gpus_told(owners: "Iterable[Standing]", readings: "Iterable[Reading]") -> list[wire.Gpu]:
    """Each GPU that has an owner, with the newest look at it."""
    looks = {reading.device: reading for reading in readings}
    return [_told(owner, looks.get(owner.device)) for owner in owners]


def _told(owner: "Standing", look: "Reading | None") -> wire.Gpu:
    told = wire.Gpu(
        device=owner.device,
        name=owner.name,
        state=owner.state,
        trouble=owner.trouble or (look.trouble if look else ""),
        restarts=owner.restarts,
        engines=len(owner.engines),
        memory_free_bytes=owner.free_bytes,
        memory_bytes=owner.total_bytes,
    )
    if look is None:
        return told
    if look.memory_bytes is not None and look.memory_used_bytes is not None:
        told.memory_bytes = look.memory_bytes
        told.memory_free_bytes = look.memory_bytes - look.memory_used_bytes
    for name in ("busy", "celsius", "watts", "ecc_uncorrected"):
        if getattr(look, name) is not None:
            setattr(told, name, getattr(look, name))
    told.throttled.extend(look.throttled or ())
    return told
