"""Opening a GPU by its number or UUID, through the library that is installed.

Knows: which library is preferred: pycuda, and cuda-bindings where that cannot be imported. Rules: whether there is a
driver was asked before (`appliance.driver`), since a broken one takes down the process that asks. Leaves to others:
the devices (`pycuda_device`, `bindings_device`).
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

from appliance.errors import GpuLost, GpuUnusable
from runtime.gpu.bindings_device import BindingsDevice, bindings
from runtime.gpu.device import Device
from runtime.gpu.driver_calls import driver_calls
from runtime.gpu.pycuda_device import PycudaDevice, pycuda

Library: TypeAlias = Literal["auto", "pycuda", "bindings"]

_LIBRARIES: dict[Library, tuple[Callable[[], object], Callable[[int], Device]]] = {
    "pycuda": (pycuda, PycudaDevice),
    "bindings": (bindings, BindingsDevice),
}


def open_device(device: str = "0", library: Library = "auto") -> Device:
    """The device with this ordinal or UUID ("GPU-...", "MIG-...", or its beginning) among those the process sees.

    Raises GpuUnusable when there is no such device, no library for it, or a driver that fails at once; GpuError when it
    refuses for another reason.
    """
    opened = _chosen(library)
    try:
        return opened(_ordinal(device))
    except GpuLost as error:  # nothing was begun that could be begun anew
        raise GpuUnusable(
            str(error), remedy="run `holdfast doctor`, which looks at the driver"
        ) from error


def _chosen(library: Library) -> Callable[[int], Device]:
    """The device of the first library that can be imported."""
    refused = []
    for name in ("pycuda", "bindings") if library == "auto" else (library,):
        imported, opened = _LIBRARIES[name]
        try:
            imported()
        except ImportError as error:
            refused.append(f"{name}: {error}")
        else:
            return opened
    raise GpuUnusable(
        f"no Python library for the GPU can be used ({'; '.join(refused)})",
        remedy="install the extra `gpu`: pip install 'holdfast[gpu]'",
    )


def _ordinal(device: str) -> int:
    if device.isdecimal():
        return int(device)
    uuids = driver_calls().uuids()
    found = [at for at, uuid in enumerate(uuids) if uuid.startswith(device)]
    if len(found) != 1:
        raise GpuUnusable(
            f"{device} names {len(found) or 'none'} of the GPUs that this process sees: {', '.join(uuids)}",
            remedy="see their names with `holdfast doctor` or `nvidia-smi -L`",
        )
    return found[0]
