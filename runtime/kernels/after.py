"""After the engine: answers made of its outputs.

Knows: what each step needs to run. Rules: an array has rows in front when the interface is batched; all axes
but those that a step works on are rows to it; a recipe's class count is checked against what the engine
returned before a kernel runs. Leaves to others: boxes (`boxes`), the arithmetic (`output_steps`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from appliance.errors import EngineError
from appliance.recipe import (
    AfterStep,
    ArgMax,
    BoxStep,
    Drop,
    Labels,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
)
from appliance.tensors import Array, TensorSpec
from runtime.kernels.boxes import box_maker
from runtime.kernels.compiled import Kernel, compiled, reads, writes
from runtime.kernels.output_steps import argmax, sigmoid, softmax, top_k
from runtime.kernels.scratch import floats_of

Outputs: TypeAlias = Mapping[str, Array]
Texts: TypeAlias = Array  # object array of UTF-8 bytes, one a label, then an empty one


class Maker(Protocol):
    """What a step does to a batch's outputs."""

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:
        """All outputs after the step; `placed` as `Chain.before` filled it.

        Raises EngineError when the engine returned another shape than its interface says.
        """


def maker(step: AfterStep, outputs: Sequence[TensorSpec], labels: tuple[str, ...]) -> Maker:
    """Compile what `step` needs, whose `outputs` so far are these."""
    specs = {spec.name: spec for spec in outputs}
    texts = np.array([*(text.encode() for text in labels), b""], np.object_)
    match step:
        case Drop():
            return Dropped(set(step.tensors))
        case Labels():
            return Named(step.tensor, step.output, texts)
        case Threshold():
            return Compared(step, texts)
        case Softmax():
            return Scored(step.tensor, specs, step.output, -1, _kernel(softmax, np.float32))
        case Sigmoid():
            return Squashed(step)
        case ArgMax():
            return Chosen(step, specs, 1, _kernel(argmax, np.int64), texts)
        case TopK():
            return Chosen(step, specs, step.k, _kernel(top_k, np.int64), texts)
        case _:
            boxes: BoxStep = step
            return box_maker(boxes, specs)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Outputs left out of the answers."""

    names: set[str]

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """All outputs but those."""
        return {name: array for name, array in outputs.items() if name not in self.names}


@dataclass(frozen=True, slots=True)
class Named:
    """The label of each index."""

    source: str
    output: str
    texts: Texts

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the texts."""
        return {**outputs, self.output: label_texts(self.texts, outputs[self.source])}


def label_texts(texts: Texts, indices: Array) -> Array:
    """The text of each index, an empty one for an index that has none; shaped as `indices`."""
    count = len(texts) - 1
    known = (indices >= 0) & (indices < count)
    return np.asarray(texts[np.where(known, indices, count).astype(np.int64)], np.object_)


class Compared:
    """Values at or above a threshold."""

    def __init__(self, step: Threshold, texts: Texts) -> None:
        self._step, self._texts = step, texts
        self._at = np.float32(step.at)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs, the comparison and the texts that the step names."""
        made = np.asarray(floats_of(outputs[self._step.tensor]) >= self._at)
        # ascontiguousarray gives a scalar an axis; the answer has the shape of what it was made of.
        answers = {**outputs, self._step.output: made.reshape(outputs[self._step.tensor].shape)}
        if self._step.labels is None:
            return answers
        empty = len(self._texts) - 1
        is_of_two = made.shape[-1] == 1 and empty == 2
        chosen = made.astype(np.int64) if is_of_two else np.where(made, np.arange(empty), empty)
        return {**answers, self._step.labels: self._texts[chosen]}


class Squashed:
    """Each value through the sigmoid."""

    def __init__(self, step: Sigmoid) -> None:
        self._step = step
        self._kernel = _kernel(sigmoid, np.float32)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the probabilities."""
        given = outputs[self._step.tensor]
        made = np.empty(given.shape, np.float32)
        self._kernel(floats_of(given).reshape(1, given.size), made.reshape(1, given.size))
        return {**outputs, self._step.output: made}


class Scored:
    """Rows of scores through a kernel: output `output` of `width` on the last axis (-1 = as its source)."""

    def __init__(
        self, source: str, specs: Mapping[str, TensorSpec], output: str, width: int, kernel: Kernel
    ) -> None:
        self._source, self._output, self._width, self._kernel = source, output, width, kernel
        self._classes = specs[source].shape[-1]

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and the one added."""
        return {**outputs, self._output: self.made(outputs, np.float32)}

    def made(self, outputs: Outputs, dtype: Any) -> Array:
        """The output added, of `dtype`, which the kernel writes."""
        scores = floats_of(outputs[self._source])
        *lead, classes = scores.shape
        if classes == 0 or self._classes not in (-1, classes):
            raise EngineError(
                f"the engine returned {classes} classes in '{self._source}', "
                f"the recipe expects {self._classes}",
                remedy="build the version again from its bundle",
            )
        made = np.empty((*lead, classes if self._width == -1 else self._width), dtype)
        rows = math.prod(lead)
        self._kernel(scores.reshape(rows, classes), made.reshape(rows, made.shape[-1]))
        return made


class Chosen:
    """The best classes, with their scores and labels where the step names them."""

    def __init__(
        self,
        step: ArgMax | TopK,
        specs: Mapping[str, TensorSpec],
        width: int,
        kernel: Kernel,
        texts: Texts,
    ) -> None:
        self._step, self._texts = step, texts
        self._scored = Scored(step.tensor, specs, step.output, width, kernel)

    def run(self, outputs: Outputs, placed: Outputs) -> dict[str, Array]:  # noqa: ARG002
        """The outputs and those added."""
        step = self._step
        indices = self._scored.made(outputs, np.int64)
        answers = {**outputs, step.output: indices}
        if isinstance(step, TopK) and step.scores is not None:
            answers[step.scores] = np.take_along_axis(
                floats_of(outputs[step.tensor]), indices, axis=-1
            )
        if step.labels is not None:
            answers[step.labels] = self._texts[indices]
        return answers


def _kernel(kernel: Kernel, made: Any) -> Kernel:
    return compiled(kernel, reads(np.float32, 2), writes(made, 2))
