"""A signed bundle whose parts do not fit each other is refused before anything is compiled."""

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import BundleContent
from appliance.golden import Golden, arrays_to_bytes
from appliance.manifest import GOLDEN_FILE, HELD_OUT_FILE, MODEL_FILE, PROFILE_FILE
from appliance.recipe import Cast, Select

ROWS = np.ones((4, 3), np.float32)
SCORES = np.ones((4, 4), np.float32)


@pytest.fixture
def packed(workshop):
    """A workshop with its bundle packed."""
    workshop.pack()
    return workshop


def refused(workshop) -> str:
    """What the build says; nothing of the bundle is left."""
    with pytest.raises(BundleContent) as caught:
        workshop.build(targets=[])
    assert workshop.left_behind() == []
    return str(caught.value)


def golden(inputs, outputs) -> dict[str, bytes]:
    return {GOLDEN_FILE: Golden(inputs=inputs, outputs=outputs).to_bytes()}


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ({"person": ROWS}, {}, "golden outputs hold []"),
        ({}, {"scores": SCORES}, "golden inputs hold []"),
        ({"q": ROWS}, {"scores": SCORES}, "['q']"),
        ({"person": ROWS[:0]}, {"scores": SCORES[:0]}, "[0] rows"),
        ({"person": ROWS[:2]}, {"scores": SCORES}, "2 rows of golden inputs and 4"),
        ({"person": ROWS[:, :2]}, {"scores": SCORES}, "type or shape"),
        ({"person": ROWS}, {"scores": SCORES.astype(np.float64)}, "type or shape"),
        ({"person": ROWS.astype(">f4")}, {"scores": SCORES}, "type or shape"),
    ],
)
def test_golden_vectors_are_rows_of_the_interface(packed, inputs, outputs, told):
    packed.resign(files=golden(inputs, outputs))
    assert told in refused(packed)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({}, "holds [], which is no held-out row"),
        ({"input/person": ROWS}, "true classes"),
        (
            {"input/person": ROWS, "label": np.zeros(3, np.int64)},
            "4 rows of inputs and {'label': 3}",
        ),
        ({"input/person": ROWS, "label": np.zeros(4)}, "float64"),
        ({"input/person": ROWS, "label": np.full(4, 7)}, "from 7 to 7"),
    ],
)
def test_held_out_rows_have_the_labels_that_thresholds_need(packed, arrays, told):
    packed.resign(files={HELD_OUT_FILE: arrays_to_bytes(arrays)})
    assert told in refused(packed)


def test_the_interfaces_are_those_of_model_and_recipe(packed):
    manifest, _ = packed.contents()
    replace = msgspec.structs.replace
    wide = (replace(manifest.engine.inputs[0], shape=(300,)),)
    for change in (
        {"served": replace(manifest.served, inputs=())},
        {"engine": replace(manifest.engine, outputs=())},
        {"engine": replace(manifest.engine, inputs=wide)},
    ):
        packed.resign(**change)
        assert "interface" in refused(packed)
        packed.resign(served=manifest.served, engine=manifest.engine)


def test_a_batch_that_no_spec_may_ask_for_is_refused(packed):
    manifest, _ = packed.contents()
    packed.resign(engine=msgspec.structs.replace(manifest.engine, batch_max=10**12))
    assert "over 65536" in refused(packed)


def test_a_recipe_that_reads_beyond_its_rows_is_refused(packed):
    """Kernels check no bounds."""
    manifest, _ = packed.contents()
    columns = tuple(map(str, range(300_000)))
    item = msgspec.structs.replace(
        manifest.recipe.inputs[0], columns=columns, steps=(Cast(), Select(columns=columns[-3:]))
    )
    packed.resign(recipe=msgspec.structs.replace(manifest.recipe, inputs=(item,)))
    assert "names 300000 columns" in refused(packed)


def external() -> onnx.ModelProto:
    """A model whose weights are in another file of the bundle."""
    info = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.zeros((3, 4), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", PROFILE_FILE), ("offset", "0"), ("length", "48")):
        field = weights.external_data.add()
        field.key, field.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "external",
        [info("x", TensorProto.FLOAT, ["rows", 3])],
        [info("scores", TensorProto.FLOAT, ["rows", 4])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_model_passes_the_checks_of_pack(packed, make_onnx):
    foreign = make_onnx()
    foreign.graph.node[0].domain = "com.microsoft"
    foreign.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for model, told in ((external(), "another file"), (foreign, "com.microsoft")):
        packed.resign(files={MODEL_FILE: model.SerializeToString()})
        assert told in refused(packed)
    packed.resign(files={MODEL_FILE: b"no model"})
    assert "ONNX" in refused(packed)


@pytest.mark.parametrize("name", [GOLDEN_FILE, HELD_OUT_FILE, PROFILE_FILE])
def test_a_file_that_cannot_be_read_is_refused(packed, name):
    packed.resign(files={name: b"{}"})
    refused(packed)
