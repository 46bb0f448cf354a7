"""What every target can do: compile a model for this box.

Knows: the Target protocol and what an engine is stamped with. Rules: a target writes one engine file and
nothing else; the stamp names everything that decides whether the file still fits. Leaves to others:
loading the file (`runtime.engines`), proving and choosing.
"""

import hashlib
import platform
from pathlib import Path
from typing import Literal, Protocol

from appliance.errors import EngineBuild
from appliance.files import sha256_file
from appliance.manifest import Precision
from appliance.store import EngineEntry
from appliance.tensors import Interface


class Target(Protocol):
    """Compiles ONNX into one kind of engine."""

    @property
    def kind(self) -> str:
        """The kind of engine it makes, as in the table of `runtime.engines`."""

    def stamp(self) -> dict[str, str]:
        """What an engine compiled now is stamped with; one with another stamp does not fit."""

    def compile(
        self, model: Path, directory: Path, interface: Interface, threads: int
    ) -> EngineEntry:
        """Compile the checked ONNX file `model` into a file in `directory`, for `threads` threads.

        Raises EngineBuild when the library cannot take the model, or would compute it in narrower
        numbers than `interface` promises; StateError when the disk refuses.
        """


def stamp(library: str) -> dict[str, str]:
    """What decides whether an engine of `library` ("name version") still fits: library, CPU, OS."""
    cpu, flags = _processor()
    return {
        "library": library,
        "cpu": cpu,
        "cpu_flags_sha256": hashlib.sha256(flags.encode()).hexdigest(),
        "os": f"{platform.system()} {platform.machine()}",
    }


def engine_entry(
    kind: Literal["onnxruntime", "openvino"],
    path: Path,
    made_with: dict[str, str],
    precision: Precision = Precision.FP32,
) -> EngineEntry:
    """What a version's record says of the engine file `path`."""
    return EngineEntry(
        kind=kind, precision=precision, file=path.name, sha256=sha256_file(path), stamp=made_with
    )


def refused(library: str, error: Exception) -> EngineBuild:
    """The error of a model that `library` does not compile."""
    text = " ".join(str(error).split())
    return EngineBuild(
        f"{library} cannot compile the model: {text[-300:]}",
        remedy="export the model with the operators that the engine supports",
    )


def _processor() -> tuple[str, str]:
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
