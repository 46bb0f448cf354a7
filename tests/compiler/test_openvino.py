"""What OpenVINO would compute otherwise than ONNX says is refused, or checked at every call."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.config import Config, EngineConfig, StateConfig
from appliance.errors import EngineBuild, RequestError
from appliance.manifest import Precision
from appliance.signing import SigningKey
from appliance.tensors import AxisRange, DataType, Interface, TensorSpec
from compiler.build import build
from compiler.opening.graph import interface_of
from compiler.opening.integers import INT32
from compiler.opening.source import Source, open_source
from compiler.pack import pack
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from runtime.engines import load_engine

RNG = np.random.default_rng(5)
SPEC = """
[model]
name = "matching"
release_notes = "compares ids"

[data]
sample = "rows.npz"
held_out = "rows.npz"
golden_rows = 8

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "made by hand"
frameworks = {}
"""


def source_of(model: onnx.ModelProto, directory: Path) -> Source:
    onnx.save(model, directory / "model.onnx")
    return open_source(directory / "model.onnx")


@pytest.mark.parametrize(
    "datatype", [DataType.UINT64, DataType.UINT32, DataType.FP64, DataType.BYTES]
)
def test_openvino_is_not_used_where_it_would_compute_in_fewer_bits(datatype, make_onnx, tmp_path):
    spec = TensorSpec(name="wide", datatype=datatype, shape=())
    source = Source(data=b"", model=make_onnx())
    for interface in (
        Interface(inputs=(spec,), outputs=(), batch_max=8),
        Interface(inputs=(), outputs=(spec,), batch_max=8),
    ):
        with pytest.raises(EngineBuild) as refused:
            OpenVinoTarget().compile(source, tmp_path, interface, 1, Precision.FP32)
        told = "text" if datatype is DataType.BYTES else datatype
        assert f"put 'wide' is {told}" in str(refused.value)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT32, TensorProto.DOUBLE])
def test_openvino_is_not_used_where_it_would_narrow_inside_the_model(kind, make_onnx, tmp_path):
    """x mod 97 by wide numbers: right to 2**53, with OpenVINO wrong from 2**31 or 2**24 on."""
    wide = numpy_helper.from_array(np.array([97], helper.tensor_dtype_to_np_dtype(kind)), "divisor")
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=kind, name="widen"),
        helper.make_node("Mod", ["whole", "divisor"], ["rest"], fmod=1, name="modulo"),
        helper.make_node("Cast", ["rest"], ["scores"], to=TensorProto.FLOAT),
    ]
    model = make_onnx(nodes, outputs={"scores": (TensorProto.FLOAT, ["rows", 3])}, constants={})
    model.graph.initializer.append(wide)
    source = source_of(model, tmp_path)
    interface = interface_of(source, 8)
    found = OpenVinoTarget().refusals(source, interface, Precision.FP32)
    assert [(item.node, item.op) for item in found] == [("widen", "Cast"), ("modulo", "Mod")]
    with pytest.raises(EngineBuild, match=r"Cast 'widen' .*makes 'whole', .*Mod 'modulo' "):
        OpenVinoTarget().compile(source, tmp_path, interface, 1, Precision.FP32)
    OnnxRuntimeTarget().compile(source, tmp_path, interface, 1, Precision.FP32)


def test_openvino_takes_ids_of_64_bits_within_its_table(make_onnx, tmp_path):
    """Outside of the table it would answer zeros, and beyond 32 bits with another row."""
    table = RNG.normal(size=(5, 4)).astype(np.float32)
    model = make_onnx(
        [helper.make_node("Gather", ["w", "ids"], ["scores"])],
        inputs={"ids": (TensorProto.INT64, ["rows", 3])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", 3, 4])},
        constants={"w": table},
    )
    source = source_of(model, tmp_path)
    interface = interface_of(source, 8)
    entry = OpenVinoTarget().compile(source, tmp_path, interface, 1, Precision.FP32)
    assert entry.bounds == {"ids": (-5, 4)}
    engine = load_engine(
        entry.kind,
        tmp_path / entry.file,
        interface=interface,
        threads=1,
        precision=entry.precision,
        bounds=entry.bounds,
    )
    assert (engine.kind, engine.interface) == (entry.kind, interface)
    ids = np.array([[0, 4, -5]])
    assert (engine.run({"ids": ids})["scores"] == table[ids]).all()
    for outside in (5, -6, 2**32 + 1):
        with pytest.raises(RequestError, match=f"'ids' holds {outside}, .* takes -5 to 4"):
            engine.run({"ids": np.array([[0, 0, outside]])})
    engine.close()


def test_openvino_is_not_used_where_positions_go_unchecked(make_onnx, tmp_path):
    nodes = [
        helper.make_node("Add", ["ids", "one"], ["next"]),
        helper.make_node("Gather", ["w", "next"], ["scores"], name="look"),
    ]
    model = make_onnx(
        nodes,
        inputs={"ids": (TensorProto.INT32, ["rows", 3])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", 3, 4])},
        constants={"w": np.ones((5, 4), np.float32), "one": np.array([1], np.int32)},
    )
    source = source_of(model, tmp_path)
    (found,) = OpenVinoTarget().refusals(source, interface_of(source, 8), Precision.FP32)
    assert str(found) == (
        "Gather 'look' reads at computed positions, which the CPU plugin does not check"
    )


def test_openvino_reads_positions_along_an_open_axis_only_where_it_has_a_range(make_onnx, tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "second"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Gather", ["w", "places"], ["looked"], name="look"),
        helper.make_node("Add", ["x", "looked"], ["scores"]),
    ]
    constants = {"zero": 0, "one": 1, "second": 1}
    model = make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, ["rows", "tokens", 4])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", "tokens", 4])},
        constants={"w": np.ones((5, 4), np.float32)}
        | {name: np.array(value, np.int64) for name, value in constants.items()},
    )
    source = source_of(model, tmp_path)
    (found,) = OpenVinoTarget().refusals(source, interface_of(source, 8), Precision.FP32)
    assert "grow with an open axis: give it a range in [model.axes]" in str(found)
    ranged = interface_of(source, 8, {"tokens": AxisRange(min=1, opt=2, max=5)})
    assert not OpenVinoTarget().refusals(source, ranged, Precision.FP32)


@pytest.mark.parametrize("largest", [2**31 - 1, 2**33 + 5])
def test_rows_that_need_64_bits_leave_the_model_to_onnx_runtime(make_onnx, tmp_path, largest):
    nodes = [
        helper.make_node("Equal", ["ids", "c"], ["same"]),
        helper.make_node("Cast", ["same"], ["scores"], to=TensorProto.FLOAT),
    ]
    model = make_onnx(
        nodes,
        inputs={"ids": (TensorProto.INT64, ["rows", 3])},
        outputs={"scores": (TensorProto.FLOAT, ["rows", 3])},
        constants={"c": np.array([5])},
    )
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "rows.npz", ids=np.add(RNG.integers(0, 8, (16, 3)), [0, 0, largest - 8]))
    (tmp_path / "spec.toml").write_text(SPEC)
    key = SigningKey.generate()
    key.public.save(tmp_path / "state" / "trust" / "engineer.pub")
    bundle = tmp_path / "matching.holdfast"
    pack(tmp_path / "model.onnx", tmp_path / "spec.toml", bundle, key=key, in_process=True)
    state = StateConfig(directory=str(tmp_path / "state"))
    config = Config(state=state, engine=EngineConfig(threads=1))
    record = build(bundle, config, in_process=True).version.record
    (trial,) = (item for item in record.trials if item.engine == "openvino")
    refused = "this version takes -2147483648 to 2147483647" in trial.verdict
    assert refused is (largest > INT32[1])
    assert record.engine.kind == "onnxruntime" or not refused
