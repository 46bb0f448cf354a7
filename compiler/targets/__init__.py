"""What a model can be compiled for on this box.

Knows: the table of targets that every box has, and the one to fall back on. Rules: every target in the table
is tried at a build; TensorRT (`tensorrt`) is tried besides where a build was told of a GPU. Leaves to others: proving (`compiler.proving.proof`) and choosing (`compiler.compiling.choice`).
"""

from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from compiler.targets.target import Target

TARGETS: tuple[Target, ...] = (OnnxRuntimeTarget(), OpenVinoTarget())
FALLBACK: Target = OnnxRuntimeTarget(portable=True)

__all__ = ["FALLBACK", "TARGETS", "Target"]
