"""One suite for every target: what it compiles runs as the reference does."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import EngineBuild
from appliance.files import sha256_file
from appliance.recipe import Recipe
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.graph import interface_of
from compiler.reference import Reference
from compiler.samples import Rows
from compiler.source import open_source
from compiler.targets import TARGETS
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from compiler.targets.target import stamp
from runtime.engines import ENGINES, load_engine

RNG = np.random.default_rng(5)


def residual_convolutions(make_onnx, blocks: int = 2, width: int = 16) -> onnx.ModelProto:
    """Like a ResNet: convolution, batch norm, ReLU and sums, then pooling and a linear layer.

    Wide enough that ONNX Runtime rearranges the channels for this CPU's vectors.
    """
    nodes, constants = [], {}

    def layer(x: str, name: str, channels: int, *, relu: bool = True) -> str:
        constants[f"{name}.w"] = RNG.normal(0, 0.2, (width, channels, 3, 3)).astype(np.float32)
        for part in ("scale", "shift", "mean", "var"):
            constants[f"{name}.{part}"] = RNG.uniform(0.5, 1.5, width).astype(np.float32)
        normal = [f"{name}.{part}" for part in ("scale", "shift", "mean", "var")]
        nodes.append(helper.make_node("Conv", [x, f"{name}.w"], [f"{name}.c"], pads=[1] * 4))
        nodes.append(helper.make_node("BatchNormalization", [f"{name}.c", *normal], [f"{name}.b"]))
        if not relu:
            return f"{name}.b"
        nodes.append(helper.make_node("Relu", [f"{name}.b"], [f"{name}.r"]))
        return f"{name}.r"

    x = layer("x", "stem", 3)
    for block in range(blocks):
        inner = layer(layer(x, f"{block}a", width), f"{block}b", width, relu=False)
        nodes.append(helper.make_node("Add", [x, inner], [f"{block}.s"]))
        nodes.append(helper.make_node("Relu", [f"{block}.s"], [f"{block}.r"]))
        x = f"{block}.r"
    constants["w"] = RNG.normal(size=(width, 10)).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["scores"]))
    return make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, ["rows", 3, 16, 16])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", 10])},
        constants=constants,
    )


@pytest.fixture(params=TARGETS, ids=lambda target: target.kind)
def target(request):
    """Each target in turn."""
    return request.param


@pytest.mark.parametrize("rows", [1, 5])
def test_what_it_compiles_computes_the_reference(target, make_onnx, tmp_path, rows):
    path = tmp_path / "model.onnx"
    onnx.save(residual_convolutions(make_onnx), path)
    source = open_source(path)
    interface = interface_of(source, 8)
    reference = Reference(source, Recipe(), interface)
    images = RNG.normal(size=(rows, 3, 16, 16)).astype(np.float32)
    (call,) = reference.calls(Rows(inputs={"x": images}, labels=None))

    entry = target.compile(path, tmp_path, interface, 1)
    assert entry.kind == target.kind
    assert entry.kind in ENGINES
    assert entry.sha256 == sha256_file(tmp_path / entry.file)
    engine = load_engine(entry.kind, tmp_path / entry.file, interface=interface, threads=1)
    got = engine.run({"x": images})["scores"]
    np.testing.assert_allclose(got, call.outputs["scores"], rtol=1e-3, atol=1e-3)


def test_it_writes_its_engine_file_and_nothing_else(target, make_onnx, tmp_path):
    path, out = tmp_path / "model.onnx", tmp_path / "out"
    out.mkdir()
    onnx.save(make_onnx(), path)
    entry = target.compile(path, out, interface_of(open_source(path), 8), 1)
    assert [file.name for file in out.iterdir()] == [entry.file]


def test_it_refuses_what_the_library_cannot_read(target, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    interface = Interface(inputs=(), outputs=(), batch_max=0)
    with pytest.raises(EngineBuild) as refused:
        target.compile(path, tmp_path, interface, 1)
    assert refused.value.code == "engine.build"
    assert refused.value.remedy


@pytest.mark.parametrize(
    "datatype", [DataType.INT64, DataType.UINT64, DataType.UINT32, DataType.FP64]
)
def test_openvino_is_not_used_where_it_would_compute_in_fewer_bits(datatype, tmp_path):
    spec = TensorSpec(name="wide", datatype=datatype, shape=())
    for interface in (
        Interface(inputs=(spec,), outputs=(), batch_max=8),
        Interface(inputs=(), outputs=(spec,), batch_max=8),
    ):
        with pytest.raises(EngineBuild) as refused:
            OpenVinoTarget().compile(tmp_path / "none", tmp_path, interface, 1)
        assert f"'wide' {datatype}" in str(refused.value)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT32, TensorProto.DOUBLE])
def test_openvino_is_not_used_where_it_would_narrow_inside_the_model(kind, make_onnx, tmp_path):
    """x mod 97 by wide numbers: right to 2**53, with OpenVINO wrong from 2**31 or 2**24 on."""
    path = tmp_path / "model.onnx"
    wide = numpy_helper.from_array(np.array([97], helper.tensor_dtype_to_np_dtype(kind)), "divisor")
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=kind),
        helper.make_node("Mod", ["whole", "divisor"], ["rest"], fmod=1),
        helper.make_node("Cast", ["rest"], ["scores"], to=TensorProto.FLOAT),
    ]
    model = make_onnx(nodes, outputs={"scores": (TensorProto.FLOAT, ["rows", 3])}, constants={})
    model.graph.initializer.append(wide)
    onnx.save(model, path)
    interface = interface_of(open_source(path), 8)
    with pytest.raises(EngineBuild, match=r"'whole' .*'rest' .* inside the model"):
        OpenVinoTarget().compile(path, tmp_path, interface, 1)
    OnnxRuntimeTarget().compile(path, tmp_path, interface, 1)


def test_onnx_runtime_carries_64_bits(make_onnx, tmp_path):
    path = tmp_path / "model.onnx"
    wide = {"x": (TensorProto.INT64, ["rows"]), "d": (TensorProto.DOUBLE, ["rows"])}
    nodes = [helper.make_node("Identity", [name], [f"{name}2"]) for name in wide]
    outputs = {f"{name}2": spec for name, spec in wide.items()}
    onnx.save(make_onnx(nodes, inputs=wide, outputs=outputs, constants={}), path)
    interface = interface_of(open_source(path), 8)
    entry = OnnxRuntimeTarget().compile(path, tmp_path, interface, 1)
    engine = load_engine(entry.kind, tmp_path / entry.file, interface=interface, threads=1)
    got = engine.run({"x": np.array([2**40 + 5]), "d": np.array([1e300])})
    assert got["x2"][0] == 2**40 + 5
    assert got["d2"][0] == 1e300


def test_a_stamp_is_made_without_proc_too(monkeypatch):
    whole = stamp("library 1")
    monkeypatch.setattr("pathlib.Path.read_text", _unreadable)
    bare = stamp("library 1")
    assert set(whole) == set(bare)
    assert bare["cpu"]


def _unreadable(*_args, **_options):
    raise PermissionError
