"""What the loading of every engine has in common: does the file fit, and how is a failure told.

Knows: the checks and the wording. Rules: an engine whose tensors are not the version's is never used.
Leaves to others: the libraries (`onnxruntime_cpu`, `openvino_cpu`).
"""

from collections.abc import Mapping
from pathlib import Path

from appliance.errors import EngineError, EngineLoad
from appliance.tensors import DataType, TensorSpec

_TEXT_CHARACTERS_MAX = 400


def check_tensors(
    wanted: tuple[TensorSpec, ...], found: Mapping[str, DataType | None], *, count: int
) -> None:
    """Raise EngineLoad when the engine does not have exactly the tensors `wanted`."""
    same = all(found.get(spec.name) is spec.datatype for spec in wanted)
    if not same or count != len(wanted):
        raise EngineLoad(
            f"the engine has {dict(found)}, "
            f"the version says { {spec.name: spec.datatype for spec in wanted} }",
            remedy="build the bundle again: this engine belongs to another model",
        )


def existing(path: Path) -> Path:
    """`path`, if there is a file. Raises EngineLoad."""
    if not path.is_file():
        raise EngineLoad(f"no engine file {path}", remedy="build the bundle again")
    return path


def unloadable(path: Path, library: str, error: Exception) -> EngineLoad:
    """The error of a file that its library does not load."""
    return EngineLoad(
        f"{library} cannot load {path}: {library_text(error)}",
        remedy="build the bundle again on this box; an engine fits only what it was built on",
    )


def failed(library: str, error: Exception) -> EngineError:
    """The error of a run that failed."""
    return EngineError(
        f"{library} failed: {library_text(error)}",
        remedy="check the request's values and shapes against the model's metadata",
    )


def library_text(error: Exception) -> str:
    """What a library says, without the place in its own source that ONNX Runtime puts in front."""
    text = " ".join(str(error).split())
    _, _, told = text.rpartition("&) ")
    told = told or text
    return told if len(told) <= _TEXT_CHARACTERS_MAX else f"{told[:_TEXT_CHARACTERS_MAX]}..."
