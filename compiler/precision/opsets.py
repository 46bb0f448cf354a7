"""The version of the standard operators that a graph is written in, and writing it in a later one.

Knows: the converter of `onnx`. Rules: only upwards, and only where a type asks for it. Leaves to others:
which version a type asks for (`typed`, `quantised`).
"""

import onnx
from onnx import version_converter

from appliance.errors import EngineBuild
from compiler.opening.source import opset_of
from runtime.engines.loading import library_text

STANDARD = ("", "ai.onnx")


def at_least(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in `opset`, or itself when it is in that or a later one. Raises EngineBuild."""
    if (opset_of(model) or 1) >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # RuntimeError and pybind's own share no base class
        raise EngineBuild(
            f"the model cannot be written in opset {opset}: {library_text(error)}",
            remedy=f"export it with opset {opset} or later, or use another precision",
        ) from error
