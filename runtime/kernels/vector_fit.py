"""Fitting a layout: which drift values a model has, found from its recipe, interface and a sample.

Knows: what counts as an image, a table or class scores, and the PCA of images. Rules: whatever does not
fit any of these (texts, shapes without a fixed length) is left out, so any model has a layout, maybe an
empty one. Leaves to others: computing vectors (`vector`); runs when a bundle is packed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from appliance.errors import RecipeError
from appliance.fitting import trace
from appliance.layout import (
    CLASSES_MAX,
    COLUMNS_MAX,
    COMPONENTS_MAX,
    GRID_CELLS,
    Floats,
    ImageValues,
    OutputValues,
    Part,
    ScoreValues,
    TableValues,
    VectorLayout,
)
from appliance.recipe import ArgMax, InputRecipe, Recipe, Sigmoid, Softmax, TopK
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.vector_steps import CELLS_AT, ImageKernel, Order

Tensors: TypeAlias = Mapping[str, Array]

FLOATING = (DataType.FP16, DataType.FP32, DataType.FP64)
CHANNELS = (1, 3, 4)
SUM_TOLERANCE = 1e-3  # a row of probabilities adds up to 1 within this


def fit_layout(
    recipe: Recipe, engine: Interface, prepared: Tensors, outputs: Tensors
) -> VectorLayout:
    """The layout for a model, its PCA fitted on the sample.

    prepared: the sample as the engine's inputs; outputs: what the reference gave for it. The rows
    should not be those of the reference profile: a PCA fits its own rows better than any later ones, which
    would show as drift of the residual. Raises RecipeError when two drift values would share a name.
    """
    model = _Model(recipe, engine)
    parts = [*model.images(prepared), *model.tables(), *model.scores(outputs)]
    parts += model.plain_outputs({part.output for part in parts if isinstance(part, ScoreValues)})
    _check_names([value.name for part in parts for value in part.values()])
    return VectorLayout(batch_axis=model.batch_axis, parts=tuple(parts))


class _Model:
    """A model's tensors as single rows.

    Without a declared batch axis, a leading 1 on every tensor is taken for one: the graph was exported
    for one row.
    """

    def __init__(self, recipe: Recipe, engine: Interface) -> None:
        tensors = (*engine.inputs, *engine.outputs)
        self._recipe, self._engine = recipe, engine
        self._leading = not engine.batch_max and all(spec.shape[:1] == (1,) for spec in tensors)
        self.batch_axis = bool(engine.batch_max) or self._leading

    def images(self, prepared: Tensors) -> Iterator[Part]:
        """The first image input that has any pixel; the spectra of channels count as one."""
        for spec in self._engine.inputs:
            shape = self._row_shape(spec)
            is_image = len(shape) == 3 and spec.datatype in (
                *FLOATING,
                DataType.UINT8,
                DataType.INT8,
            )
            if is_image and prepared[spec.name].size:
                order = _image_order(self._recipe.input_for(spec.name), shape)
                images = prepared[spec.name]
                images = images.reshape(-1, *images.shape[-3:])
                mean, components = _fit_pca(_cells(images, order))
                yield ImageValues(
                    input=spec.name,
                    order=order,
                    mean=mean.astype("<f4").tobytes(),
                    components=components.astype("<f4").tobytes(),
                )
                return

    def tables(self) -> Iterator[Part]:
        """Table inputs, COLUMNS_MAX columns in all."""
        left = COLUMNS_MAX
        for spec in self._engine.inputs:
            columns = self._columns(spec)[:left]
            if columns:
                yield TableValues(input=spec.name, columns=columns)
                left -= len(columns)

    def scores(self, outputs: Tensors) -> Iterator[Part]:
        """The output that holds class scores, if any does.

        In this order: what the recipe's softmax reads, what its argmax or top-k reads (through a sigmoid), an
        output with one value a label, an output whose rows are probabilities.
        """
        found = next(self._score_specs(outputs), None)
        if found is None:
            return
        classes = self._row_shape(found)[0]
        labels = self._recipe.labels
        named = len(labels) == classes == len(set(labels))
        yield ScoreValues(
            output=found.name,
            logits=not _are_probabilities(outputs[found.name], classes),
            classes=classes,
            labels=labels if named else (),
        )

    def plain_outputs(self, taken: set[str]) -> Iterator[Part]:
        """Other floating-point outputs, CLASSES_MAX columns in all."""
        left = CLASSES_MAX
        for spec in self._engine.outputs:
            columns = min(left, self._row_length(spec))
            if spec.datatype in FLOATING and spec.name not in taken and columns > 0:
                yield OutputValues(output=spec.name, columns=columns)
                left -= columns

    def _score_specs(self, outputs: Tensors) -> Iterator[TensorSpec]:
        after = self._recipe.after
        squashed = {step.output: step.tensor for step in after if isinstance(step, Sigmoid)}
        read = [step.tensor for step in after if isinstance(step, Softmax)]
        chosen = [step.tensor for step in after if isinstance(step, ArgMax | TopK)]
        read += [squashed.get(name, name) for name in chosen]
        candidates = [
            spec
            for spec in self._engine.outputs
            if spec.datatype in FLOATING and spec.shape and self._row_length(spec) >= 2
        ]
        by_name = {spec.name: spec for spec in candidates}
        for name in read:
            if name in by_name:
                yield by_name[name]
        for spec in candidates:
            if self._row_length(spec) == len(self._recipe.labels):
                yield spec
        for spec in candidates:
            if _are_probabilities(outputs[spec.name], self._row_length(spec)):
                yield spec

    def _columns(self, spec: TensorSpec) -> tuple[str, ...]:
        length = self._row_length(spec)
        if spec.datatype is DataType.BYTES or length < 1:
            return ()
        item = self._recipe.input_for(spec.name)
        names = trace(item)[-1].columns if item else ()
        if len(names) == length == len(set(names)):
            return names
        return tuple(str(column) for column in range(length))

    def _row_length(self, spec: TensorSpec) -> int:
        """How many values a row of `spec` has when it is a scalar or a vector of fixed length, else 0."""
        shape = self._row_shape(spec)
        return max(0, shape[0] if shape else 1) if len(shape) <= 1 else 0

    def _row_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.shape[1:] if self._leading else spec.shape


def _check_names(names: list[str]) -> None:
    shared = sorted(name for name, count in Counter(names).items() if count > 1)
    if shared:
        raise RecipeError(
            f"two drift values would be called {shared}",
            remedy="rename one of the tensors or columns; a value is called tensor.column",
        )


def _image_order(item: InputRecipe | None, shape: tuple[int, ...]) -> Order:
    """As the recipe says; without one, the axis that is as long as channels are tells."""
    if item is not None:
        return "HWC" if trace(item)[-1].order == "HWC" else "CHW"
    return "HWC" if shape[2] in CHANNELS and shape[0] not in CHANNELS else "CHW"


def _cells(images: Array, order: Order) -> Floats:
    """The grey grids of `images`, float32 (rows, 64): their scores under the identity."""
    identity = np.eye(GRID_CELLS, dtype=np.float32)
    values = np.empty((len(images), CELLS_AT + GRID_CELLS + 1), np.float32)
    ImageKernel(order, np.zeros(GRID_CELLS, np.float32), identity).fill(images, values, 0)
    return values[:, CELLS_AT : CELLS_AT + GRID_CELLS]


def _fit_pca(cells: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean (64,) and up to 16 components (k, 64) of the finite rows, by singular values.

    The largest entry of each component is positive, so that equal samples give equal bytes.
    """
    rows = cells[np.isfinite(cells).all(axis=1)].astype(np.float64)
    if len(rows) < 2:
        return np.zeros(GRID_CELLS), np.zeros((0, GRID_CELLS))
    mean = rows.mean(axis=0)
    _, lengths, components = np.linalg.svd(rows - mean, full_matrices=False)
    kept = components[:COMPONENTS_MAX][lengths[:COMPONENTS_MAX] > 1e-6 * max(lengths[0], 1e-30)]
    largest = np.abs(kept).argmax(axis=1)
    return mean, kept * np.sign(kept[np.arange(len(kept)), largest])[:, None]


def _are_probabilities(scores: Array, classes: int) -> bool:
    rows = scores.reshape(-1, classes).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    sums_to_one = np.abs(rows.sum(axis=1) - 1.0) < SUM_TOLERANCE
    return bool(len(rows) and (rows >= 0.0).all() and sums_to_one.all())
