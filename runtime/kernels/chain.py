"""A recipe as one warm callable: requests to engine inputs, engine outputs to answers.

Knows: which served input makes which engine input and by what. Rules: kernels are compiled when the
chain is made, never for a request; a request's rows are written straight into the batch's buffers; calls
from several threads are safe, as each has its own scratch. Leaves to others: checking a request against
the served interface, forming batches and running the engine.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from appliance.errors import RequestError
from appliance.fitting import sent_specs, served_interface, trace
from appliance.fitting.outputs import outputs_after
from appliance.recipe import (
    Accepts,
    Cast,
    InputRecipe,
    Layout,
    Recipe,
    RescaleBoxes,
    Select,
    SignalStep,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.after import Maker, maker
from runtime.kernels.images import ImagePasses
from runtime.kernels.scratch import cast_into
from runtime.kernels.signals import SignalChain
from runtime.kernels.tables import Selection, TableProgram

PLACE_COLUMNS = 6  # of `placed`; see `Chain.before`


class Preparation(Protocol):
    """What makes one engine input of the tensors sent for it; arrays have rows in front."""

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of `sent`. Raises RequestError when nothing can be made of it."""

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Fill `into` from `sent`; with `placed`, FP64 (rows, 6), an image also says where it lies.

        See `Chain.before` for its values. Raises RequestError when nothing can be made of `sent`.
        """

    def warm(self) -> None:
        """Run every kernel once, on a row that is made here."""


class Chain:
    """The kernels of `recipe` between the interface that is `served` and the `engine`'s.

    Arrays have a leading axis of rows when the interface is batched, none when it is not (batch_max 0).
    Making a chain compiles its kernels.
    """

    def __init__(self, recipe: Recipe, *, engine: Interface) -> None:
        """Raises RecipeError when the recipe does not fit the engine's interface."""
        self.served = served_interface(recipe, engine)
        self._batched = engine.batch_max > 0
        self._engine = engine
        self._ranged = [spec for spec in engine.inputs if spec.ranges]
        self._sources = {
            spec.name: (
                sent_specs(recipe.input_for(spec.name), spec),
                _preparation(recipe.input_for(spec.name)),
            )
            for spec in engine.inputs
        }
        self._makers = _makers(recipe, engine)
        self.placed_inputs = frozenset(
            step.image for step in recipe.after if isinstance(step, RescaleBoxes)
        )

    def prepared_shape(self, inputs: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Shapes of the engine's inputs, by name, that `before` makes of a request.

        Raises RequestError for an image without pixels, or lengths outside the engine's ranges.
        """
        shapes = {
            name: preparation.shape(self._with_rows(specs, inputs))
            for name, (specs, preparation) in self._sources.items()
        }
        for spec in self._ranged:
            if not spec.fits(shapes[spec.name][1:]):
                raise _out_of_range(spec, shapes[spec.name][1:])
        return {name: self._without_rows(shape) for name, shape in shapes.items()}

    def before(
        self,
        inputs: Mapping[str, Array],
        into: Mapping[str, Array],
        placed: Mapping[str, Array] | None = None,
    ) -> None:
        """Prepare one request: `inputs` by served name, written to `into` by engine input name.

        inputs: (rows, *raw shape), may be read-only. into: (rows, *prepared shape), C-contiguous, of the
        engine's datatypes: commonly a slice of a batch's buffers; an input that is not in it is left out. placed: by engine input name, for the
        images in `placed_inputs`, FP64 (rows, 6), always with rows: x scale, x shift, y scale, y shift,
        so that a point x of the prepared image lies at x * scale + shift in the sent one, both in pixels
        from the left or upper edge; then width and height of the sent image. Raises RequestError for an
        image without pixels.
        """
        for name, (specs, preparation) in self._sources.items():
            if name not in into:
                continue
            sent, made = self._with_rows(specs, inputs), into[name]
            made = made if self._batched else made[None]
            # Kernels check no bounds, so a wrong shape must not reach them.
            assert made.shape == preparation.shape(sent), f"'{name}' has {made.shape}"
            preparation.run(sent, made, None if placed is None else placed.get(name))

    def after(
        self, outputs: Mapping[str, Array], placed: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """All served outputs of a batch: the engine's, as they are, and those that steps add.

        outputs: (rows, ...) by name. placed: as `before` filled it for the same rows, of each of
        `placed_inputs`. BYTES outputs are object arrays of UTF-8 `bytes`. Raises EngineError when the
        engine returned another number of classes than its interface says.
        """
        answers = dict(outputs)
        for each in self._makers:
            answers = each.run(answers, placed or {})
        return answers

    def warm(self) -> None:
        """Run every kernel once, on one row."""
        for _, preparation in self._sources.values():
            preparation.warm()
        placed = {name: np.zeros((1, PLACE_COLUMNS)) for name in self.placed_inputs}
        self.after({spec.name: self._zeros(spec) for spec in self._engine.outputs}, placed)

    def _with_rows(self, specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> list[Array]:
        """The tensors sent for one engine input, with rows in front; their shapes are the specs'."""
        sent = [inputs[spec.name] for spec in specs]
        if not self._batched:
            sent = [array[None] for array in sent]
        for spec, array in zip(specs, sent, strict=True):
            fits = array.shape[1:] == spec.shape or spec.fits(array.shape[1:])
            assert fits, f"'{spec.name}' has {array.shape}"
        return sent

    def _without_rows(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self._batched else shape[1:]

    def _zeros(self, spec: TensorSpec) -> Array:
        shape = tuple(1 if length == -1 else length for length in spec.shape)
        return np.zeros((1, *shape) if self._batched else shape, spec.datatype.numpy)


class Copy:
    """The values as they are sent, cast where the datatypes differ."""

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The same shape."""
        return sent[0].shape

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Copy the one tensor sent into `into`; nothing asks where it lies, as it is no image's steps."""
        cast_into(sent[0], into)

    def warm(self) -> None:
        """Nothing is compiled here."""


class Reordered:
    """Images of a datatype that no kernel takes, whose axes a layout step reorders; values as they are."""

    def __init__(self, step: Layout) -> None:
        self._chw = step.order == "CHW"

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape with the channels in front, or without the one there is."""
        return self._reordered(sent[0]).shape

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Copy the images sent into `into`; each lies where it lay."""
        np.copyto(into, self._reordered(sent[0]))
        if placed is not None:
            _, height, width, _ = sent[0].shape
            placed[:] = (1.0, 0.0, 1.0, 0.0, width, height)

    def warm(self) -> None:
        """Nothing is compiled here."""

    def _reordered(self, images: Array) -> Array:
        return np.moveaxis(images, 3, 1) if self._chw else images[..., 0]


def _out_of_range(spec: TensorSpec, made: tuple[int, ...]) -> RequestError:
    return RequestError(
        f"'{spec.name}' would be {list(made)}, and the model takes {spec.lengths()}",
        remedy="send an input of another size",
    )


def _preparation(item: InputRecipe | None) -> Preparation:
    """Choose what makes an engine input; an input without a recipe is copied."""
    if item is None or item.accepts is Accepts.PREPARED:
        return Copy()
    if all(isinstance(step, Cast) for step in item.steps) and item.accepts is Accepts.RAW:
        return Copy()
    if any(isinstance(step, SignalStep) for step in item.steps):
        return SignalChain(item.raw, item.steps)
    if not item.columns:
        first, of_pixels = item.steps[0], item.raw.datatype in (DataType.UINT8, DataType.FP32)
        if isinstance(first, Layout) and len(item.steps) == 1 and not of_pixels:
            return Reordered(first)
        return ImagePasses(item.raw, item.steps)
    if trace(item)[-1].texts or all(isinstance(step, Select) for step in item.steps):
        return Selection(item)
    return TableProgram(item)


def _makers(recipe: Recipe, engine: Interface) -> list[Maker]:
    """What each after-step does, from the first to the last."""
    outputs, makers = list(engine.outputs), []
    for step in recipe.after:
        makers.append(maker(step, outputs, recipe.labels))
        outputs = outputs_after(step, outputs, recipe)
    return makers
