"""A small detector from ONNX file to answer: head, boxes, suppression and rescaling, packed and built."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from appliance.store import Store
from compiler.build import build
from compiler.pack import pack
from runtime.servable import load_proven

ANCHORS, VALUES = 6, 4 + 2
SPEC = """
[model]
name = "finder"
release_notes = "the first"
labels = ["cat", "dog"]
batch_max = 4

[data]
sample = "sample.npz"
held_out = "sample.npz"
golden_rows = 4

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = { numpy = "2" }

[[recipe.inputs]]
feeds = "pixels"
[recipe.inputs.raw]
name = "photo"
datatype = "UINT8"
shape = [-1, -1, 1]
[[recipe.inputs.steps]]
step = "cast"
[[recipe.inputs.steps]]
step = "resize"
height = 8
width = 8
[[recipe.inputs.steps]]
step = "layout"

[[recipe.after]]
step = "yolo_boxes"
tensor = "head"
boxes = "all_boxes"
scores = "all_scores"

[[recipe.after]]
step = "nms"
boxes = "all_boxes"
scores = "all_scores"
score_min = 0.25
iou_max = 0.5
boxes_max = 3
output = "kept"
output_scores = "scores"
output_classes = "classes"
output_count = "count"

[[recipe.after]]
step = "rescale_boxes"
tensor = "kept"
image = "pixels"
output = "boxes"

[[recipe.after]]
step = "labels"
tensor = "classes"
output = "names"

[[recipe.after]]
step = "drop"
tensors = ["head", "all_boxes", "all_scores", "kept"]
"""


def head() -> np.ndarray:
    """Boxes as centre and size, then the scores of two classes; values x anchors."""
    anchors = [
        [2, 2, 4, 4, 0.9, 0.1],
        [2.2, 2, 4, 4, 0.8, 0.1],  # on the first
        [6, 6, 4, 4, 0.1, 0.7],
        [4, 4, 8, 8, 0.3, 0.2],
        [2, 6, 4, 4, 0.2, 0.2],  # under the bar
        [4, 4, 8, 8, 0.1, 0.6],
    ]
    return np.array(anchors, np.float32).T


def model() -> onnx.ModelProto:
    """The head of every image is the same, but for 0 times the image."""
    constants = {
        "zero": np.zeros((64, VALUES * ANCHORS), np.float32),
        "head_of_all": head().reshape(1, -1),
        "flat": np.array([-1, 64], np.int64),
        "shape": np.array([-1, VALUES, ANCHORS], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "head_of_all"], ["long"]),
        helper.make_node("Reshape", ["long", "shape"], ["head"]),
    ]
    graph = helper.make_graph(
        nodes,
        "finder",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [helper.make_tensor_value_info("head", TensorProto.FLOAT, ["rows", VALUES, ANCHORS])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_detector_answers_in_the_clients_pixels(workshop):
    onnx.save(model(), workshop.model)
    workshop.spec.write_text(SPEC)
    photos = np.random.default_rng(0).integers(0, 255, (8, 16, 24, 1), np.uint8)
    workshop.save_rows("sample", photo=photos)
    pack(workshop.model, workshop.spec, workshop.bundle, key=workshop.key, in_process=True)
    built = build(workshop.bundle, workshop.config, in_process=True)
    ours = load_proven(
        Store(workshop.config.state.store).open("finder", built.version.number), threads=1
    )
    small, large = ours.run([{"photo": photos[:1]}, {"photo": np.zeros((1, 80, 40, 1), np.uint8)}])
    ours.close()
    assert sorted(small.outputs) == ["boxes", "classes", "count", "names", "scores"]
    assert small.outputs["count"].tolist() == [[3]]
    assert small.outputs["classes"].tolist() == [[0, 1, 1]]
    assert small.outputs["names"].tolist() == [[b"cat", b"dog", b"dog"]]
    np.testing.assert_allclose(small.outputs["scores"], [[0.9, 0.7, 0.6]])
    kept = np.array([[0, 0, 4, 4], [4, 4, 8, 8], [0, 0, 8, 8]], np.float32)
    np.testing.assert_allclose(small.outputs["boxes"][0], kept * [3, 2, 3, 2])
    np.testing.assert_allclose(large.outputs["boxes"][0], kept * [5, 10, 5, 10])
