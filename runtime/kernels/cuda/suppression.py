"""The part of suppression on the device: keys of the candidates, then a block a row that sorts and compares them.

Knows: the kernels' grids, constants and the memory between them. Rules: axes before the last two are rows, as in
`runtime.kernels.boxes`; FP16 is cast to FP32 first. Leaves to others: the arithmetic (`suppress_kernels`).

The same boxes are kept as on the CPU unless an IoU is within 2**-40 of its bound; see `suppress_kernels.suppress`.
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from appliance.errors import EngineError
from appliance.recipe import SuppressBoxes
from appliance.tensors import TensorSpec
from runtime.gpu.program import Argument, Launch, Place, Single, Whole, aligned
from runtime.kernels.boxes import EDGES
from runtime.kernels.cuda import KernelSource, Parameter, Shape, behind
from runtime.kernels.cuda import suppress_kernels as kernels
from runtime.kernels.cuda.launching import BLOCK, Plain, over_rows, over_values, source_of
from runtime.kernels.cuda.pairs import pairs_of
from runtime.kernels.cuda.score_kernels import cast

CANDIDATES_MOST: Final = 4096  # what one block sorts in its shared memory


class SuppressPart(Plain):
    """The best of overlapping boxes: keys of the candidates, then a block a row that sorts and compares them."""

    def __init__(
        self, step: SuppressBoxes, boxes: TensorSpec, scores: TensorSpec, *, threads: int = BLOCK
    ) -> None:
        """`threads` of a block that work on one row: a power of two."""
        makes = step.output, step.output_scores, step.output_classes, step.output_count
        super().__init__((step.boxes, step.scores), makes)
        self._step, self._threads = step, threads
        self._with_classes = len(scores.shape) == len(boxes.shape)
        self._casts = tuple(
            source_of(cast, ("float16*", "float32*", "int64"))
            if spec.datatype.numpy == np.float16
            else None
            for spec in (boxes, scores)
        )
        floats: tuple[Parameter, ...] = ("float32*", "float32*")
        self._rank = source_of(
            kernels.rank,
            (*floats, "int32*", "int64*", "int32*", "float32", "int32", "int64"),
            {"EVERY_CLASS": int(step.every_class)},
        )
        capacity = 1 << (min(step.candidates_max, CANDIDATES_MOST) - 1).bit_length()
        self._suppress = source_of(
            kernels.suppress,
            (*floats, "int64*", *floats, "int64*", "int64*", "int32*", "float32", "float32"),
            {"AGNOSTIC": int(step.agnostic), "CAPACITY": capacity, "THREADS": threads},
        )

    def kernels(self) -> tuple[KernelSource, ...]:
        """For FP16 a cast, then for the keys and for the rows."""
        return (*(each for each in self._casts if each), self._rank, self._suppress)

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:
        """Anchors, classes, keys of a row, candidates and boxes at most, INT32."""
        _, anchors, classes = self._sizes(shapes)
        step = self._step
        candidates = min(step.candidates_max, CANDIDATES_MOST)
        sizes = anchors, classes, self._keys(anchors, classes), candidates, step.boxes_max
        return np.array(sizes, np.int32).tobytes()

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """The boxes kept, their scores, classes and count. Raises EngineError as `Part.made`."""
        lead, _, _ = self._sizes(shapes)
        most = self._step.boxes_max
        made = (
            ((*lead, most, EDGES), "float32"),
            ((*lead, most), "float32"),
            ((*lead, most), "int64"),
            ((*lead, 1), "int64"),
        )
        return dict(zip(self.makes, made, strict=True))

    def scratch(self, shapes: Mapping[str, Shape]) -> int:
        """The keys, and what FP16 is cast to."""
        lead, anchors, classes = self._sizes(shapes)
        keys = 8 * math.prod(lead) * self._keys(anchors, classes)
        return aligned(keys) + sum(self._cast_bytes(shapes))

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,
        scratch_at: Place,
    ) -> list[Launch]:
        """Casts, one thread an anchor, one block a row."""
        lead, anchors, classes = self._sizes(shapes)
        rows, step = math.prod(lead), self._step
        at = behind(scratch_at, aligned(8 * rows * self._keys(anchors, classes)))
        launches, read = [], []
        for name, caster, size in zip(
            self.reads, self._casts, self._cast_bytes(shapes), strict=True
        ):
            read.append(places[name] if caster is None else at)
            if caster is not None:
                launches += over_values(caster, math.prod(shapes[name]), places[name], at)
            at = behind(at, size)
        boxes, scores = read
        background = -1 if step.background is None else step.background
        # The scores are also read as the integers that their bits are.
        launches += over_values(
            self._rank,
            rows * anchors,
            *(boxes, scores, scores, scratch_at, constants_at),
            *(Single(float(np.float32(step.score_min))), Whole(background)),
        )
        made = tuple(places[name] for name in self.makes)
        bound = pairs_of(np.array([step.iou_max]))
        arguments: tuple[Argument, ...] = (boxes, scores, scratch_at, *made, constants_at)
        arguments += (Single(float(bound[0])), Single(float(bound[1])))
        return launches + over_rows(self._suppress, rows, self._threads, *arguments)

    def _keys(self, anchors: int, classes: int) -> int:
        return anchors * classes if self._step.every_class else anchors

    def _cast_bytes(self, shapes: Mapping[str, Shape]) -> list[int]:
        return [
            aligned(4 * math.prod(shapes[name])) if caster else 0
            for name, caster in zip(self.reads, self._casts, strict=True)
        ]

    def _sizes(self, shapes: Mapping[str, Shape]) -> tuple[Shape, int, int]:
        """Axes of rows, anchors, classes. Raises EngineError as `runtime.kernels.boxes`."""
        boxes, scores = (shapes[name] for name in self.reads)
        of_anchors = scores if self._with_classes else (*scores, 1)
        if of_anchors[:-1] != boxes[:-1]:  # of an open number of boxes
            step = self._step
            raise EngineError(
                f"the model gave boxes of shape {list(boxes)} in '{step.boxes}' and scores of "
                f"shape {list(scores)} in '{step.scores}'",
                remedy="correct the model: both outputs must tell of the same boxes",
            )
        return boxes[:-2], boxes[-2], of_anchors[-1]
