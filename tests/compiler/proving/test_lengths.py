"""Golden rows at the other lengths of open axes."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.errors import GoldenMissed
from appliance.fitting import served_interface
from appliance.golden import Golden
from appliance.manifest import Precision, Tolerances
from appliance.recipe import Accepts, Cast, InputRecipe, Layout, Recipe
from appliance.tensors import AxisRange, DataType, Interface, TensorSpec
from compiler.progress import Silent
from compiler.proving.comparison import compare, worst_of
from compiler.proving.lengths import golden_at_lengths

FLOAT = TensorProto.FLOAT
HEIGHT, WIDTH = AxisRange(min=2, opt=4, max=7), AxisRange(min=3, opt=5, max=5)


def spec(name, datatype, *shape, ranges=()):
    return TensorSpec(name=name, datatype=datatype, shape=shape, ranges=ranges)


@pytest.fixture
def directory(tmp_path, make_onnx):
    """A bundle's directory with a model of images of any size."""
    model = make_onnx(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["scores"]),
        ],
        inputs={"image": (FLOAT, ["rows", 2, "height", "width"])},
        outputs={"scores": (FLOAT, ["rows", 2])},
        constants={},
    )
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


def manifest(item=None, ranges=(None, HEIGHT, WIDTH)):
    engine = Interface(
        inputs=(spec("image", DataType.FP32, 2, -1, -1, ranges=ranges),),
        outputs=(spec("scores", DataType.FP32, 2),),
        batch_max=4,
    )
    recipe = Recipe(inputs=() if item is None else (item,))
    return SimpleNamespace(
        engine=engine,
        stateless=engine,
        states=(),
        recipe=recipe,
        served=served_interface(recipe, engine),
        tolerances=Tolerances(),
    )


def golden(name="image", shape=(3, 2, 4, 5), dtype=np.float32):
    rows = np.random.default_rng(4).integers(0, 9, size=shape).astype(dtype)
    return Golden(inputs={name: rows}, outputs={})


def test_rows_are_repeated_or_cut_and_the_reference_answers_them(directory):
    rows = golden()
    found = dict(golden_at_lengths(rows, directory, manifest()))
    assert list(found) == ["image [2, 2, 3]", "image [2, 7, 5]", "image [2, 5, 5]"]
    tall = found["image [2, 7, 5]"]
    sent = rows.inputs["image"]
    np.testing.assert_array_equal(tall.inputs["image"][:, :, :4], sent)
    np.testing.assert_array_equal(tall.inputs["image"][:, :, 4:], sent[:, :, :3])
    wanted = tall.inputs["image"].mean(axis=(2, 3))
    np.testing.assert_allclose(tall.outputs["scores"], wanted, rtol=1e-6)


def test_a_raw_image_is_made_longer_where_its_own_axes_are_open(directory):
    raw = spec("photo", DataType.UINT8, -1, -1, 2)
    item = InputRecipe(feeds="image", raw=raw, steps=(Cast(datatype="FP32"), Layout()))
    found = dict(
        golden_at_lengths(golden("photo", (3, 4, 5, 2), np.uint8), directory, manifest(item))
    )
    assert list(found) == ["photo [2, 3, 2]", "photo [7, 5, 2]", "photo [5, 5, 2]"]
    for other in found.values():
        wanted = other.inputs["photo"].mean(axis=(1, 2))
        np.testing.assert_allclose(other.outputs["scores"], wanted, rtol=1e-6)


def test_what_clients_prepare_is_sent_as_it_is(directory):
    raw = spec("photo", DataType.UINT8, -1, -1, 2)
    steps = (Cast(datatype="FP32"), Layout())
    item = InputRecipe(feeds="image", raw=raw, accepts=Accepts.PREPARED, steps=steps)
    assert len(list(golden_at_lengths(golden(), directory, manifest(item)))) == 3


def test_fixed_lengths_have_no_others(directory):
    raw = spec("photo", DataType.UINT8, 4, 5, 2)
    item = InputRecipe(feeds="image", raw=raw, steps=(Cast(datatype="FP32"), Layout()))
    photos = golden("photo", (3, 4, 5, 2), np.uint8)
    assert list(golden_at_lengths(photos, directory, manifest(item))) == []
    assert list(golden_at_lengths(golden(), directory, manifest(ranges=()))) == []


class Engine:
    """Right at the golden rows' own lengths only."""

    def answered(self, inputs):
        image = inputs["image"]
        wrong = np.float32(image.shape[-2:] == (7, 5))
        return {"scores": image.mean(axis=(2, 3), dtype=np.float32) + wrong}, {}

    def completed(self, inputs, outputs):
        return outputs


def test_an_engine_that_is_wrong_at_one_length_is_found(directory):
    told = manifest()
    small, tall, _ = golden_at_lengths(golden(), directory, told)

    def compared(lengths, rows):
        return compare(Engine(), rows, told, Precision.FP32, Silent(), lengths=lengths)

    both = worst_of([compared(*small), compared(*small)])
    assert [(item.lengths, item.rows) for item in both.buckets] == [
        ("image [2, 2, 3]", 1),
        ("image [2, 2, 3]", 4),
    ] * 2
    assert both.outputs[0].largest < 1e-6
    with pytest.raises(GoldenMissed, match="output 'scores' at"):
        compared(*tall)
