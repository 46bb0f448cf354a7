"""Images on a GPU: what clients send, or what was decoded of it, to what the engine takes.

Knows: the passes over pictures and the memory between them. Rules: a program is for pictures of one size, rows together; what
comes out equals the CPU's result (`runtime.kernels.images`) as numbers, to the bit, infinite pixels aside; FP64
pixels stay on the CPU, as no kernel computes in FP64. Leaves to others: one pass (`image_passes`), decoding and
whether pictures are of one size (the runtime).
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from appliance.errors import RequestError
from appliance.fitting import trace
from appliance.recipe import BeforeStep, Decode, InputRecipe, Layout
from appliance.tensors import DataType, TensorSpec
from runtime.gpu.program import Launch, Place, aligned
from runtime.gpu.program import Layout as Room
from runtime.kernels.cuda import KernelSource, Shape, behind
from runtime.kernels.cuda.image_calls import TALL
from runtime.kernels.cuda.image_passes import Fitted, Pass, ReorderPass, pass_of
from runtime.kernels.image_plan import plans_of
from runtime.kernels.images import SIZES_KEPT, way_back

ROWS_MOST = 65535  # of one launch: pictures lie along the grid's third axis
LINES_MOST = ROWS_MOST * TALL  # of a picture: they lie along the second axis, in blocks
VALUES_MOST = (
    2**31 - 1
)  # of a picture, before, between and after passes: kernels count them in 32 bits
PIXELS = (DataType.UINT8, DataType.FP32)


def unfit(raw: TensorSpec, steps: Sequence[BeforeStep], rows: int) -> str:
    """Why an image input's steps cannot run on a GPU for up to `rows` pictures; empty when they can."""
    if rows > ROWS_MOST:
        return f"up to {rows} pictures come at once, a launch has {ROWS_MOST}"
    if raw.datatype is DataType.FP64 and not _only_reordered(raw, tuple(steps)):
        return "its pixels are FP64, which no kernel takes"
    return ""


class ImagePart:
    """All steps of one image input; see `runtime.kernels.cuda.Part`.

    `reads` one tensor: what is sent, (rows, height, width, channels); with a decode in front the decoded pictures, UINT8, as
    `decoding.decoded` gives them. `makes` the engine's input; `gives` is its dtype where the engine wants other numbers than
    the recipe makes: float16 of FP32, rounded to nearest even.
    """

    def __init__(
        self,
        *,
        reads: str,
        makes: str,
        raw: TensorSpec,
        steps: Sequence[BeforeStep],
        gives: str = "",
    ) -> None:
        """Raises RecipeError when the steps' constants leave FP32."""
        self.reads, self.makes = (reads,), (makes,)
        steps, self._name = tuple(steps), raw.name
        last = trace(InputRecipe(feeds=makes, raw=raw, steps=steps))[-1]
        self._is_flat = last.order == "HW"
        self._gives = gives or last.spec.datatype.numpy.name
        decoded = bool(steps) and isinstance(steps[0], Decode)
        self._takes = "uint8" if decoded else raw.datatype.numpy.name
        self._passes = _passes(raw, steps, self._takes, self._gives)
        self._fitted = lru_cache(SIZES_KEPT)(self._fit)

    def kernels(self) -> tuple[KernelSource, ...]:
        """See `Part`."""
        return tuple(source for each in self._passes for source in each.kernels())

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:
        """See `Part`: the tables of all passes."""
        return b"".join(_filled(fitted.tables) for fitted in self._of(shapes))

    def made(self, shapes: Mapping[str, Shape]) -> dict[str, tuple[Shape, str]]:
        """See `Part`. Raises RequestError when a picture has no pixel or not as many as a step needs."""
        shape = self._of(shapes)[-1].made
        rows = self._shape(shapes)[0]
        made = (rows, *(shape[:-1] if self._is_flat else shape))
        return {self.makes[0]: (made, self._gives)}

    def scratch(self, shapes: Mapping[str, Shape]) -> int:
        """See `Part`: pictures between passes, and what a pass keeps between its kernels."""
        return _rooms(self._of(shapes), self._passes, self._shape(shapes)[0]).size

    def moved(self, shapes: Mapping[str, Shape]) -> int:
        """Bytes that must move to and from memory: what is read, made and kept between, each once.

        A measure to hold a run's time against; what caches do not keep comes on top.
        """
        rows, total, takes = self._shape(shapes)[0], 0, self._takes
        for fitted, each in zip(self._of(shapes), self._passes, strict=True):
            total += fitted.read * np.dtype(takes).itemsize + 2 * fitted.between
            total += math.prod(fitted.made) * np.dtype(each.gives).itemsize
            takes = each.gives
        return rows * total

    def placed(self, shapes: Mapping[str, Shape]) -> tuple[float, float, float, float, int, int]:
        """Where the picture lies: the six values of `chain.Chain.before`'s `placed`, the same for every row."""
        _, height, width, _ = self._shape(shapes)
        return way_back([fitted.placed for fitted in self._of(shapes)], height, width)

    def launches(
        self,
        shapes: Mapping[str, Shape],
        places: Mapping[str, Place],
        constants_at: Place,
        scratch_at: Place,
    ) -> list[Launch]:
        """See `Part`."""
        fitted, rows = self._of(shapes), self._shape(shapes)[0]
        if rows == 0:
            return []
        assert rows <= ROWS_MOST, f"{rows} pictures in one launch"
        rooms = _rooms(fitted, self._passes, rows)
        read, tables, launches = places[self.reads[0]], constants_at, []
        for at, each in enumerate(fitted):
            last = at == len(fitted) - 1
            out = places[self.makes[0]] if last else behind(scratch_at, rooms.made[at])
            where = {
                "raw": read,
                "out": out,
                "between": behind(scratch_at, rooms.between[at]),
                "tables": tables,
            }
            launches += [call.launch(rows, where) for call in each.calls]
            read, tables = out, behind(tables, len(_filled(each.tables)))
        return launches

    def _shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return shapes[self.reads[0]]

    def _of(self, shapes: Mapping[str, Shape]) -> tuple[Fitted, ...]:
        fitted: tuple[Fitted, ...] = self._fitted(self._shape(shapes)[1:])
        return fitted

    def _fit(self, image: Shape) -> tuple[Fitted, ...]:
        """All passes over pictures of one size. Raises RequestError when one does not fit or is too large."""
        try:
            return _fitted(self._passes, image)
        except RequestError as error:
            raise RequestError(f"input '{self._name}' {error}", remedy=error.remedy) from error


class _Rooms(NamedTuple):
    """Where in the scratch what passes make lies, and what they keep between their kernels; its size."""

    made: list[int]
    between: list[int]
    size: int


def _rooms(fitted: tuple[Fitted, ...], passes: Sequence[Pass], rows: int) -> _Rooms:
    room, made, between = Room(), [], []
    for each, of in zip(fitted, passes, strict=True):
        last = each is fitted[-1]
        size = 0 if last else rows * math.prod(each.made) * np.dtype(of.gives).itemsize
        made.append(room.take(size))
        between.append(room.take(rows * each.between))
    return _Rooms(made, between, room.size)


def _fitted(passes: Sequence[Pass], image: Shape) -> tuple[Fitted, ...]:
    if 0 in image:
        raise RequestError(
            f"is an image without pixels: {list(image)}",
            remedy="send an image of at least one pixel",
        )
    fitted = []
    for each in passes:
        _check_counts(math.prod(image), image[0])
        fitted.append(each.fit(image))
        _check_counts(fitted[-1].between, max(call.size[1] for call in fitted[-1].calls))
        image = fitted[-1].made
    _check_counts(math.prod(image), 0)
    return tuple(fitted)


def _check_counts(values: int, lines: int) -> None:
    if values > VALUES_MOST or lines > LINES_MOST:
        raise RequestError(
            f"is an image of {values} values and {lines} lines on its way through the steps; "
            f"a GPU takes {VALUES_MOST} and {LINES_MOST}",
            remedy="send a smaller image",
        )


def _filled(tables: bytes) -> bytes:
    """`tables` up to where the next pass's may begin."""
    return tables + bytes(aligned(len(tables)) - len(tables))


def _passes(raw: TensorSpec, steps: tuple[BeforeStep, ...], takes: str, gives: str) -> list[Pass]:
    if _only_reordered(raw, steps):
        (step,) = steps
        assert isinstance(step, Layout)
        return [ReorderPass(takes, raw.shape[2], chw=step.order == "CHW")]
    plans, passes = plans_of(raw, steps), list[Pass]()
    for at, plan in enumerate(plans):
        last = at == len(plans) - 1
        passes.append(pass_of(plan, takes, gives if last else plan.gives.numpy.name))
        takes = passes[-1].gives
    return passes


def _only_reordered(raw: TensorSpec, steps: tuple[BeforeStep, ...]) -> bool:
    """Whether pixels of a datatype that no arithmetic takes change places only."""
    return len(steps) == 1 and isinstance(steps[0], Layout) and raw.datatype not in PIXELS
