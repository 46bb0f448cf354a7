"""What a disturbance does to served rows. Pure.

Knows: the formula of each kind for images, tables and other numbers. Rules: FP64, then rounded to nearest
even and clipped to the datatype of what is sent; the same rows and seed give the same values. Leaves to
others: which rows, and what becomes of the metrics (`robustness`).

    noise        x + level * s * n, n standard normal; s the standard deviation of the input, of a table's column
    blur         Gaussian of sigma = level pixels over height and width, cut at 3 sigma, the edge repeated
    brightness   x +- level * (largest - smallest), clipped to both; 0 and 255 for UINT8; every other row darker
    missing      a share `level` of the values becomes NaN, 0 where integers are sent, an empty text
    adversarial  x + level * s * r, r = +1 or -1 at random
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from appliance.fitting import sent_specs
from appliance.manifest import Disturbance, DisturbanceKind
from appliance.recipe import Accepts, ImageStep, InputRecipe, Recipe, SignalStep
from appliance.tensors import Array, DataType, Interface, TensorSpec

LEVEL_MAX = {
    DisturbanceKind.NOISE: 10.0,
    DisturbanceKind.BLUR: 64.0,
    DisturbanceKind.BRIGHTNESS: 1.0,
    DisturbanceKind.MISSING: 1.0,
    DisturbanceKind.ADVERSARIAL: 10.0,
}
_EXACT = 2**53  # integers beyond are not exact in FP64
_LARGEST = 1e150  # so that squares are finite
_BLOCK = 64  # rows


class Form(StrEnum):
    """What a served input is, as far as disturbances tell it apart."""

    IMAGE = "image"
    ENCODED = "encoded"  # an image as the bytes of its file
    TABLE = "table"
    TEXTS = "texts"  # a table's columns of texts
    NUMBERS = "numbers"
    OTHER = "other"  # texts, indices, truth values


_APPLIES = {
    DisturbanceKind.NOISE: {Form.IMAGE, Form.ENCODED, Form.TABLE, Form.NUMBERS},
    DisturbanceKind.BLUR: {Form.IMAGE, Form.ENCODED},
    DisturbanceKind.BRIGHTNESS: {Form.IMAGE, Form.ENCODED},
    DisturbanceKind.MISSING: {Form.TABLE, Form.TEXTS},
    DisturbanceKind.ADVERSARIAL: {Form.IMAGE, Form.ENCODED, Form.TABLE, Form.NUMBERS},
}


def forms(recipe: Recipe, engine: Interface) -> dict[str, Form]:
    """What each served input is, by name."""
    items = [(recipe.input_for(spec.name), spec) for spec in engine.inputs]
    return {sent.name: _form(item, sent) for item, spec in items for sent in sent_specs(item, spec)}


def disturbs(kind: DisturbanceKind, form: Form) -> bool:
    """True when `kind` changes an input of `form`."""
    return form in _APPLIES[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Standard deviation, smallest and largest value of an input; of each column, if it is a table."""

    std: Array
    low: Array
    high: Array


def spread(array: Array, form: Form) -> Spread:
    """The spread of the finite values of `array` (rows, ...), which holds numbers."""
    axis = 0 if form is Form.TABLE else None
    count, total, squares = np.float64(0), np.float64(0), np.float64(0)
    low, high = np.float64(np.inf), np.float64(-np.inf)
    shift = None  # what values are counted from, lest large ones of small spread lose their digits
    for start in range(0, len(array), _BLOCK):  # an image's rows in FP64 at once would be too many
        block = array[start : start + _BLOCK].astype(np.float64)
        finite = np.isfinite(block)
        kept = np.where(finite, block, 0.0).clip(-_LARGEST, _LARGEST)
        if shift is None:
            shift = kept.sum(axis=axis) / np.maximum(finite.sum(axis=axis), 1)
        apart = np.where(finite, kept - shift, 0.0)
        count = count + finite.sum(axis=axis)
        total, squares = total + apart.sum(axis=axis), squares + (apart**2).sum(axis=axis)
        low = np.minimum(low, np.where(finite, kept, np.inf).min(axis=axis))
        high = np.maximum(high, np.where(finite, kept, -np.inf).max(axis=axis))
    some = np.maximum(count, 1)
    std = np.sqrt(np.maximum(squares / some - (total / some) ** 2, 0.0))
    none = np.asarray(count) == 0
    return Spread(std=np.asarray(std), low=np.where(none, 0.0, low), high=np.where(none, 0.0, high))


def changed(
    array: Array,
    disturbance: Disturbance,
    found: Spread | None,
    rng: np.random.Generator,
    *,
    first: int = 0,
) -> Array:
    """`array` (rows, ...) disturbed.

    found: the input's spread over all rows looked at, None for texts. first: the number of the first row.
    """
    if disturbance.kind is DisturbanceKind.MISSING:
        return _missing(array, disturbance.level, rng)
    assert found is not None, "texts are only left out"
    if array.dtype == np.uint8:
        found = replace(found, low=np.zeros(()), high=np.full((), 255.0))
    with np.errstate(over="ignore", invalid="ignore"):  # what was not finite stays so
        values = _values(array.astype(np.float64), disturbance, found, rng, first)
        return _as(values, array.dtype)


def _values(
    values: Array, disturbance: Disturbance, found: Spread, rng: np.random.Generator, first: int
) -> Array:
    level = disturbance.level
    match disturbance.kind:
        case DisturbanceKind.NOISE:
            return values + level * found.std * np.asarray(rng.standard_normal(values.shape))
        case DisturbanceKind.ADVERSARIAL:
            signs: Array = rng.choice([-1.0, 1.0], size=values.shape)
            return values + level * found.std * signs
        case DisturbanceKind.BLUR:
            return _blurred(_blurred(values, level, axis=1), level, axis=2)
        case _:
            return _brighter(values, level, found, first)


def _form(item: InputRecipe | None, sent: TensorSpec) -> Form:
    if item is not None and item.accepts is not Accepts.PREPARED and sent.datatype != DataType.BOOL:
        if item.columns:
            return Form.TEXTS if sent.datatype is DataType.BYTES else Form.TABLE
        if any(isinstance(step, ImageStep) for step in item.steps):
            return Form.ENCODED if sent.datatype is DataType.BYTES else Form.IMAGE
        if any(isinstance(step, SignalStep) for step in item.steps):
            return Form.NUMBERS
    floating = sent.datatype in (DataType.FP16, DataType.FP32, DataType.FP64)
    return Form.NUMBERS if floating else Form.OTHER


def _missing(array: Array, share: float, rng: np.random.Generator) -> Array:
    chosen = rng.random(array.shape) < share
    made = array.copy()
    made[chosen] = b"" if array.dtype == np.object_ else _nothing(array.dtype)
    return made


def _nothing(dtype: np.dtype[Any]) -> float | int:
    return np.nan if np.issubdtype(dtype, np.floating) else 0


def _blurred(values: Array, sigma: float, *, axis: int) -> Array:
    """One pass of a separable Gaussian; weights sum to 1."""
    radius = max(int(np.ceil(3 * sigma)), 1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    length = values.shape[axis]
    made: Array = np.zeros_like(values)
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        made += weight * values.take(np.clip(np.arange(length) + offset, 0, length - 1), axis=axis)
    return made


def _brighter(values: Array, level: float, found: Spread, first: int) -> Array:
    signs = np.where((first + np.arange(len(values))) % 2, -1.0, 1.0)
    shift = level * (found.high - found.low) * signs.reshape(-1, *[1] * (values.ndim - 1))
    return np.clip(values + shift, found.low, found.high)


def _as(values: Array, dtype: np.dtype[Any]) -> Array:
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    bounds = np.iinfo(dtype)
    whole: Array = np.rint(values.clip(max(bounds.min, -_EXACT), min(bounds.max, _EXACT)))
    return whole.astype(dtype)
