"""What a model can be compiled for on this box.

Knows: the table of targets. Rules: every target in it is tried at a build. Leaves to others: proving
(`compiler.proving.proof`) and choosing (`compiler.compiling.choice`).
"""

from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from compiler.targets.target import Target

TARGETS: tuple[Target, ...] = (OnnxRuntimeTarget(), OpenVinoTarget())

__all__ = ["TARGETS", "Target"]
