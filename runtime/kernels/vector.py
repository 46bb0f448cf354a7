"""The drift vector: a few numbers a row, kept in the audit record, from which drift is checked later.

Knows: how each part of a layout is computed. Rules: cheap beside the engine; never an exception on NaN or
infinities; the same numbers in compiler and server. Leaves to others: the formulas (`vector_steps`),
which parts a model has (`vector_fit`), counting vectors (`appliance.profiles`).
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from appliance.layout import (
    Floats,
    ImageValues,
    OutputValues,
    Part,
    ScoreValues,
    TableValues,
    VectorLayout,
    floats,
)
from appliance.tensors import Array
from runtime.kernels.vector_steps import ImageKernel, score_kernel

Tensors: TypeAlias = Mapping[str, Array]
Fill: TypeAlias = Callable[[Tensors, Tensors, Floats], None]


class DriftVector:
    """Computes the vectors that `layout` describes; making one compiles its kernels."""

    def __init__(self, layout: VectorLayout) -> None:
        self._batch_axis = layout.batch_axis
        self._width = len(layout.names)
        self._fills: list[Fill] = []
        at = 0
        for part in layout.parts:
            width = sum(1 for _ in part.values())
            self._fills.append(_filler(part, at, width))
            at += width

    def compute(self, prepared: Tensors, outputs: Tensors) -> Floats:
        """One vector a row, float32 (rows, len(layout.names)), row-major.

        prepared: the engine's inputs; outputs: its outputs; both as the engine takes and gives them, of
        any numeric dtype. A value that cannot be computed is NaN or infinite.
        """
        rows = len(next(iter(outputs.values()))) if self._batch_axis else 1
        vectors = np.empty((rows, self._width), np.float32)
        with np.errstate(all="ignore"):
            for fill in self._fills:
                fill(prepared, outputs, vectors)
        return vectors


def _filler(part: Part, at: int, width: int) -> Fill:
    match part:
        case ImageValues():
            return _image_filler(part, at)
        case ScoreValues():
            return _score_filler(part, at)
        case TableValues():
            return _copier(part.input, at, width, of_outputs=False)
        case OutputValues():
            return _copier(part.output, at, width, of_outputs=True)


def _image_filler(part: ImageValues, at: int) -> Fill:
    kernel = ImageKernel(part.order, floats(part.mean), part.component_rows())

    def fill(prepared: Tensors, _: Tensors, vectors: Floats) -> None:
        images = prepared[part.input]
        kernel.fill(images.reshape(len(vectors), *images.shape[-3:]), vectors, at)

    return fill


def _score_filler(part: ScoreValues, at: int) -> Fill:
    kernel = score_kernel()
    logits, classes, probabilities = part.logits, part.classes, part.probabilities

    def fill(_: Tensors, outputs: Tensors, vectors: Floats) -> None:
        scores = np.ascontiguousarray(outputs[part.output], np.float32)
        kernel(scores.reshape(len(vectors), classes), logits, probabilities, vectors, at)

    return fill


def _copier(name: str, at: int, width: int, *, of_outputs: bool) -> Fill:
    def fill(prepared: Tensors, outputs: Tensors, vectors: Floats) -> None:
        tensor = outputs[name] if of_outputs else prepared[name]
        vectors[:, at : at + width] = tensor.reshape(len(vectors), -1)[:, :width]

    return fill
