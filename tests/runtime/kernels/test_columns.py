"""Tables that are sent column by column, with texts among them."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.fitting import trace
from appliance.recipe import (
    Accepts,
    BeforeStep,
    Cast,
    Impute,
    InputRecipe,
    OneHot,
    Ordinal,
    Recipe,
    Select,
    Standardise,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain
from runtime.kernels.vector_fit import fit_layout

COLUMNS = ("age", "site", "dose", "ward")
TEXTS = ("site", "ward")
SITES = ("north", "süd", "")
STEPS: tuple[BeforeStep, ...] = (
    Cast(),
    Standardise(columns=("age",), mean=(40.0,), std=(10.0,)),
    OneHot(column="site", categories=SITES, unknown="other"),
    Ordinal(column="ward", categories=("a", "b"), unknown=-1.0),
)


def chain_of(
    *steps: BeforeStep,
    datatype: DataType = DataType.FP64,
    columns: tuple[str, ...] = COLUMNS,
    texts: tuple[str, ...] = TEXTS,
    batch_max: int = 64,
) -> Chain:
    raw = TensorSpec(name="row", datatype=datatype, shape=(len(columns),))
    item = InputRecipe(
        feeds="x", raw=raw, columns=columns, texts=texts, accepts=Accepts.COLUMNS, steps=steps
    )
    made = trace(item)[-1].spec
    taken = TensorSpec(name="x", datatype=made.datatype, shape=made.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=batch_max)
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, engine=engine)
    chain.warm()
    return chain


def prepared(chain: Chain, columns: dict[str, Array], dtype: type = np.float32) -> Array:
    into = np.empty(chain.prepared_shape(columns)["x"], dtype)
    chain.before(columns, {"x": into})
    return into


def texts(*values: str) -> Array:
    return np.array([[value.encode()] for value in values], np.object_)


CHAIN = chain_of(*STEPS)


@given(
    rows=st.lists(
        st.tuples(
            st.floats(-1e4, 1e4, width=32),
            st.sampled_from(SITES) | st.text(max_size=4),
            st.integers(-9, 9),
            st.sampled_from(["a", "b", "c", ""]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_and_texts_together(
    rows: list[tuple[float, str, int, str]],
) -> None:
    ages, sites, doses, wards = zip(*rows, strict=True)
    made = prepared(
        CHAIN,
        {
            "age": np.array(ages, np.float64)[:, None],
            "site": texts(*sites),
            "dose": np.array(doses, np.float64)[:, None],
            "ward": texts(*wards),
        },
    )
    for row, (age, site, dose, ward) in zip(made, rows, strict=True):
        scaled = (np.float32(age) - np.float32(40)) / np.float32(10)
        hot = [float(site == known) for known in SITES]
        index = {"a": 0.0, "b": 1.0}.get(ward, -1.0)
        assert row.tolist() == [scaled, *hot, float(sum(hot) == 0), dose, index]


def test_the_order_of_columns_is_the_recipes_not_the_senders() -> None:
    one = np.array([[1.0]])
    sent = {"dose": one * 2, "ward": texts("b"), "site": texts("süd"), "age": one * 40}
    assert prepared(CHAIN, sent).tolist() == [[0, 0, 1, 0, 0, 2, 1]]


def test_without_a_batch_axis_a_column_is_one_value() -> None:
    chain = chain_of(*STEPS, batch_max=0)
    one = np.array([1.0])
    sent = {"age": one * 40, "site": texts("north")[0], "dose": one, "ward": texts("?")[0]}
    assert prepared(chain, sent).tolist() == [0, 1, 0, 0, 0, 1, -1]


def test_a_missing_text_takes_its_imputed_value() -> None:
    steps = (
        Impute(values={"site": "süd"}),
        OneHot(column="site", categories=("north", "süd")),
    )
    chain = chain_of(*steps, columns=("site",), texts=("site",), datatype=DataType.FP32)
    made = prepared(chain, {"site": texts("", "north", "west")})
    assert made.tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("kind", [OneHot, Ordinal])
def test_an_unknown_text_is_refused_by_column_and_value(kind: type[OneHot | Ordinal]) -> None:
    step = kind(column="site", categories=("north",), unknown="error")
    chain = chain_of(step, columns=("site",), texts=("site",), datatype=DataType.FP32)
    assert prepared(chain, {"site": texts("north")}).size == 1
    with pytest.raises(RequestError, match="column 'site' has the value 'south' in row 1"):
        prepared(chain, {"site": texts("north", "south")})
    hostile = np.array([[b"\xff\n\x1b[31m" + b"x" * 10_000]], np.object_)
    with pytest.raises(RequestError) as caught:
        prepared(chain, {"site": hostile})
    assert re.fullmatch(r"[^\n\x1b]{1,250}", str(caught.value))


def test_texts_that_are_left_out_need_no_codes() -> None:
    chain = chain_of(Cast(), Select(columns=("dose", "age")))
    one = np.array([[1.0]])
    sent = {"age": one * 40, "site": texts("?"), "dose": one, "ward": texts("")}
    assert prepared(chain, sent).tolist() == [[1, 40]]


def test_a_table_of_texts_in_one_tensor() -> None:
    raw = TensorSpec(name="row", datatype=DataType.BYTES, shape=(2,))
    item = InputRecipe(
        feeds="x",
        raw=raw,
        columns=("site", "ward"),
        steps=(
            OneHot(column="site", categories=("n", "s")),
            Ordinal(column="ward", categories=("a", "b"), unknown=9.0),
        ),
    )
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(3,))
    engine = Interface(inputs=(taken,), outputs=(), batch_max=4)
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, engine=engine)
    sent = np.array([[b"s", b"b"], [b"n", b"?"]], np.object_)
    assert prepared(chain, {"row": sent}).tolist() == [[0, 1, 1], [1, 0, 9]]


def test_columns_that_are_only_joined_keep_their_datatype() -> None:
    large = np.array([[2**53 + 1]])
    for steps in ((), (Select(columns=("b", "a")),)):
        chain = chain_of(*steps, columns=("a", "b"), texts=(), datatype=DataType.INT64)
        made = prepared(chain, {"a": large, "b": large - 1}, np.int64)
        assert sorted(made[0].tolist()) == [2**53, 2**53 + 1]
    chain = chain_of(Cast(), columns=("a", "b"), texts=(), datatype=DataType.INT64)
    assert prepared(chain, {"a": large, "b": large - 1}).tolist() == [[2.0**53] * 2]


def test_drift_values_are_called_as_the_columns() -> None:
    raw = TensorSpec(name="row", datatype=DataType.FP64, shape=(4,))
    item = InputRecipe(
        feeds="x", raw=raw, columns=COLUMNS, texts=TEXTS, accepts=Accepts.COLUMNS, steps=STEPS
    )
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(7,))
    engine = Interface(inputs=(taken,), outputs=(), batch_max=4)
    table = np.zeros((3, 7), np.float32)
    layout = fit_layout(Recipe(inputs=(item,)), engine, {"x": table}, {})
    assert layout.names == tuple(
        f"x.{name}"
        for name in ("age", "site=north", "site=süd", "site=", "site=other", "dose", "ward")
    )


def test_threads_share_one_chain() -> None:
    step = Ordinal(column="site", categories=tuple(map(str, range(8))))
    chain = chain_of(step, columns=("site",), texts=("site",), datatype=DataType.FP32)

    def codes(seed: int) -> bool:
        wanted = np.random.default_rng(seed).integers(0, 8, 50)
        sent = texts(*map(str, wanted))
        return all(np.array_equal(prepared(chain, {"site": sent})[:, 0], wanted) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(codes, range(8)))


def test_an_engine_that_takes_texts_has_the_empty_ones_imputed() -> None:
    steps = (Impute(values={"ward": "a"}), Select(columns=("ward", "site")))
    chain = chain_of(*steps, datatype=DataType.BYTES, columns=TEXTS, texts=())
    sent = {"site": texts("", "nord"), "ward": texts("", "b")}
    assert prepared(chain, sent, object).tolist() == [[b"a", b""], [b"b", b"nord"]]


def test_what_was_imputed_is_missing_no_more() -> None:
    steps = (Impute(values={"ward": "b"}), Impute(values={"ward": "a"}))
    encoded = Ordinal(column="ward", categories=("a", "b"))
    chain = chain_of(*steps, encoded, datatype=DataType.BYTES, columns=("ward",), texts=())
    assert prepared(chain, {"ward": texts("", "a")}).tolist() == [[1.0], [0.0]]


def test_one_tensor_of_texts_may_say_which_columns_are_texts() -> None:
    raw = TensorSpec(name="row", datatype=DataType.BYTES, shape=(2,))
    steps = tuple(Ordinal(column=name, categories=("a", "b")) for name in ("site", "ward"))
    item = InputRecipe(feeds="x", raw=raw, columns=("site", "ward"), texts=("site",), steps=steps)
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(2,))
    chain = Chain(
        Recipe(inputs=(item,)), engine=Interface(inputs=(taken,), outputs=(), batch_max=4)
    )
    assert prepared(chain, {"row": np.array([[b"b", b"a"]], np.object_)}).tolist() == [[1.0, 0.0]]
