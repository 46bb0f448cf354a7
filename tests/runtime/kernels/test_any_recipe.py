"""Any recipe of any steps is refused when it is packed, or runs and gives what its interface says.

Recipes grow step by step over random specs; one that does not fit must be refused with RecipeError. What is
accepted runs with its kernels as plain Python, which checks every index, behind a check that each call has the
types that the kernel would have been compiled for. Buffers are filled with two different values first, so that a
value that nobody writes shows.
"""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.errors import RecipeError, RequestError
from appliance.fitting import served_interface, trace
from appliance.recipe import (
    Accepts,
    Cast,
    Clip,
    Colour,
    Crop,
    Decode,
    Frame,
    Impute,
    InputRecipe,
    Layout,
    Log,
    Log1p,
    Mel,
    MinMax,
    Normalise,
    OneHot,
    Ordinal,
    Pad,
    Quantise,
    Range,
    Recipe,
    Resize,
    Scale,
    Select,
    Spectrum,
    Standardise,
    Transpose,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

MANY = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], print_blob=False)
STEPS_MOST = 6

pytestmark = pytest.mark.usefixtures("plain_kernels")


sides = st.sampled_from([1, 2, 3, 5, 8])
lengths = st.sampled_from([-1, 0, 1, 2, 3, 4, 7])
fills = st.sampled_from([0.0, 114.0, 255.0, 0.5, -1.0])
floats = st.sampled_from([0.0, 1.0, -2.5, 0.1, 1e-44, 3e38, -3e38])
names = st.sampled_from("abcd")
words = st.sampled_from(["", "u", "v", "\N{SNOWMAN}"])
named = st.lists(names, max_size=3).map(tuple)
categories = st.lists(floats, max_size=3) | st.lists(words, max_size=3)
datatypes = st.sampled_from([*DataType])


def numbers(most: int = 3) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(floats, max_size=most).map(tuple)


def chosen(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


image_steps = st.one_of(
    st.builds(
        Decode, channels=chosen(1, 3, 4), order=chosen("RGB", "BGR"), pixels_max=chosen(4, 99)
    ),
    st.builds(Colour, to=chosen("swapped", "grey", "colour"), order=chosen("RGB", "BGR")),
    st.builds(
        Crop,
        height=sides,
        width=sides,
        top=chosen(None, None, 0, 2),
        left=chosen(None, None, 0, 1),
        small=chosen("refuse", "pad"),
        fill=fills,
    ),
    st.builds(Pad, height=sides, width=sides, align=chosen("centre", "start"), fill=fills),
    st.builds(Pad, multiple=sides, height=chosen(None, None, 3), fill=fills),
    st.builds(
        Resize,
        height=sides,
        width=sides,
        method=chosen("nearest", "bilinear", "bicubic", "area", "lanczos"),
        like=chosen("opencv", "pillow"),
        fit=chosen("stretch", "letterbox", "cover"),
        fill=fills,
    ),
    st.builds(Normalise, mean=numbers(), std=numbers(), scale=floats),
    st.builds(Normalise, mean=st.just((0.5,)), std=st.just((2.0,))),
    st.builds(
        Quantise,
        datatype=chosen("UINT8", "INT8"),
        scale=chosen(0.5, 1e-46),
        zero_point=chosen(0, 200),
    ),
    st.builds(Layout, order=chosen("CHW", "HW")),
)
table_steps = st.one_of(
    st.builds(Select, columns=named),
    st.builds(Impute, values=st.dictionaries(names, floats | words, max_size=2)),
    st.builds(Standardise, columns=named, mean=numbers(), std=numbers()),
    st.builds(MinMax, columns=named, low=numbers(), high=numbers(), clip=st.booleans()),
    st.builds(
        MinMax, columns=names.map(lambda name: (name,)), low=st.just((0.0,)), high=st.just((4.0,))
    ),
    st.builds(Clip, columns=named, low=numbers(), high=numbers()),
    st.builds(Log1p, columns=named),
    st.builds(
        OneHot,
        column=names,
        categories=categories.map(tuple),
        unknown=chosen("zeros", "error", "other"),
    ),
    st.builds(
        Ordinal, column=names, categories=categories.map(tuple), unknown=chosen("error", -1.0)
    ),
)
signal_steps = st.one_of(
    st.builds(Scale, factor=floats, shift=floats),
    st.builds(
        Frame,
        length=sides,
        hop=sides,
        window=chosen("hann", "hamming", "rectangular"),
        periodic=st.booleans(),
        centre=chosen("none", "reflect", "zeros"),
    ),
    st.builds(Spectrum, kind=chosen("power", "magnitude"), size=chosen(None, 1, 4, 8)),
    st.builds(
        Mel,
        rate=chosen(1.0, 8000.0),
        mels=sides,
        low=chosen(0.0, 20.0),
        scale=chosen("htk", "slaney"),
    ),
    st.builds(Log, base=chosen("natural", "log10", "decibel")),
    st.builds(Range, below=chosen(1e-30, 80.0)),
    st.builds(Transpose),
)
before_steps = st.one_of(st.just(Cast()), image_steps, table_steps, signal_steps)


@st.composite
def input_recipes(draw: st.DrawFn, family: str) -> InputRecipe:
    """Recipes of one input, most of whose steps fit."""
    shape: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    if family == "table":
        columns = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
        texts = tuple(draw(st.lists(st.sampled_from(columns), max_size=2, unique=True)))
        shape, datatype = (
            (len(columns),),
            draw(chosen(DataType.FP32, DataType.BYTES, DataType.INT64)),
        )
    elif family == "file":
        shape, datatype = (1,), DataType.BYTES
    else:
        shape = tuple(draw(st.lists(lengths, max_size=4)))
        if family == "image":
            shape = (draw(lengths), draw(lengths), draw(chosen(1, 2, 3, 4, 5)))
        if family == "signal":
            shape = (draw(chosen(-1, 0, 1, 9, 20)), *draw(chosen((), (), (1,), (2,), (-1,))))
        datatype = draw(chosen(DataType.UINT8, DataType.FP32) | datatypes)
    item = InputRecipe(
        feeds="x",
        raw=TensorSpec(name="r", datatype=datatype, shape=shape),
        columns=columns,
        texts=texts,
        accepts=draw(st.sampled_from([Accepts.RAW, *Accepts])),
        steps=(),
    )
    return grown(draw, item, FAMILIES[family] | before_steps)


FAMILIES = {
    "image": st.just(Cast()) | image_steps,
    "file": image_steps,
    "table": st.just(Cast()) | table_steps,
    "signal": st.just(Cast()) | signal_steps,
    "any": before_steps,
}


def grown(draw: st.DrawFn, item: InputRecipe, steps: st.SearchStrategy[Any]) -> InputRecipe:
    """`item` with steps; of those that do not fit most are left out again, not all."""
    for each in draw(st.lists(steps, max_size=STEPS_MOST)):
        longer = InputRecipe(
            feeds=item.feeds,
            raw=item.raw,
            columns=item.columns,
            texts=item.texts,
            accepts=item.accepts,
            steps=(*item.steps, each),
        )
        try:
            trace(longer)
        except RecipeError:
            if draw(st.integers(0, 9)):
                continue
            return longer
        item = longer
    return item


def png(rows: int, columns: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((rows, columns, 3), 7, np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = [png(1, 1), png(5, 3), png(2, 40), b"", b"no picture"]
values_sent = st.sampled_from([0, 1, 2, 255])
texts_sent = st.sampled_from([b"", b"u", b"v", b"\xff", *FILES])


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec, lead: tuple[int, ...], open_length: int) -> Array:
    shape = (*lead, *(open_length if length == -1 else length for length in spec.shape))
    array = np.empty(shape, spec.datatype.numpy)
    if spec.datatype is DataType.BYTES:
        array.reshape(-1)[:] = draw(st.lists(texts_sent, min_size=array.size, max_size=array.size))
        return array
    array[...] = np.arange(array.size).reshape(shape) % 3 * draw(values_sent) > 0
    if array.dtype.kind == "f" and array.size:
        array.reshape(-1)[0] = draw(st.sampled_from([0.0, np.nan, np.inf, -1.5, 3.0]))
    return array


@pytest.mark.parametrize("family", FAMILIES)
@MANY
@given(data=st.data())
def test_what_goes_before_the_engine(family: str, data: st.DataObject) -> None:
    item, batch_max = data.draw(input_recipes(family)), data.draw(st.sampled_from([0, 3]))
    recipe = Recipe(inputs=(item,))
    try:
        made = trace(item)[-1].spec
        taken = TensorSpec(name="x", datatype=made.datatype, shape=made.shape)
        engine = Interface(inputs=(taken,), outputs=(), batch_max=batch_max)
        served = served_interface(recipe, engine)
        chain = Chain(recipe, engine=engine)
        chain.warm()  # sizes that no image can have show here
    except RecipeError:
        return
    lead = (data.draw(st.integers(1, 3)),) if batch_max else ()
    open_length = data.draw(st.sampled_from([0, 1, 4, 6, 17]))
    sent = {spec.name: data.draw(arrays(spec, lead, open_length)) for spec in served.inputs}
    try:
        shape = chain.prepared_shape(sent)["x"]
        assert taken.fits(shape[len(lead) :])
        assert shape[: len(lead)] == lead
        first, second = (_prepared(chain, sent, shape, taken.datatype, blank) for blank in (0, 1))
    except RequestError:
        return
    np.testing.assert_array_equal(first, second)


def _prepared(
    chain: Chain, sent: dict[str, Array], shape: tuple[int, ...], datatype: DataType, blank: int
) -> Array:
    into = np.full(shape, blank, datatype.numpy)
    chain.before(sent, {"x": into})
    return into
