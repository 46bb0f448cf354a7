"""Shapes and datatypes out of the common run, from the file to served answers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.config import Config, EngineConfig, StateConfig
from appliance.errors import ApplianceError, RequestError, SourceUnsupported, SpecError
from appliance.recipe import Cast, InputRecipe, Recipe
from appliance.signing import SigningKey
from appliance.store import Store
from appliance.tensors import AxisRange, DataType, TensorSpec
from compiler.build import build
from compiler.opening.graph import axes_of, interface_of
from compiler.opening.source import Source
from compiler.pack import pack
from runtime.kernels.chain import Chain
from runtime.servable import load_proven

FLOAT, DOUBLE, INT64, STRING = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.STRING,
)
SPEC = """
[model]
name = "odd"
release_notes = "odd"
{options}
[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 2
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = {{}}
"""


@pytest.fixture
def served(tmp_path):
    """Packs and builds a model with its rows, and loads it: served(model, x=rows, options="...")."""
    key = SigningKey.generate()
    key.public.save(tmp_path / "state" / "trust" / "engineer.pub")
    config = Config(
        state=StateConfig(directory=str(tmp_path / "state")), engine=EngineConfig(threads=1)
    )
    loaded = []

    def served(model: onnx.ModelProto, options: str = "", **rows: np.ndarray):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        (tmp_path / "m.toml").write_text(SPEC.format(options=options))
        np.savez(tmp_path / "rows.npz", **rows)
        bundle = tmp_path / "m.holdfast"
        pack(tmp_path / "m.onnx", tmp_path / "m.toml", bundle, key=key, in_process=True)
        version = build(bundle, config, in_process=True).version
        loaded.append(load_proven(Store(config.state.store).open("odd", version.number), threads=1))
        return loaded[-1]

    yield served
    for servable in loaded:
        servable.close()


def answer(servable, **inputs) -> dict[str, np.ndarray]:
    (given,) = servable.run([inputs])
    if isinstance(given, ApplianceError):
        raise given
    return given.outputs


def test_scalars_are_served_one_at_a_time(served, make_onnx):
    model = make_onnx(
        [helper.make_node("Mul", ["a", "b"], ["product"])],
        inputs={"a": (FLOAT, []), "b": (FLOAT, [])},
        outputs={"product": (FLOAT, [])},
        constants={},
    )
    rows = np.arange(4, dtype=np.float32)
    servable = served(model, a=rows, b=rows + 1)
    got = answer(servable, a=np.array(3.0, np.float32), b=np.array(4.0, np.float32))
    assert got["product"].shape == ()
    assert got["product"] == 12.0


def test_a_text_without_axes_is_served(served, make_onnx):
    model = make_onnx(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": (STRING, [])},
        outputs={"y": (STRING, [])},
        constants={},
    )
    servable = served(model, x=np.array(["a", "längst"]))
    text = np.empty((), np.object_)
    text[()] = b"tail\0"
    assert answer(servable, x=text)["y"][()] == b"tail\0"


def test_an_axis_of_no_length_is_served(served, make_onnx):
    model = make_onnx(
        [helper.make_node("Concat", ["x", "nothing"], ["both"], axis=1)],
        inputs={"x": (FLOAT, ["rows", 2]), "nothing": (FLOAT, ["rows", 0])},
        outputs={"both": (FLOAT, ["rows", 2])},
        constants={},
    )
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    servable = served(model, x=rows, nothing=np.zeros((4, 0), np.float32))
    got = answer(servable, x=rows, nothing=np.zeros((4, 0), np.float32))
    np.testing.assert_array_equal(got["both"], rows)


def test_an_output_of_no_length_is_served(served, make_onnx):
    model = make_onnx(
        [
            helper.make_node("Slice", ["x", "zero", "zero", "one"], ["nothing"]),
            helper.make_node("Neg", ["x"], ["y"]),
        ],
        inputs={"x": (FLOAT, ["rows", 2])},
        outputs={"nothing": (FLOAT, ["rows", 0]), "y": (FLOAT, ["rows", 2])},
        constants={"zero": np.array([0]), "one": np.array([1])},
    )
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert answer(served(model, x=rows), x=rows)["nothing"].shape == (4, 0)


def test_doubles_and_long_integers_keep_every_bit(served, make_onnx):
    model = make_onnx(
        [
            helper.make_node("Add", ["x", "tiny"], ["sum"]),
            helper.make_node("Add", ["n", "one"], ["next"]),
        ],
        inputs={"x": (DOUBLE, ["rows", 1]), "n": (INT64, ["rows", 1])},
        outputs={"sum": (DOUBLE, ["rows", 1]), "next": (INT64, ["rows", 1])},
        constants={"tiny": np.array([2.0**-40]), "one": np.array([1])},
    )
    x, n = np.array([[1.0], [2.0], [3.0]]), np.array([[2**60], [-(2**53)], [5]])
    got = answer(served(model, x=x, n=n), x=x, n=n)
    assert (got["sum"] - x == 2.0**-40).all()
    assert (got["next"] - n == 1).all()


def test_texts_go_in_and_out_beside_numbers(served, make_onnx):
    model = make_onnx(
        [
            helper.make_node("Equal", ["word", "wanted"], ["found"]),
            helper.make_node("Where", ["found", "yes", "word"], ["said"]),
            helper.make_node("Neg", ["x"], ["y"]),
        ],
        inputs={"word": (STRING, ["rows", 2]), "x": (FLOAT, ["rows", 1])},
        outputs={"said": (STRING, ["rows", 2]), "y": (FLOAT, ["rows", 1])},
        constants={"wanted": np.array(["süd"], object), "yes": np.array(["ja"], object)},
        opset=19,
    )
    words = np.array([["süd", "a"], ["b", ""], ["c", "süd"], ["d", "e" * 50]])
    x = np.arange(4, dtype=np.float32)[:, None]
    servable = served(model, word=words, x=x)
    sent = np.empty((3, 2), np.object_)
    sent[:] = [[b"s\xc3\xbcd", b"x"], [b"", b"y"], [b"z", b"\xf0\x9f\x8c\x8d"]]
    got = answer(servable, word=sent, x=x[:3])
    assert got["said"].tolist() == [[b"ja", b"x"], [b"", b"y"], [b"z", b"\xf0\x9f\x8c\x8d"]]
    assert got["said"].dtype == np.object_
    sent[1, 1] = b"\xff\xfe"
    with pytest.raises(RequestError, match="'word' holds bytes that are not UTF-8"):
        answer(servable, word=sent, x=x[:3])
    # One bad request costs its neighbours nothing.
    good = {"word": sent[:1], "x": x[:1]}
    bad = {"word": sent[1:2], "x": x[:1]}
    first, second = servable.run([good, bad])
    assert first.outputs["said"].tolist() == [[b"ja", b"x"]]
    assert isinstance(second, RequestError)


def test_rows_of_another_kind_than_text_are_refused(served, make_onnx):
    model = make_onnx(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": (STRING, ["rows"])},
        outputs={"y": (STRING, ["rows"])},
        constants={},
    )
    with pytest.raises(SpecError, match=r"text \(dtype U or S\)"):
        served(model, x=np.arange(3))
    with pytest.raises(SpecError, match="that are not UTF-8"):
        served(model, x=np.array([b"a", b"\xff"]))


@pytest.fixture
def pooling(make_onnx) -> onnx.ModelProto:
    """The mean of an image of any size whose sides are even: it is halved first."""
    return make_onnx(
        [
            helper.make_node("SpaceToDepth", ["image"], ["deep"], blocksize=2),
            helper.make_node("GlobalAveragePool", ["deep"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["scores"]),
        ],
        inputs={"image": (FLOAT, ["rows", 1, "height", None])},
        outputs={"scores": (FLOAT, ["rows", 4])},
        constants={},
    )


AXES = """
[model.axes.height]
min = 2
opt = 8
max = 32
step = 2
[model.axes."image.3"]
min = 2
opt = 6
max = 16
step = 2
"""


def test_sizes_within_the_ranges_are_served_and_others_refused(served, pooling):
    rows = np.random.default_rng(1).normal(size=(3, 1, 8, 6)).astype(np.float32)
    servable = served(pooling, AXES, image=rows)
    (spec,) = servable.interface.inputs
    assert spec.lengths() == "[1, 2 to 32 by 2, 2 to 16 by 2]"
    for height, width in ((2, 2), (32, 16), (10, 4)):
        image = np.ones((2, 1, height, width), np.float32)
        servable.interface.check_shape(spec, image.shape, model="odd")
        np.testing.assert_allclose(answer(servable, image=image)["scores"], 1.0)
    for shape in ((1, 1, 34, 6), (1, 1, 8, 7)):
        with pytest.raises(RequestError, match="2 to 32 by 2"):
            servable.interface.check_shape(spec, shape, model="odd")


def test_what_a_recipe_makes_is_held_to_the_ranges_too(pooling):
    """Clients see no range where the recipe takes any size."""
    axes = {"height": AxisRange(min=2, opt=4, max=8), "image.3": AxisRange(min=2, opt=4, max=8)}
    engine = interface_of(Source(data=b"", model=pooling), 4, axes)
    raw = TensorSpec(name="raw", datatype=DataType.UINT8, shape=(1, -1, -1))
    item = InputRecipe(feeds="image", raw=raw, steps=(Cast(datatype="FP32"),))
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, engine=engine)
    small, large = np.zeros((2, 1, 8, 2), np.uint8), np.zeros((2, 1, 9, 2), np.uint8)
    assert chain.prepared_shape({"raw": small}) == {"image": (2, 1, 8, 2)}
    with pytest.raises(
        RequestError, match=r"would be \[1, 9, 2\], and the model takes \[1, 2 to 8"
    ):
        chain.prepared_shape({"raw": large})


def test_a_range_that_no_array_holds_is_the_specs_fault(served, pooling):
    rows = np.ones((3, 1, 8, 6), np.float32) * np.arange(3, dtype=np.float32)[:, None, None, None]
    wide = AXES.replace("max = 32", "max = 2_000_000_000").replace(
        "max = 16", "max = 2_000_000_000"
    )
    with pytest.raises(SpecError, match="more than an array can hold"):
        served(pooling, wide, image=rows)


def test_a_range_that_the_model_fails_in_is_refused_with_the_size(served, pooling):
    rows = np.ones((3, 1, 8, 6), np.float32) * np.arange(3, dtype=np.float32)[:, None, None, None]
    odd = AXES.replace("step = 2\n[model", "[model")
    with pytest.raises(SourceUnsupported, match=r"fails at 'image' \[1, 17, 8\], within"):
        served(pooling, odd, image=rows)


def test_rows_outside_the_ranges_are_refused(served, pooling):
    with pytest.raises(SpecError, match=r"within \[1, 2 to 32 by 2, 2 to 16 by 2\]"):
        served(pooling, AXES, image=np.ones((3, 1, 40, 6), np.float32))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("heigth", "did you mean 'height'"),
        ("rows", "is the batch axis"),
        ("image.0", "is the batch axis"),
        ("image.1", "no input has an open axis of this name"),
        ("scores.1", "no input has an open axis of this name"),
    ],
)
def test_a_range_for_an_axis_that_is_not_there_is_refused(pooling, name, told):
    source = Source(data=b"", model=pooling)
    with pytest.raises(SpecError) as refused:
        interface_of(source, 4, {name: AxisRange(min=1, opt=1, max=2)})
    assert told in f"{refused.value} {refused.value.remedy}"


@pytest.mark.parametrize("batch_max", [0, 4])
def test_an_interface_is_made_again_from_its_own_ranges(pooling, batch_max):
    """As a build does it, to compare with what the manifest says."""
    source = Source(data=b"", model=pooling)
    axes = {"height": AxisRange(min=1, opt=1, max=2), "image.3": AxisRange(min=3, opt=4, max=5)}
    found = interface_of(source, batch_max, axes)
    assert found.inputs[0].ranges[-2:] == tuple(axes.values())
    assert interface_of(source, batch_max, axes_of(found)) == found
    assert interface_of(source, batch_max) != found


def test_optional_and_sequence_inputs_are_refused_by_name(make_onnx):
    tensor = helper.make_tensor_type_proto(FLOAT, ["rows", 3])
    for kind, told in (
        (helper.make_optional_type_proto(tensor), "'x' may be absent"),
        (helper.make_sequence_type_proto(tensor), "'x' is a sequence"),
    ):
        model = make_onnx()
        model.graph.input[0].type.CopyFrom(kind)
        with pytest.raises(SourceUnsupported, match=told):
            interface_of(Source(data=b"", model=model), None)
