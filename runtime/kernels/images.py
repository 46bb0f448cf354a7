"""Images: what clients send to what the engine takes.

Knows: files that must be decoded, pictures, and the passes over them. Rules: pictures of one size go through
a single pass together, all else row by row over scratch; where a picture lies is told in the pixels of
the one that was sent or decoded. Leaves to others: decoding (`decoding`), one pass (`image_pass`), what
is done in which (`image_plan`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from appliance.errors import RecipeError, RequestError
from appliance.fitting import trace
from appliance.recipe import BeforeStep, Crop, Decode, InputRecipe
from appliance.tensors import Array, TensorSpec
from runtime.kernels.image_pass import pass_of
from runtime.kernels.image_plan import plans_of
from runtime.kernels.placement import Placement
from runtime.kernels.scratch import Workspace, cast_into

SIZES_KEPT = 32  # of which geometry is not computed again


class ImagePasses:
    """The passes of one image input; making them compiles their kernels.

    UINT8 and FP32 images go into the first kernel as they are, others are cast first, one at a time.
    """

    def __init__(self, raw: TensorSpec, steps: Sequence[BeforeStep]) -> None:
        self._raw, self._name, steps = raw, raw.name, tuple(steps)
        last = trace(InputRecipe(feeds=raw.name, raw=raw, steps=steps))[-1]
        self._made, self._is_flat = last.spec, last.order == "HW"
        self._decode = steps[0] if steps and isinstance(steps[0], Decode) else None
        self._steps = steps
        self._plans = plans_of(raw, steps)
        self._passes = [pass_of(plan) for plan in self._plans]
        self._placements = [lru_cache(SIZES_KEPT)(plan.placement) for plan in self._plans]
        self._shapes = lru_cache(SIZES_KEPT)(self._image_shape)
        self._work = Workspace()
        if self._decode is not None:
            from runtime.kernels import decoding  # noqa: PLC0415  its libraries, for these recipes only

            self._decoding = decoding

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of images (rows, height, width, channels), or of files (rows, 1).

        Raises RequestError when an image has no pixel or not as many as a step needs, and when files
        of one request give unlike sizes.
        """
        raw = sent[0]
        if self._decode is None:
            return (len(raw), *self._shapes(raw.shape[1:]))
        if -1 not in self._made.shape:
            return (len(raw), *self._made.shape)
        shapes = {self._file_shape(raw, row, self._decode) for row in range(len(raw))}
        if len(shapes) > 1:
            raise RequestError(
                f"input '{self._name}' holds pictures of unlike sizes: {sorted(shapes)}",
                remedy="send pictures of one size in one request",
            )
        return (len(raw), *shapes.pop())

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Make the images `into`, C-contiguous, of those sent, both with rows in front; see `chain`.

        Raises RequestError when a file cannot be decoded or a picture has not the size that a step
        needs.
        """
        raw = sent[0]
        if self._is_flat:
            into = into.reshape((*into.shape, 1), copy=False)
        if self._decode is not None:
            for row in range(len(raw)):
                with self._of_row(row):
                    image = self._decoding.decoded(raw[row, 0], self._decode, self._work)
                    where = self._run_rows(image[None], into[row : row + 1])
                    _tell(where, image, placed, slice(row, row + 1))
            return
        whole = len(self._passes) == 1 and raw.dtype == self._plans[0].takes.numpy
        for rows in [slice(len(raw))] if whole else [slice(r, r + 1) for r in range(len(raw))]:
            where = self._run_rows(raw[rows], into[rows])
            _tell(where, raw[0], placed, rows)

    def warm(self) -> None:
        """Run every kernel once, on zeros of the raw shape, open lengths as small as the steps allow."""
        shape = (-1, -1, self._plans[0].channels) if self._decode else self._raw.shape
        dtype = np.dtype(np.uint8) if self._decode else self._raw.datatype.numpy
        image = np.zeros([1, *self._warm_shape(shape)], dtype)
        made = np.empty((1, *self._through(image.shape[1:])), self._made.datatype.numpy)
        self._run_rows(image, made)

    def _run_rows(self, images: Array, into: Array) -> list[Placement]:
        """Images of one size through all passes; returns where each pass placed them."""
        where = []
        for at, plan in enumerate(self._plans):
            if images.dtype != plan.takes.numpy:
                images = cast_into(images, self._work.take(f"cast {at}", np.float32, *images.shape))
            placed = self._placements[at](images.shape[1], images.shape[2])
            made = into
            if at < len(self._passes) - 1:
                shape = (len(images), *plan.shape(images.shape[1:]))
                made = self._work.take(f"made {at}", plan.gives.numpy, *shape)
            self._passes[at].run(images, made, placed)
            where.append(placed)
            images = made
        return where

    def _through(self, image: tuple[int, ...]) -> tuple[int, ...]:
        for plan in self._plans:
            image = plan.shape(image)
        return image

    def _image_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in image:
            raise RequestError(
                f"input '{self._name}' is an image without pixels: {list(image)}",
                remedy="send an image of at least one pixel",
            )
        with self._of_row(None):
            made = self._through(image)
        return made[:-1] if self._is_flat else made

    def _file_shape(self, files: Array, row: int, step: Decode) -> tuple[int, ...]:
        with self._of_row(row):
            size = self._decoding.picture_size(files[row, 0], step)
            made = self._through((*size, self._plans[0].channels))
        return made[:-1] if self._is_flat else made

    def _warm_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape` with its open lengths as small as the steps allow."""
        crops = [step for step in self._steps if isinstance(step, Crop)]
        sizes = [(crop.height + (crop.top or 0), crop.width + (crop.left or 0)) for crop in crops]
        for small in ((1, 1), *sizes):
            tried = [
                want if got == -1 else got for want, got in zip((*small, 1), shape, strict=True)
            ]
            try:
                self._through(tuple(tried))
            except RequestError:
                continue
            return tuple(tried)
        raise RecipeError(
            f"no image of {list(shape)} goes through the steps of input '{self._name}'",
            remedy="correct the sizes of the crop and pad steps",
        )

    @contextmanager
    def _of_row(self, row: int | None) -> Iterator[None]:
        """Say of which input and row a refusal is."""
        try:
            yield
        except RequestError as error:
            where = "" if row is None else f" row {row}"
            raise RequestError(
                f"input '{self._name}'{where} {error}", remedy=error.remedy
            ) from error


def _tell(where: list[Placement], image: Array, placed: Array | None, rows: slice) -> None:
    """Write where pictures lie to `placed`, as `chain.Chain.before` says."""
    if placed is not None:
        placed[rows] = way_back(where, image.shape[0], image.shape[1])


def way_back(
    where: Sequence[Placement], height: int, width: int
) -> tuple[float, float, float, float, int, int]:
    """The values of `placed`, as `chain.Chain.before` says, of a picture that each pass placed so."""
    x_scale, x_shift, y_scale, y_shift = 1.0, 0.0, 1.0, 0.0
    for each in where:
        x, across, y, down = each.back()
        x_shift, y_shift = across * x_scale + x_shift, down * y_scale + y_shift
        x_scale, y_scale = x * x_scale, y * y_scale
    return (x_scale, x_shift, y_scale, y_shift, width, height)
