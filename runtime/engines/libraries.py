"""The engine libraries, imported late and kept silent.

Knows: how onnxruntime and openvino report to their makers, and how to stop it before their first line
runs. Rules: nobody else imports them; nothing is imported until an engine is loaded. Leaves to others:
what is done with them.

onnxruntime (Linux wheels from 1.29) looks up a telemetry host and writes a device id below the user's
cache at its first session; only ORT_DISABLE_TELEMETRY in the environment before the import stops it.
`import openvino` sends an event through the package `openvino_telemetry` and writes below ~/intel; with
that package barred it falls back to its own silent stub.
"""

import os
import sys
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# None makes an import raise ModuleNotFoundError (import system reference, "The module cache").
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def onnxruntime() -> Any:
    """The onnxruntime module, its telemetry off."""
    import onnxruntime as library  # noqa: PLC0415 - a third of a second nobody else should pay

    return library


def onnxruntime_kernels() -> list[Any]:
    """Every kernel of onnxruntime: `op_name`, `domain`, `provider`, `type_constraints` by parameter."""
    onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - as above

    kernels: list[Any] = state.get_all_opkernel_def()
    return kernels


def openvino() -> Any:
    """The openvino module, its telemetry off."""
    import openvino as library  # noqa: PLC0415 - as above

    return library


def cores(threads: int) -> int:
    """`threads`, or for 0 one a core that this process may use.

    Both libraries count the machine's cores when left alone and pin threads to them, which is wrong
    in a container or slice.
    """
    return threads or len(os.sched_getaffinity(0))
