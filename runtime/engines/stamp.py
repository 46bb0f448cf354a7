"""What decides whether an engine file still fits this box.

Knows: what each kind of engine depends on: its library's version, the processor and its features, the
system; a portable one on the system alone. Rules: told without importing a library, so that whoever only
compares stamps pays nothing; two stamps fit when they are equal, and none is empty. Leaves to others: what
is done with one that does not fit, engines for a GPU (`gpu_stamp`).
"""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from appliance.errors import EngineLoad
from runtime.gpu import current

PORTABLE: Final = "onnxruntime-portable"  # the kind to fall back on
GPU: Final = "tensorrt"
LIBRARIES = {
    "onnxruntime": "onnxruntime",
    PORTABLE: "onnxruntime",
    "openvino": "openvino",
}  # distribution, by kind of engine for a CPU
KINDS = (*LIBRARIES, GPU)


def stamp_of(kind: str) -> dict[str, str]:
    """What an engine of `kind` compiled here and now is stamped with.

    Raises EngineLoad when this release has no such kind, its library is not installed, or there is no GPU for it.
    Of a GPU it is told only where processes may be started.
    """
    if kind == GPU:
        from runtime.engines.gpu_stamp import gpu_stamp  # noqa: PLC0415 - only a box with a GPU pays for it

        return gpu_stamp(current.settings().devices[0])
    try:
        library = f"{LIBRARIES[kind]} {version(LIBRARIES[kind])}"
    except (KeyError, PackageNotFoundError) as error:
        raise EngineLoad(
            f"there is no engine of kind '{kind}' here",
            remedy=f"build the bundle again for one of {', '.join(sorted(LIBRARIES))}",
        ) from error
    system = {"os": f"{platform.system()} {platform.machine()}"}
    if kind == PORTABLE:
        return system
    cpu, flags = processor()
    return system | {
        "library": library,
        "cpu": cpu,
        "cpu_flags_sha256": hashlib.sha256(flags.encode()).hexdigest(),
    }


def processor() -> tuple[str, str]:
    """Name and sorted feature flags of the first processor in /proc/cpuinfo (Linux, x86 and ARM)."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        text = ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), " ".join(sorted(flags.split()))
