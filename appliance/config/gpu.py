"""Settings of GPUs: which, how much of them, how often a broken one is taken up again.

Leaves to others: acting on them (`runtime.gpu`).
"""

from typing import Annotated, Literal

import msgspec

from appliance.config.section import Natural, Seconds, Section

# An index in PCI order, "GPU-" or "MIG-" and a UUID or what a UUID begins with, as `nvidia-smi -L` prints them.
DeviceName = Annotated[
    str, msgspec.Meta(pattern=r"^([0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,90})$", max_length=94)
]


class GpuConfig(Section, frozen=True, kw_only=True):
    """The GPUs of this box. A version for a GPU has `lanes` lanes on each of `devices`.

    `memory_share` is how full a device's memory may be after a version was loaded, whoever fills it. An owner
    that broke more than `restarts_max` times within `restarts_seconds` rests for `rest_seconds` before it is
    started again.
    """

    devices: Annotated[tuple[DeviceName, ...], msgspec.Meta(min_length=1, max_length=16)] = ("0",)
    library: Literal["auto", "pycuda", "bindings"] = "auto"
    memory_share: Annotated[float, msgspec.Meta(ge=0.05, le=1.0)] = 0.9
    lanes: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    graphs: bool = True
    run_seconds_max: Seconds = 30.0
    load_seconds_max: Seconds = 300.0
    restarts_max: Natural = 5
    restarts_seconds: Seconds = 600.0
    rest_seconds: Seconds = 60.0
