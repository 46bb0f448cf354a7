"""A workshop: a tiny model with its spec and rows, a key, and a box to build on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.bundle import entry, unverified_manifest, write_bundle
from appliance.config import Config, EngineConfig, StateConfig
from appliance.manifest import Manifest
from appliance.modelkeys import ModelSigningKey
from appliance.signing import SigningKey
from compiler.build import Built, build
from compiler.pack import Packed, pack

RNG = np.random.default_rng(11)
WEIGHTS = RNG.normal(size=(3, 4)).astype(np.float32)
COLUMNS = ("age", "height", "width")
SPEC = """
[model]
name = "tiny"
release_notes = "the first"
labels = ["a", "b", "c", "d"]
batch_max = 8

[data]
sample = "sample.npz"
held_out = "held_out.npz"
golden_rows = 5

[[acceptance]]
metric = "accuracy"
output = "scores"
minimum = 0.9

[tolerance.fp32]
absolute = 1e-4
relative = 1e-3

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "r1"
frameworks = { numpy = "2" }

[[recipe.inputs]]
feeds = "x"
accepts = "raw"
columns = ["age", "height", "width"]
[recipe.inputs.raw]
name = "person"
datatype = "FP32"
shape = [3]
[[recipe.inputs.steps]]
step = "standardise"
columns = ["age"]
mean = [1.0]
std = [2.0]

[[recipe.after]]
step = "softmax"
tensor = "scores"
output = "probabilities"

[[recipe.after]]
step = "top_k"
tensor = "probabilities"
k = 2
output = "classes"
labels = "labels"
"""


def raw_rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)


def true_classes(raw: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    """What the tiny model should say, in numpy."""
    prepared = raw.copy()
    prepared[:, 0] = (prepared[:, 0] - 1.0) / 2.0
    return (prepared @ weights).argmax(axis=1).astype(np.int64)


def onnx_model(
    nodes: Sequence[onnx.NodeProto] | None = None,
    *,
    inputs: dict[str, tuple[int, Sequence]] | None = None,
    outputs: dict[str, tuple[int, Sequence]] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """An ONNX model; by default scores = x @ w with an open number of rows."""
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["scores"], name="product")],
        "tiny",
        _infos(inputs or {"x": (TensorProto.FLOAT, ["rows", 3])}),
        _infos(outputs or {"scores": (TensorProto.FLOAT, ["rows", 4])}),
        [
            numpy_helper.from_array(array, name)
            for name, array in ({"w": WEIGHTS} if constants is None else constants).items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _infos(tensors: dict[str, tuple[int, Sequence]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()
    ]


@dataclass
class Workshop:
    """Files of an engineer, and the state directory of a box that trusts the engineer's key."""

    directory: Path
    key: ModelSigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        self.model = self.directory / "tiny.onnx"
        self.spec = self.directory / "tiny.toml"
        self.bundle = self.directory / "tiny.holdfast"
        onnx.save(onnx_model(), self.model)
        self.spec.write_text(SPEC)
        self.save_rows("sample", person=raw_rows(40))
        self.save_rows("held_out", person=raw_rows(60), label=true_classes(raw_rows(60)))
        self.key.public.save(self.config.state.trust / "engineer.pub")

    @property
    def config(self) -> Config:
        return Config(
            state=StateConfig(directory=str(self.directory / "state")),
            engine=EngineConfig(threads=1),
        )

    def save_rows(self, name: str, **arrays: np.ndarray) -> None:
        np.savez(self.directory / f"{name}.npz", **arrays)

    def change(self, old: str, new: str) -> None:
        """Change the spec's text."""
        text = self.spec.read_text()
        assert old in text
        self.spec.write_text(text.replace(old, new))

    def pack(self, *, signed: bool = True, **options) -> Packed:
        """In this process unless told otherwise: most tests are not about the child."""
        key = self.key if signed else None
        return pack(self.model, self.spec, self.bundle, key=key, **({"in_process": True} | options))

    def contents(self) -> tuple[Manifest, dict[str, bytes]]:
        """What the bundle says, and its files by name."""
        with self.bundle.open("rb") as file:
            _, manifest = unverified_manifest(file)
            return manifest, {item.name: file.read(item.bytes) for item in manifest.files}

    def resign(self, *, key=None, files=None, **changes) -> None:
        """Write the bundle again with a changed manifest or other files."""
        manifest, contents = self.contents()
        contents |= files or {}
        changed = msgspec.structs.replace(
            manifest, **changes, files=tuple(entry(*item) for item in contents.items())
        )
        write_bundle(self.bundle, changed, contents, key or self.key)

    def build(self, **options) -> Built:
        """In this process unless told otherwise, as `pack`."""
        return build(self.bundle, self.config, **({"in_process": True} | options))

    def left_behind(self) -> list[Path]:
        """What a build that failed has left in the store, beside its locks and its mark."""
        store = self.config.state.store
        staging, marks = store / ".staging", store / ".marks"
        history = store / ".installs"
        kept = {staging, staging / "lock", staging / "build.lock", marks, history}
        return [
            path
            for path in store.rglob("*")
            if path not in kept and path.parent not in (marks, history)
        ]


@pytest.fixture
def workshop(tmp_path) -> Workshop:
    """A fresh workshop."""
    return Workshop(tmp_path)


@pytest.fixture(scope="session")
def make_workshop() -> Callable[[Path], Workshop]:
    """Makes a workshop in a directory of its own."""
    return Workshop


@pytest.fixture
def make_onnx() -> Callable[..., onnx.ModelProto]:
    """Makes ONNX models; see `onnx_model`."""
    return onnx_model


@pytest.fixture
def make_rows() -> Callable[[int], np.ndarray]:
    """Makes raw rows of the tiny model."""
    return raw_rows


@pytest.fixture
def classes_of() -> Callable[..., np.ndarray]:
    """The tiny model's true classes of raw rows."""
    return true_classes
