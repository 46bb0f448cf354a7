"""Parts of scores on the device, and casts of what is sent.

Knows: which kernel a step needs and over what grid. Rules: as `runtime.kernels.after`: all axes but the last are rows; a recipe's
class count is checked against what the engine returned before a program is made. Leaves to others: the arithmetic
(`score_kernels`), which steps run on the device (`splitting`), texts (the CPU).

Equal to the CPU's steps: argmax, top-k, thresholds and casts to the bit; softmax within 3 units in the last place, or 2**-148
where that is more; sigmoid within 1.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from appliance.errors import EngineError
from appliance.recipe import ArgMax, Labels, ScoreStep, Sigmoid, Softmax, Threshold, TopK
from appliance.tensors import DataType, TensorSpec
from runtime.gpu.program import Argument, Launch, Place, Single, Whole
from runtime.kernels.cuda import Parameter, Part, Shape
from runtime.kernels.cuda import score_kernels as kernels
from runtime.kernels.cuda.launching import (
    Plain,
    over_rows,
    over_values,
    pointer_to,
    source_of,
)
from runtime.kernels.cuda.reducing import THREADS

TOP_MOST: Final = 32  # classes that top-k finds on the device: it reads a row once for each


class OfRows(Plain):
    """One block a row of classes: the class count, then the width of what is made if it is not one of both."""

    def __init__(
        self,
        source: TensorSpec,
        step: Softmax | ArgMax | TopK,
        *,
        threads: int = THREADS,
    ) -> None:
        """`threads` is a power of two."""
        makes: tuple[str, ...] = (step.output,)
        function: Callable[..., None]
        parameters: tuple[Parameter, ...]
        self._width = -1
        self._dtypes: tuple[str, ...] = ("float32",)
        self._numbers: tuple[Argument, ...] = ()
        match step:
            case Softmax():
                function, parameters = kernels.softmax, ("float32*", "int32")
            case ArgMax():
                function, parameters = kernels.argmax, ("int64*", "int32")
                self._width, self._dtypes = 1, ("int64",)
            case TopK():  # pragma: no branch
                makes = (step.output,) if step.scores is None else (step.output, step.scores)
                function, parameters = kernels.top_k, ("int64*", "float32*", "int32", "int32")
                self._width, self._dtypes = step.k, ("int64", "float32")
                self._numbers = (Whole(step.k),)
        super().__init__((source.name,), makes)
        self._classes, self._threads = source.shape[-1], threads
        self._source = source_of(function, (pointer_to(source), *parameters), {"THREADS": threads})

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The shape read, on the last axis as long as the step says. Raises EngineError as `Part.made`."""
        shape = shapes[self.reads[0]]
        if shape[-1] == 0 or self._classes not in (-1, shape[-1]):
            raise EngineError(
                f"the engine returned {shape[-1]} classes in '{self.reads[0]}', "
                f"the recipe expects {self._classes}",
                remedy="build the version again from its bundle",
            )
        width = shape[-1] if self._width == -1 else self._width
        shape = (*shape[:-1], width)
        return {name: (shape, dtype) for name, dtype in zip(self.makes, self._dtypes, strict=False)}

    def scratch(self, shapes: Mapping[str, Shape]) -> int:
        """What the kernel makes and nobody wants: the scores of the best classes."""
        unwanted = len(self._dtypes) - len(self.makes)
        return 4 * unwanted * math.prod(shapes[self.reads[0]][:-1]) * self._width

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,
    ) -> list[Launch]:
        """One block a row. Raises EngineError as `Part.made`."""
        self.made(shapes)
        *lead, classes = shapes[self.reads[0]]
        made = [places[name] for name in self.makes]
        made += [scratch_at] * (len(self._dtypes) - len(made))
        numbers = (Whole(classes), *self._numbers)
        rows, read = math.prod(lead), places[self.reads[0]]
        return over_rows(self._source, rows, self._threads, read, *made, *numbers)


class OfValues(Plain):
    """One thread a value, which makes one of the same shape: sigmoid, threshold, cast."""

    def __init__(
        self,
        source: TensorSpec,
        output: str,
        function: Callable[..., None],
        dtype: str,
        at: float | None = None,
    ) -> None:
        """`dtype` is that of what is made; `at` is the kernel's one number, if it takes one."""
        pointer: Any = f"{dtype}*"
        parameters: tuple[Parameter, ...] = (pointer, "int64")
        self._numbers: tuple[Argument, ...] = ()
        if at is not None:
            parameters, self._numbers = (*parameters, "float32"), (Single(float(np.float32(at))),)
        super().__init__((source.name,), (output,))
        self._source, self._dtype = source_of(function, (pointer_to(source), *parameters)), dtype

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The shape read."""
        return {self.makes[0]: (shapes[self.reads[0]], self._dtype)}

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,  # noqa: ARG002
        scratch_at: Place,  # noqa: ARG002
    ) -> list[Launch]:
        """One thread a value."""
        count = math.prod(shapes[self.reads[0]])
        read, made = places[self.reads[0]], places[self.makes[0]]
        return over_values(self._source, count, read, made, numbers=self._numbers)


def score_part(step: ScoreStep, source: TensorSpec) -> Part:
    """The part of `step` on `source`; texts are left to the CPU."""
    match step:
        case Sigmoid():
            return OfValues(source, step.output, kernels.sigmoid, "float32")
        case Threshold():
            return OfValues(source, step.output, kernels.threshold, "bool", step.at)
        case Labels():
            raise AssertionError("labels are texts")
        case _:
            return OfRows(source, step)


def cast_part(source: TensorSpec, output: str, dtype: str) -> Part:
    """What is sent as `source` becomes `output` of `dtype`, float32 or float16, rounded to nearest even."""
    function = kernels.cast_truth if source.datatype is DataType.BOOL else kernels.cast
    return OfValues(source, output, function, dtype)
