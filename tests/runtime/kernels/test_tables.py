"""Table kernels: bit for bit what numpy computes column by column in FP32, and close to FP64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.fitting import served_interface, trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Impute,
    InputRecipe,
    OneHot,
    Recipe,
    Select,
    Standardise,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from runtime.kernels.chain import Chain

COLUMNS = ("a", "b", "c", "d")
U = 2.0**-24
UNDERFLOW = 2.0**-120  # some of FP32's smallest normal numbers
VALUES = st.floats(-1e4, 1e4, width=32)
SPREADS = st.floats(2**-7, 100, width=32)


def prepared(raw: Array, *steps: BeforeStep) -> Array:
    """What the kernels make of a table `raw` (rows, 4)."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    spec = TensorSpec(name="row", datatype=datatype, shape=(4,))
    item = InputRecipe(feeds="x", raw=spec, columns=COLUMNS, steps=steps)
    made = trace(item)[-1].spec
    taken = TensorSpec(name="x", datatype=made.datatype, shape=made.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=64)
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, served=served_interface(recipe, engine), engine=engine)
    into = np.empty(chain.prepared_shape({"row": raw})["x"], made.datatype.numpy)
    chain.before({"row": raw}, {"x": into})
    return into


def expected(raw: Array, *steps: BeforeStep) -> Array:
    """The same in FP32 numpy: one whole column at a time, one step after the other."""
    columns = {name: raw[:, at].astype(np.float32) for at, name in enumerate(COLUMNS)}
    for step in steps:
        match step:
            case Select():
                columns = {name: columns[name] for name in step.columns}
            case Impute():
                for name, value in step.values.items():
                    missing = np.isnan(columns[name])
                    columns[name] = np.where(missing, np.float32(value), columns[name])
            case Standardise():
                for name, mean, std in zip(step.columns, step.mean, step.std, strict=True):
                    columns[name] = (columns[name] - np.float32(mean)) / np.float32(std)
            case OneHot():
                columns = {
                    new: values
                    for name, column in columns.items()
                    for new, values in hot(step, name, column).items()
                }
    return np.stack(list(columns.values()), axis=1)


def hot(step: OneHot, name: str, column: Array) -> dict[str, Array]:
    if name != step.column:
        return {name: column}
    return {
        new: (column == np.float32(category)).astype(np.float32)
        for new, category in zip(step.names, step.categories, strict=True)
    }


@st.composite
def steps_on(draw: st.DrawFn, columns: tuple[str, ...]) -> BeforeStep:
    some = st.lists(st.sampled_from(columns), min_size=1, unique=True)
    kind = draw(st.sampled_from([Cast, Select, Impute, Standardise, OneHot]))
    if kind is Cast:
        return Cast()
    names = draw(some)
    if kind is Select:
        return Select(columns=tuple(names))
    numbers = st.lists(VALUES, min_size=len(names), max_size=len(names))
    if kind is Impute:
        return Impute(values=dict(zip(names, draw(numbers), strict=True)))
    if kind is OneHot:
        categories = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True))
        return OneHot(column=names[0], categories=tuple(map(float, categories)))
    spreads = st.lists(SPREADS, min_size=len(names), max_size=len(names))
    return Standardise(columns=tuple(names), mean=tuple(draw(numbers)), std=tuple(draw(spreads)))


@st.composite
def programs(draw: st.DrawFn) -> list[BeforeStep]:
    """A cast and up to five steps, each on columns that are there by then."""
    steps: list[BeforeStep] = [Cast()]
    for _ in range(draw(st.integers(0, 5))):
        spec = TensorSpec(name="row", datatype=DataType.FP64, shape=(4,))
        item = InputRecipe(feeds="x", raw=spec, columns=COLUMNS, steps=tuple(steps))
        steps.append(draw(steps_on(trace(item)[-1].columns)))
    return steps


@st.composite
def tables(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    values = VALUES | st.integers(-3, 3).map(float) | st.just(float("nan"))
    return draw(arrays.arrays(dtype, (draw(st.integers(1, 5)), 4), elements=values))


@given(raw=tables(), steps=programs())
@settings(max_examples=150, deadline=None)
def test_any_order_of_steps(raw: Array, steps: list[BeforeStep]) -> None:
    np.testing.assert_array_equal(prepared(raw, *steps), expected(raw, *steps))


@given(raw=tables(), mean=VALUES, std=SPREADS)
@settings(deadline=None)
def test_standardise_is_close_to_fp64(raw: Array, mean: float, std: float) -> None:
    step = Standardise(columns=COLUMNS, mean=(mean,) * 4, std=(std,) * 4)
    made = prepared(raw, Cast(), step)
    bound = 6 * U * (np.abs(raw.astype(np.float64)) + abs(mean)) / std + UNDERFLOW
    with np.errstate(invalid="ignore"):
        close = np.abs(made - (raw.astype(np.float64) - mean) / std) <= bound
    assert np.all(close | np.isnan(raw))


def test_a_chain_by_hand() -> None:
    raw = np.array([[1.0, np.nan, 2.0, 7.0], [3.0, 5.0, 9.0, np.nan]])
    made = prepared(
        raw,
        Select(columns=("d", "c", "b")),
        Cast(),
        Impute(values={"b": 4.0}),
        Standardise(columns=("b",), mean=(4.0,), std=(2.0,)),
        OneHot(column="c", categories=(2.0, 3.0)),
    )
    np.testing.assert_array_equal(made, [[7.0, 1.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 0.5]])
    assert made.dtype == np.float32


def test_a_category_is_compared_as_fp32() -> None:
    raw = np.full((1, 4), 0.1)
    made = prepared(raw, Cast(), OneHot(column="a", categories=(0.1,)))
    assert made[0, 0] == 1.0


def test_nan_is_no_category() -> None:
    made = prepared(np.full((1, 4), np.nan), Cast(), OneHot(column="a", categories=(0.0,)))
    assert made[0, 0] == 0.0


def test_values_beyond_fp32_become_infinite() -> None:
    made = prepared(np.full((1, 4), -1e300), Cast(), Select(columns=("a",)))
    assert made[0, 0] == -np.inf


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16])
def test_other_datatypes_are_cast(dtype: type[np.generic]) -> None:
    raw = np.array([[0, 1, 2, 3]]).astype(dtype)
    steps = (Cast(), Standardise(columns=COLUMNS, mean=(1.0,) * 4, std=(2.0,) * 4))
    np.testing.assert_array_equal(prepared(raw, *steps), expected(raw, *steps))


def test_select_alone_keeps_the_datatype() -> None:
    raw = np.array([[1, 2, 3, 2**53 + 1]], np.int64)
    np.testing.assert_array_equal(prepared(raw, Select(columns=("d", "a"))), [[2**53 + 1, 1]])
    texts = np.array([[b"w", b"x", b"y", b"z"]], np.object_)
    assert prepared(texts, Select(columns=("c", "b"))).tolist() == [[b"y", b"x"]]


def test_read_only_and_unaligned_tables() -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    raw = np.frombuffer(b"\0" + plain.tobytes(), np.float32, offset=1).reshape(3, 4)
    steps = (Cast(), Impute(values={"a": 1.0}))
    np.testing.assert_array_equal(prepared(raw, *steps), plain)
