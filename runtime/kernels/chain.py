"""A recipe as one warm callable: requests to engine inputs, engine outputs to answers.

Knows: which served input makes which engine input and by what. Rules: kernels are compiled when the
chain is made, never for a request; a request's rows are written straight into the batch's buffers; calls
from several threads are safe, as each has its own scratch. Leaves to others: checking a request against
the served interface, forming batches and running the engine.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from appliance.fitting import sent_specs
from appliance.recipe import Accepts, Cast, InputRecipe, Recipe, Select
from appliance.tensors import Array, Interface, TensorSpec
from runtime.kernels.after import added_output
from runtime.kernels.images import ImagePasses
from runtime.kernels.scratch import cast_into
from runtime.kernels.tables import Selection, TableProgram

UNMOVED = (1.0, 0.0, 1.0, 0.0)  # a point of the prepared image lies where it lies in the sent one


class Preparation(Protocol):
    """What makes one engine input of the tensors sent for it; arrays have rows in front."""

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of `sent`. Raises RequestError when nothing can be made of it."""

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Fill `into` from `sent`; with `placed`, FP64 (rows, 4), an image also says where it lies.

        See `Chain.before` for its values. Raises RequestError when nothing can be made of `sent`.
        """


class Chain:
    """The kernels of `recipe` between the `served` interface and the `engine`'s.

    `served` is `appliance.fitting.served_interface(recipe, engine)`. Arrays have a leading axis of rows when
    the interface is batched, none when it is not (batch_max 0).
    """

    def __init__(self, recipe: Recipe, *, served: Interface, engine: Interface) -> None:
        self._batched = engine.batch_max > 0
        self._served, self._engine = served, engine
        self._sources = {
            spec.name: (
                sent_specs(recipe.input_for(spec.name), spec),
                _preparation(recipe.input_for(spec.name)),
            )
            for spec in engine.inputs
        }
        self._added = [
            added_output(step, _last_length(served, step.tensor), recipe.labels)
            for step in recipe.after
        ]

    def prepared_shape(self, inputs: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Shapes of the engine's inputs, by name, that `before` makes of a request.

        Raises RequestError for an image without pixels.
        """
        return {
            name: self._without_rows(preparation.shape(self._with_rows(specs, inputs)))
            for name, (specs, preparation) in self._sources.items()
        }

    def before(
        self,
        inputs: Mapping[str, Array],
        into: Mapping[str, Array],
        placed: Mapping[str, Array] | None = None,
    ) -> None:
        """Prepare one request: `inputs` by served name, written to `into` by engine input name.

        inputs: (rows, *raw shape), may be read-only. into: (rows, *prepared shape), C-contiguous, of the
        engine's datatypes: commonly a slice of a batch's buffers. placed: by engine input name, for the
        images whose place is wanted later, FP64 (rows, 4), always with rows: x scale, x shift, y scale,
        y shift, so that a point x of the prepared image lies at x * scale + shift in the sent one, both in
        pixels from the left or upper edge. Raises RequestError for an image without pixels.
        """
        for name, (specs, preparation) in self._sources.items():
            sent, made = self._with_rows(specs, inputs), into[name]
            made = made if self._batched else made[None]
            # Kernels check no bounds, so a wrong shape must not reach them.
            assert made.shape == preparation.shape(sent), f"'{name}' has {made.shape}"
            preparation.run(sent, made, None if placed is None else placed.get(name))

    def after(
        self, outputs: Mapping[str, Array], placed: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """All served outputs of a batch: the engine's, as they are, and the added ones.

        outputs: (rows, ...) by name. placed: as `before` filled it for the same rows. BYTES outputs are
        object arrays of UTF-8 `bytes`. Raises EngineError when the engine returned another number of
        classes than its interface says.
        """
        answers = dict(outputs)
        for added in self._added:
            answers |= added.run(answers)
        return answers

    def warm(self) -> None:
        """Run every kernel once, on zeros: one row, lengths that may be any are 1."""
        inputs = {spec.name: self._zeros(spec) for spec in self._served.inputs}
        shapes = self.prepared_shape(inputs)
        self.before(
            inputs,
            {
                spec.name: np.empty(shapes[spec.name], spec.datatype.numpy)
                for spec in self._engine.inputs
            },
        )
        self.after({spec.name: self._zeros(spec) for spec in self._engine.outputs})

    def _with_rows(self, specs: tuple[TensorSpec, ...], inputs: Mapping[str, Array]) -> list[Array]:
        """The tensors sent for one engine input, with rows in front; their shapes are the specs'."""
        sent = [inputs[spec.name] for spec in specs]
        if not self._batched:
            sent = [array[None] for array in sent]
        for spec, array in zip(specs, sent, strict=True):
            assert spec.fits(array.shape[1:]), f"'{spec.name}' has {array.shape}"
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

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:
        """Copy the one tensor sent into `into`; of an image it is all: placed where it was."""
        cast_into(sent[0], into)
        if placed is not None:
            placed[...] = UNMOVED


def _preparation(item: InputRecipe | None) -> Preparation:
    """Choose what makes an engine input; an input without a recipe is copied."""
    if item is None or item.accepts is Accepts.PREPARED:
        return Copy()
    if all(isinstance(step, Cast) for step in item.steps):
        return Copy()
    if not item.columns:
        return ImagePasses(item.raw, item.steps)
    if all(isinstance(step, Select) for step in item.steps):
        return Selection(item)
    return TableProgram(item)


def _last_length(served: Interface, tensor: str) -> int:
    spec = served.output(tensor)
    assert spec is not None, f"the recipe was checked, yet no output is called '{tensor}'"
    return spec.shape[-1]
