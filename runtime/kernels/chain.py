"""A recipe as one warm callable: requests to engine inputs, engine outputs to answers.

Knows: which served input makes which engine input and by what. Rules: kernels are compiled when the
chain is made, never for a request; a request's rows are written straight into the batch's buffers; calls
from several threads are safe, as each has its own scratch. Leaves to others: checking a request against
the served interface, forming batches and running the engine.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from appliance.recipe import Accepts, Cast, InputRecipe, Recipe, Select
from appliance.tensors import Array, Interface, TensorSpec
from runtime.kernels.after import added_output
from runtime.kernels.images import ImagePasses
from runtime.kernels.scratch import cast_into
from runtime.kernels.tables import Selection, TableProgram


class Preparation(Protocol):
    """What makes one engine input; arrays have rows in front."""

    def shape(self, raw: tuple[int, ...]) -> tuple[int, ...]:
        """The shape made of raw shape `raw`, both with rows."""

    def run(self, raw: Array, into: Array) -> None:
        """Fill `into` from `raw`."""


class Chain:
    """The kernels of `recipe` between the `served` interface and the `engine`'s.

    `served` is `appliance.fitting.served_interface(recipe, engine)`. Arrays have a leading axis of rows when
    the interface is batched, none when it is not (batch_max 0).
    """

    def __init__(self, recipe: Recipe, *, served: Interface, engine: Interface) -> None:
        self._batched = engine.batch_max > 0
        self._served, self._engine = served, engine
        self._sources = {
            made.name: (sent, _preparation(recipe.input_for(made.name)))
            for sent, made in zip(served.inputs, engine.inputs, strict=True)
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
            name: self._shape(preparation, inputs[sent.name])
            for name, (sent, preparation) in self._sources.items()
        }

    def before(self, inputs: Mapping[str, Array], into: Mapping[str, Array]) -> None:
        """Prepare one request: `inputs` by served name, written to `into` by engine input name.

        inputs: (rows, *raw shape), may be read-only. into: (rows, *prepared shape), C-contiguous, of the
        engine's datatypes: commonly a slice of a batch's buffers. Raises RequestError for an image
        without pixels.
        """
        for name, (sent, preparation) in self._sources.items():
            raw, made = inputs[sent.name], into[name]
            # Kernels check no bounds, so a wrong shape must not reach them.
            assert made.shape == self._shape(preparation, raw), f"'{name}' has {made.shape}"
            if not self._batched:
                raw, made = raw[None], made[None]
            assert sent.fits(raw.shape[1:]), f"'{sent.name}' has {raw.shape}"
            preparation.run(raw, made)

    def after(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """All served outputs of a batch: the engine's, as they are, and the added ones.

        outputs: (rows, ...) by name. BYTES outputs are object arrays of UTF-8 `bytes`. Raises
        EngineError when the engine returned another number of classes than its interface says.
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

    def _shape(self, preparation: Preparation, raw: Array) -> tuple[int, ...]:
        return (
            preparation.shape(raw.shape)
            if self._batched
            else preparation.shape((1, *raw.shape))[1:]
        )

    def _zeros(self, spec: TensorSpec) -> Array:
        shape = tuple(1 if length == -1 else length for length in spec.shape)
        return np.zeros((1, *shape) if self._batched else shape, spec.datatype.numpy)


class Copy:
    """The values as they are sent, cast where the datatypes differ."""

    def shape(self, raw: tuple[int, ...]) -> tuple[int, ...]:
        """The same shape."""
        return raw

    def run(self, raw: Array, into: Array) -> None:
        """Copy `raw` into `into`."""
        cast_into(raw, into)


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
