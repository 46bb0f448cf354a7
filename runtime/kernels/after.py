"""After the engine: outputs made from its outputs.

Knows: which kernel each step needs and the labels. Rules: all axes but the last are rows; a recipe's
class count is checked against what the engine returned before a kernel runs. Leaves to others: the
arithmetic (`steps`).
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from appliance.errors import EngineError
from appliance.recipe import AfterStep, ArgMax, Softmax, TopK
from appliance.tensors import Array, DataType
from runtime.kernels.compiled import Kernel, compiled, reads, writes
from runtime.kernels.steps import argmax, softmax, top_k

Outputs: TypeAlias = dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedOutput:
    """One kernel and what it adds: output `name` of `width` on the last axis (-1 = as its source).

    `classes` is the length of the source's last axis, -1 when any. With `labels`, an object array of
    UTF-8 bytes, the label texts are added as output `labels_name`.
    """

    source: str
    classes: int
    name: str
    width: int
    dtype: DTypeLike
    kernel: Kernel
    labels_name: str | None = None
    labels: Array | None = None

    def run(self, outputs: Outputs) -> Outputs:
        """The added outputs, from `outputs` by name. Raises EngineError on another class count."""
        scores = np.ascontiguousarray(outputs[self.source], np.float32)
        *lead, classes = scores.shape
        if classes == 0 or self.classes not in (-1, classes):
            raise EngineError(
                f"the engine returned {classes} classes in '{self.source}', "
                f"the recipe expects {self.classes}",
                remedy="build the version again from its bundle",
            )
        made = np.empty((*lead, classes if self.width == -1 else self.width), self.dtype)
        rows = math.prod(lead)
        self.kernel(scores.reshape(rows, classes), made.reshape(rows, made.shape[-1]))
        if self.labels_name is None or self.labels is None:
            return {self.name: made}
        return {self.name: made, self.labels_name: self.labels[made]}


def added_output(step: AfterStep, classes: int, labels: tuple[str, ...]) -> AddedOutput:
    """Compile what `step` needs; `classes` is the last length of its tensor (-1 = any)."""
    match step:
        case Softmax():
            kernel, width, dtype = softmax, -1, DataType.FP32.numpy
        case ArgMax():
            kernel, width, dtype = argmax, 1, DataType.INT64.numpy
        case TopK():  # pragma: no branch
            kernel, width, dtype = top_k, step.k, DataType.INT64.numpy
    named = step.labels if isinstance(step, TopK) else None
    return AddedOutput(
        source=step.tensor,
        classes=classes,
        name=step.output,
        width=width,
        dtype=dtype,
        kernel=compiled(kernel, reads(np.float32, 2), writes(dtype, 2)),
        labels_name=named,
        labels=np.array([text.encode() for text in labels], np.object_) if named else None,
    )
