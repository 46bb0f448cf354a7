"""The models that serving is measured on: from no arithmetic at all to a transformer's.

Knows: each model's graph, its spec, one request, and how long a window of it must be. Rules: weights come
from one seed; the arithmetic is real, the answers are of no use. Leaves to others: building (`states`).
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from bert import write_bert
from onnx import TensorProto, helper, numpy_helper
from resnet import write_resnet
from tritonclient.grpc import service_pb2 as oip

PICTURE = (3, 224, 224)
SPEC = """
[model]
name = "{name}"
release_notes = "Random weights: only its arithmetic is real."
batch_max = {batch_max}
[data]
sample = "{name}.npz"
held_out = "{name}.npz"
golden_rows = 2
[tolerance.fp32]
absolute = 1e-2
relative = 1e-2
[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "none"
frameworks = {{}}
"""
BYTES_RECIPE = """
[[recipe.inputs]]
feeds = "pixels"
accepts = "raw"
[recipe.inputs.raw]
name = "image"
datatype = "UINT8"
shape = [224, 224, 3]
[[recipe.inputs.steps]]
step = "cast"
[[recipe.inputs.steps]]
step = "normalise"
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[[recipe.inputs.steps]]
step = "layout"
order = "CHW"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model: how its file is written, its input, its spec's own part, and seconds a window.

    `shape` is one row's. `bound` is "engine" where the engine takes nearly all of the time and "transport"
    where it takes next to none.
    """

    name: str
    write: Callable[[Path], None]
    tensor: str
    shape: tuple[int, ...]
    datatype: str = "FP32"
    batch_max: int = 32
    recipe: str = ""
    seconds: float = 0.8
    bound: str = "transport"
    batches: tuple[int, ...] = field(default=(1, 8, 32))

    @property
    def spec(self) -> str:
        """The spec as TOML."""
        text = SPEC.format(name=self.name, batch_max=self.batch_max) + self.recipe
        tomllib.loads(text)
        return text

    def rows(self, count: int) -> np.ndarray:
        """Rows of its input."""
        random = np.random.default_rng(1)
        if self.datatype == "UINT8":
            return random.integers(0, 256, (count, *self.shape), np.uint8)
        return random.normal(size=(count, *self.shape)).astype(np.float32)

    def request(self) -> oip.ModelInferRequest:
        """One row, raw, without an id."""
        row = self.rows(1)
        message = oip.ModelInferRequest(model_name=self.name, raw_input_contents=[row.tobytes()])
        message.inputs.add(name=self.tensor, datatype=self.datatype, shape=row.shape)
        return message

    def engine_rows(self) -> np.ndarray:
        """The row of `request` as the graph takes it, after the recipe."""
        row = self.rows(1)
        if not self.recipe:
            return row
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        return ((row / 255.0 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def save(path: Path, nodes: list[onnx.NodeProto], weights: list[np.ndarray], edges: list) -> None:
    """Write a graph whose weights are named w0, w1 and so on."""
    named = [numpy_helper.from_array(value, f"w{n}") for n, value in enumerate(weights)]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *s]) for name, s in edges]
    graph = helper.make_graph(nodes, path.stem, given[:1], given[1:], named)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def scaled(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights that keep the size of what passes through; `shape` is outputs first."""
    spread = np.sqrt(2.0 / max(int(np.prod(shape[1:])), 1))
    return random.normal(0.0, spread, shape).astype(np.float32)


def write_echo(path: Path) -> None:
    """Its input of 16 numbers, as it came."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    save(path, nodes, [], [("x", [16]), ("y", [16])])


def write_mlp(path: Path) -> None:
    """16 numbers, 32 hidden ones, 3 out."""
    random = np.random.default_rng(2)
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "w1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "w3"], ["y"], transB=1),
    ]
    weights = [scaled(random, 32, 16), np.zeros(32, np.float32), scaled(random, 3, 32)]
    save(path, nodes, [*weights, np.zeros(3, np.float32)], [("x", [16]), ("y", [3])])


def write_cnn(path: Path) -> None:
    """Three convolutions over 3x64x64: 19.8 million floating-point operations."""
    random = np.random.default_rng(3)
    nodes, weights, x = [], [], "x"
    for number, (inputs, outputs, stride) in enumerate(((3, 16, 2), (16, 32, 1), (32, 64, 2))):
        weights += [scaled(random, outputs, inputs, 3, 3), np.zeros(outputs, np.float32)]
        names = [x, f"w{2 * number}", f"w{2 * number + 1}"]
        nodes += [
            helper.make_node("Conv", names, [f"c{number}"], pads=[1] * 4, strides=[stride] * 2),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        x = f"r{number}"
    nodes += head(x, "w6", "w7")
    weights += [scaled(random, 10, 64), np.zeros(10, np.float32)]
    save(path, nodes, weights, [("x", [3, 64, 64]), ("y", [10])])


def write_picture(path: Path) -> None:
    """The mean of each channel of a 224x224 picture, and ten sums of them: all wire and no engine."""
    weights = [scaled(np.random.default_rng(4), 10, 3), np.zeros(10, np.float32)]
    save(path, head("pixels", "w0", "w1"), weights, [("pixels", list(PICTURE)), ("y", [10])])


def head(x: str, weight: str, bias: str) -> list[onnx.NodeProto]:
    """The mean over each channel of `x`, and a product: output "y"."""
    return [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", weight, bias], ["y"], transB=1),
    ]


HEAVY = {"batch_max": 8, "seconds": 3.0, "bound": "engine", "batches": (1, 4, 8)}
MODELS = {
    each.name: each
    for each in (
        Model(name="echo", write=write_echo, tensor="x", shape=(16,)),
        Model(name="mlp", write=write_mlp, tensor="x", shape=(16,)),
        Model(name="cnn", write=write_cnn, tensor="x", shape=(3, 64, 64)),
        Model(name="picture", write=write_picture, tensor="pixels", shape=PICTURE),
        Model(
            name="picture-bytes", write=write_picture, tensor="image", datatype="UINT8",
            shape=(224, 224, 3), recipe=BYTES_RECIPE,
        ),
        Model(name="resnet50", write=write_resnet, tensor="pixels", shape=PICTURE, **HEAVY),
        Model(name="bert", write=write_bert, tensor="embedded", shape=(128, 768), **HEAVY | {"seconds": 4.0}),
    )
}  # fmt: skip
