"""Kernels of the checks: a stand-in for an engine, as one element-wise layer and as one dense layer.

Knows: kernels as `runtime.kernels.cuda` writes them. Rules: the same source runs on a GPU and, thread by thread, over the fake. Leaves to
others: launching them (`engine`).
"""

from typing import Any

import numpy as np

from runtime.kernels.cuda import KernelSource, gpu

LAYER, DENSE = "standin_layer", "standin_dense"
FAR = np.int64(1 << 40)  # values behind any allocation


def _layer(  # noqa: PLR0917 - a kernel's parameters have places, not names
    to: Any, source: Any, count: Any, scale: Any, shift: Any, broken_at: Any
) -> None:
    """to = source * scale + shift; where the first value is `broken_at`, an access to nobody's memory."""
    at = gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x
    if at < count:
        if source[0] == broken_at:
            to[FAR + at] = source[at]
        to[at] = source[at] * scale + shift


def _dense(  # noqa: PLR0917 - as above
    to: Any, source: Any, weights: Any, bias: Any, rows: Any, inputs: Any, outputs: Any
) -> None:
    """to[r, o] = bias[o] + sum over i of source[r, i] * weights[i, o], in FP32, in order."""
    at = gpu.blockIdx.x * gpu.blockDim.x + gpu.threadIdx.x
    if at < rows * outputs:
        row, output = at // outputs, at % outputs
        total = bias[output]
        for number in range(inputs):
            total += source[row * inputs + number] * weights[number * outputs + output]
        to[at] = total


layer = KernelSource(
    name=LAYER,
    function=_layer,
    parameters=("float32*", "float32*", "int32", "float32", "float32", "float32"),
)
dense = KernelSource(
    name=DENSE,
    function=_dense,
    parameters=("float32*", "float32*", "float32*", "float32*", "int32", "int32", "int32"),
)
