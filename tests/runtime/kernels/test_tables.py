"""Table kernels: bit for bit what numpy computes column by column in FP32, and close to FP64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.errors import RequestError
from appliance.fitting import trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Clip,
    Impute,
    InputRecipe,
    Log1p,
    MinMax,
    OneHot,
    Ordinal,
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
    chain = Chain(recipe, engine=engine)
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
            case OneHot() | Ordinal():
                columns = {
                    new: values
                    for name, column in columns.items()
                    for new, values in encoded(step, name, column).items()
                }
            case _:
                columns |= scaled(step, columns)
    return np.stack(list(columns.values()), axis=1)


def scaled(step: BeforeStep, columns: dict[str, Array]) -> dict[str, Array]:
    """The columns that a step does arithmetic on, afterwards."""
    made = {}
    for at, name in enumerate(getattr(step, "columns", ())):
        x = columns[name]
        match step:
            case Standardise():
                made[name] = (x - np.float32(step.mean[at])) / np.float32(step.std[at])
            case MinMax():
                y = (x - np.float32(step.low[at])) / np.float32(step.high[at] - step.low[at])
                made[name] = np.clip(y, 0, 1) if step.clip else y
            case Clip():
                low = np.float32(step.low[at]) if step.low else None
                made[name] = np.clip(x, low, np.float32(step.high[at]) if step.high else None)
            case Log1p():
                with np.errstate(all="ignore"):
                    made[name] = np.log1p(x.astype(np.float64)).astype(np.float32)
    return made


def encoded(step: OneHot | Ordinal, name: str, column: Array) -> dict[str, Array]:
    if name != step.column:
        return {name: column}
    is_category = [column == np.float32(category) for category in step.categories]
    unknown = ~np.any(is_category, axis=0)
    if isinstance(step, Ordinal):
        index = np.argmax(is_category, axis=0).astype(np.float32)
        return {name: np.where(unknown, np.float32(step.unknown), index)}
    if step.unknown == "other":
        is_category.append(unknown)
    return {
        new: known.astype(np.float32) for new, known in zip(step.names, is_category, strict=True)
    }


@st.composite
def steps_on(draw: st.DrawFn, columns: tuple[str, ...]) -> BeforeStep:
    some = st.lists(st.sampled_from(columns), min_size=1, unique=True)
    kind = draw(
        st.sampled_from([Cast, Select, Impute, Standardise, OneHot, MinMax, Clip, Log1p, Ordinal])
    )
    if kind is Cast:
        return Cast()
    names = draw(some)
    if kind is Select:
        return Select(columns=tuple(names))
    numbers = st.lists(VALUES, min_size=len(names), max_size=len(names))
    if kind is Impute:
        return Impute(values=dict(zip(names, draw(numbers), strict=True)))
    if kind is Log1p:
        return Log1p(columns=tuple(names))
    if kind in (OneHot, Ordinal):
        drawn = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True))
        categories = tuple(map(float, drawn))
        if kind is Ordinal:
            return Ordinal(column=names[0], categories=categories, unknown=draw(VALUES))
        unknown = draw(st.sampled_from(["zeros", "other"]))
        return OneHot(column=names[0], categories=categories, unknown=unknown)
    first = tuple(draw(numbers))
    spreads = tuple(draw(st.lists(SPREADS, min_size=len(names), max_size=len(names))))
    if kind is Standardise:
        return Standardise(columns=tuple(names), mean=first, std=spreads)
    high = tuple(low + spread for low, spread in zip(first, spreads, strict=True))
    if kind is MinMax:
        return MinMax(columns=tuple(names), low=first, high=high, clip=draw(st.booleans()))
    low, high = draw(st.sampled_from([(first, high), (first, ()), ((), high)]))
    return Clip(columns=tuple(names), low=low, high=high)


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
@settings(max_examples=250)
def test_any_order_of_steps(raw: Array, steps: list[BeforeStep]) -> None:
    np.testing.assert_array_equal(prepared(raw, *steps), expected(raw, *steps))


@given(raw=tables(), mean=VALUES, std=SPREADS)
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


def test_min_max_clip_and_log1p_by_hand() -> None:
    made = prepared(
        np.array([[15.0, -1.0, np.nan, 7.0], [30.0, np.inf, -1.0, -1.0]]),
        Cast(),
        MinMax(columns=("a",), low=(10.0,), high=(20.0,), clip=True),
        Clip(columns=("b", "c"), low=(0.0, 0.0), high=(9.0, 1.0)),
        Log1p(columns=("d",)),
    )
    wanted = [[0.5, 0.0, np.nan, np.log(8.0)], [1.0, 9.0, 0.0, -np.inf]]
    np.testing.assert_allclose(made, wanted, rtol=2**-24)


@pytest.mark.parametrize("kind", [OneHot, Ordinal])
def test_an_unknown_number_is_refused_by_column_and_value(kind: type[OneHot | Ordinal]) -> None:
    step = kind(column="c", categories=(1.0, 2.0), unknown="error")
    table = np.array([[5, 5, 1, 0], [6, 6, 2, 0]], np.int64)
    assert prepared(table, Cast(), step).shape[0] == 2
    table[1, 2] = 3
    # Also where the encoded column is not kept.
    for steps in ((Cast(), step), (Cast(), step, Select(columns=("a",)))):
        with pytest.raises(RequestError, match="column 'c' has the value 3 in row 1") as caught:
            prepared(table, *steps)
        assert "trained on" in caught.value.remedy
    with pytest.raises(RequestError, match="has the value nan in row 0"):
        prepared(np.full((1, 4), np.nan), Cast(), step)
    flags = np.zeros((1, 4), np.bool_)
    with pytest.raises(RequestError, match="has the value False in row 0"):
        prepared(flags, Cast(), step)


def test_an_imputed_number_is_known() -> None:
    steps = (Impute(values={"c": 2.0}), Ordinal(column="c", categories=(1.0, 2.0)))
    assert prepared(np.full((1, 4), np.nan), Cast(), *steps)[0, 2] == 1.0


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
