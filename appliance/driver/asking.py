"""Asks NVIDIA's driver what there is, and prints the answer as JSON: run as a program, in a process of its own.

Knows: the few functions of libcuda.so.1 that tell of devices (cuda.h, the driver API). Rules: only the standard
library is imported, so that it starts in milliseconds; a broken driver may crash or hang whoever asks, therefore nobody
else does. Leaves to others: what a failure means (`causes`).
"""

import ctypes
import json
import sys
import uuid
from typing import Any, TypeAlias

Answer: TypeAlias = dict[str, Any]

LIBRARY = "libcuda.so.1"
# CUdevice_attribute of cuda.h.
INTEGRATED, MAJOR, MINOR = 18, 75, 76


class Refusal(Exception):
    """A function that did not succeed: its name and its CUresult."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(step, code)
        self.step, self.code = step, code


def ask() -> Answer:
    """What the driver says; "step" and "code" name the function that failed, "error" why there is no library."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return {"error": str(error)}
    answer: Answer = {"cuda": 0, "gpus": []}
    try:
        version = ctypes.c_int()
        if not library.cuDriverGetVersion(ctypes.byref(version)):
            answer["cuda"] = version.value
        _call(library, "cuInit", 0)
        answer["gpus"] = devices(library)
    except Refusal as refusal:
        name = ctypes.c_char_p()
        if not library.cuGetErrorName(refusal.code, ctypes.byref(name)) and name.value:
            answer["name"] = name.value.decode()
        answer |= {"step": refusal.step, "code": refusal.code}
    except AttributeError as error:
        return {"error": f"{LIBRARY} is no driver: {error}"}
    return answer


def devices(library: ctypes.CDLL) -> list[Answer]:
    """The devices that this process sees, in the driver's order, as `probing.Gpu` has them; after cuInit.

    Raises Refusal.
    """
    count = ctypes.c_int()
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    return [_device(library, index) for index in range(count.value)]


def _device(library: ctypes.CDLL, index: int) -> Answer:
    handle, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGet", ctypes.byref(handle), index)
    _call(library, "cuDeviceGetName", name, len(name), handle)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    whole, own = _uuids(library, handle)
    return {
        "index": index,
        # Under MIG the second form of the question tells of the instance and the first of the GPU it is part of.
        "uuid": f"{'GPU' if own == whole else 'MIG'}-{own}",
        "name": name.value.decode(errors="replace"),
        "capability": [_attribute(library, handle, MAJOR), _attribute(library, handle, MINOR)],
        "memory_bytes": memory.value,
        "mig": own != whole,
        "integrated": bool(_attribute(library, handle, INTEGRATED)),
    }


def _uuids(library: ctypes.CDLL, handle: ctypes.c_int) -> tuple[uuid.UUID, uuid.UUID]:
    """The GPU's, and the device's own."""
    found = []
    for form in ("cuDeviceGetUuid", "cuDeviceGetUuid_v2"):
        if hasattr(library, form):  # a driver has the second one since CUDA 11.4
            held = (ctypes.c_ubyte * 16)()
            _call(library, form, ctypes.byref(held), handle)
            found.append(uuid.UUID(bytes=bytes(held)))
    return found[0], found[-1]


def _attribute(library: ctypes.CDLL, handle: ctypes.c_int, kind: int) -> int:
    value = ctypes.c_int()
    _call(library, "cuDeviceGetAttribute", ctypes.byref(value), kind, handle)
    return value.value


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    code = getattr(library, name)(*arguments)
    if code:
        raise Refusal(name, code)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask()))
