"""One suite for every target: what it compiles runs as the reference does, in the precision asked for."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.errors import EngineBuild, EngineLoad
from appliance.files import sha256_file
from appliance.manifest import CalibrationMethod, Precision
from appliance.recipe import Recipe
from appliance.tensors import Interface
from compiler.opening.graph import interface_of
from compiler.opening.source import Source, open_source
from compiler.precision import lowered
from compiler.precision.calibration import calibrate
from compiler.reference import Reference
from compiler.rows.samples import Rows
from compiler.targets import FALLBACK, TARGETS
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from runtime.engines import ENGINES, load_engine, stamp_of
from runtime.engines.libraries import onnxruntime
from runtime.engines.onnxruntime_cpu import session_options
from runtime.engines.stamp import LIBRARIES, PORTABLE

RNG = np.random.default_rng(5)
LOWER = (Precision.FP16, Precision.BF16, Precision.INT8)
# Of the output's range, as appliance.manifest.Tolerances has them by default.
BOUND = {Precision.FP16: 0.01, Precision.BF16: 0.04, Precision.INT8: 0.10}


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


def source_of(model: onnx.ModelProto, directory: Path) -> Source:
    onnx.save(model, directory / "model.onnx")
    return open_source(directory / "model.onnx")


@pytest.fixture(params=(*TARGETS, FALLBACK), ids=lambda target: target.kind)
def target(request):
    """Each target in turn."""
    return request.param


@pytest.fixture
def convolutions(make_onnx, tmp_path) -> Source:
    """The residual network."""
    return source_of(residual_convolutions(make_onnx), tmp_path)


def run(target, source, directory, inputs, *, precision=Precision.FP32):
    interface = interface_of(source, 8)
    entry = target.compile(source, directory, interface, 1, precision)
    engine = load_engine(
        entry.kind,
        directory / entry.file,
        interface=interface,
        threads=1,
        precision=entry.precision,
    )
    try:
        return engine.run(inputs)["scores"]
    finally:
        engine.close()


@pytest.mark.parametrize("rows", [1, 5])
def test_what_it_compiles_computes_the_reference(target, convolutions, tmp_path, rows):
    interface = interface_of(convolutions, 8)
    reference = Reference(convolutions, Recipe(), interface)
    images = RNG.normal(size=(rows, 3, 16, 16)).astype(np.float32)
    (call,) = reference.calls(Rows(inputs={"x": images}))
    got = run(target, convolutions, tmp_path, {"x": images})
    np.testing.assert_allclose(got, call.outputs["scores"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", LOWER)
def test_it_computes_in_the_precision_asked_for_or_says_what_it_would(
    target, convolutions, tmp_path, precision
):
    interface = interface_of(convolutions, 8)
    images = {"x": RNG.normal(size=(8, 3, 16, 16)).astype(np.float32)}
    ranges = calibrate(convolutions, images, CalibrationMethod.MINMAX, batch_max=8)
    graph = lowered(convolutions, precision, ranges)
    if target.unable(precision) is not None:
        with pytest.raises(EngineBuild):
            target.compile(graph, tmp_path, interface, 1, precision)
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
        return
    wanted = run(target, convolutions, tmp_path, images)
    try:
        got = run(target, graph, tmp_path, images, precision=precision)
    except EngineBuild as error:  # some versions of ONNX Runtime leave convolutions out of int8
        if f"products in fp32, not in {precision}: Conv '" not in str(error):
            raise
        return
    assert np.abs(got - wanted).max() <= BOUND[precision] * np.ptp(wanted)
    assert np.abs(got - wanted).max() > 1e-5 * np.ptp(wanted), "this is fp32"


def test_an_engine_that_computes_in_another_precision_is_refused_by_its_layers(
    target, convolutions, tmp_path
):
    """The graph says fp32, the caller bf16: what a library that ignores types looks like."""
    interface = interface_of(convolutions, 8)
    with pytest.raises(EngineBuild) as refused:
        target.compile(convolutions, tmp_path, interface, 1, Precision.INT8)
    assert "computes 6 of 6 of the model's convolutions and matrix products in fp32" in str(
        refused.value
    )
    assert "not in int8: " in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
def test_narrower_arithmetic_than_fp32_is_found_too(target, convolutions, tmp_path):
    """The graph says int8, its declaration is hidden: what a library that narrows looks like.

    The portable engine is left out: it takes the rounding as it is told, and computes in fp32 between.
    """
    interface = interface_of(convolutions, 8)
    images = {"x": RNG.normal(size=(8, 3, 16, 16)).astype(np.float32)}
    ranges = calibrate(convolutions, images, CalibrationMethod.MINMAX, batch_max=8)
    graph = lowered(convolutions, Precision.INT8, ranges)
    disguised = Source(data=graph.data, model=convolutions.model)
    with pytest.raises(EngineBuild) as refused:
        target.compile(disguised, tmp_path, interface, 1, Precision.FP32)
    assert "in int8, not in fp32" in str(refused.value)


def test_a_model_quantised_elsewhere_keeps_its_types(target, convolutions, tmp_path):
    images = {"x": RNG.normal(size=(8, 3, 16, 16)).astype(np.float32)}
    ranges = calibrate(convolutions, images, CalibrationMethod.MINMAX, batch_max=8)
    graph = lowered(convolutions, Precision.INT8, ranges)
    wanted = run(target, convolutions, tmp_path, images)
    got = run(target, lowered(graph, Precision.FP32), tmp_path, images)
    assert np.abs(got - wanted).max() <= BOUND[Precision.INT8] * np.ptp(wanted)


def test_it_writes_its_engine_file_and_nothing_else(target, make_onnx, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    source = source_of(make_onnx(), tmp_path)
    entry = target.compile(source, out, interface_of(source, 8), 1, Precision.FP32)
    assert [file.name for file in out.iterdir()] == [entry.file]
    assert entry.file.startswith("engine.portable." if target is FALLBACK else "engine.fp32.")
    assert entry.kind == target.kind
    assert entry.kind in ENGINES
    assert entry.sha256 == sha256_file(out / entry.file)
    assert entry.precision is Precision.FP32
    assert entry.stamp == stamp_of(entry.kind) == target.stamp()


def test_it_refuses_what_the_library_cannot_read(target, make_onnx, tmp_path):
    source = Source(data=b"not a model", model=make_onnx())
    interface = Interface(inputs=(), outputs=(), batch_max=0)
    with pytest.raises(EngineBuild) as refused:
        target.compile(source, tmp_path, interface, 1, Precision.FP32)
    assert refused.value.code == "engine.build"
    assert refused.value.remedy


def test_it_is_able_to_compute_in_fp32(target):
    assert target.unable(Precision.FP32) is None


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_onnx_runtime_names_the_operators_without_a_kernel(convolutions, precision):
    target = OnnxRuntimeTarget()
    if target.unable(precision) is None:
        pytest.skip(f"ONNX Runtime computes in {precision} here")
    graph = lowered(convolutions, precision)
    found = target.refusals(graph, interface_of(convolutions, 8), precision)
    assert {(item.op, item.reason) for item in found} == {
        ("Conv", f"has no kernel for {precision}"),
        ("MatMul", f"has no kernel for {precision}"),
    }
    assert len({item.node for item in found}) == 6


def test_openvino_names_the_nodes_that_it_does_not_convert(make_onnx, tmp_path):
    nodes = [
        helper.make_node("Det", ["x"], ["size"], name="determinant"),
        helper.make_node("Relu", ["size"], ["scores"], name="positive"),
    ]
    model = make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, ["rows", 3, 3])},
        outputs={"scores": (TensorProto.FLOAT, ["rows"])},
        constants={},
    )
    source = source_of(model, tmp_path)
    interface = interface_of(source, 8)
    with pytest.raises(EngineBuild) as refused:
        OpenVinoTarget().compile(source, tmp_path, interface, 1, Precision.FP32)
    assert (
        str(refused.value) == "OpenVINO does not take the model: Det 'determinant' is not converted"
    )
    OnnxRuntimeTarget().compile(source, tmp_path, interface, 1, Precision.FP32)


def test_onnx_runtime_carries_64_bits(make_onnx, tmp_path):
    wide = {"x": (TensorProto.INT64, ["rows"]), "d": (TensorProto.DOUBLE, ["rows"])}
    nodes = [helper.make_node("Identity", [name], [f"{name}2"]) for name in wide]
    outputs = {f"{name}2": spec for name, spec in wide.items()}
    source = source_of(make_onnx(nodes, inputs=wide, outputs=outputs, constants={}), tmp_path)
    interface = interface_of(source, 8)
    entry = OnnxRuntimeTarget().compile(source, tmp_path, interface, 1, Precision.FP32)
    engine = load_engine(
        entry.kind,
        tmp_path / entry.file,
        interface=interface,
        threads=1,
        precision=entry.precision,
    )
    got = engine.run({"x": np.array([2**40 + 5]), "d": np.array([1e300])})
    assert got["x2"][0] == 2**40 + 5
    assert got["d2"][0] == 1e300


def test_a_stamp_is_made_without_proc_too(target, monkeypatch):
    whole = stamp_of(target.kind)
    monkeypatch.setattr("pathlib.Path.read_text", _unreadable)
    bare = stamp_of(target.kind)
    assert set(whole) == set(bare)
    assert all(bare.values())


def test_a_portable_stamp_names_neither_processor_nor_library(monkeypatch):
    before = {kind: stamp_of(kind) for kind in LIBRARIES}
    monkeypatch.setattr("runtime.engines.stamp.processor", lambda: ("another", "flags"))
    monkeypatch.setattr("runtime.engines.stamp.version", lambda _: "99")
    changed = {kind for kind in LIBRARIES if stamp_of(kind) != before[kind]}
    assert changed == set(LIBRARIES) - {PORTABLE}
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert stamp_of(PORTABLE) != before[PORTABLE]


def executed(path: Path, inputs: dict[str, np.ndarray]) -> set[str]:
    """The operators that the library runs after loading an engine file."""
    options = session_options(1)
    options.add_session_config_entry("session.load_model_format", "ORT")
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(".profile"))
    session = onnxruntime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, inputs)
    events = json.loads(Path(session.end_profiling()).read_text())
    return {event["args"]["op_name"] for event in events if event.get("cat") == "Node"}


def test_a_portable_engine_runs_the_operators_of_onnx_as_they_are(convolutions, tmp_path):
    """What the highest level makes for this CPU alone is there in one engine and not in the other."""
    inputs = {"x": RNG.normal(size=(2, 3, 16, 16)).astype(np.float32)}
    interface = interface_of(convolutions, 8)
    found = {}
    for target in (OnnxRuntimeTarget(), FALLBACK):
        entry = target.compile(convolutions, tmp_path, interface, 1, Precision.FP32)
        found[target.kind] = executed(tmp_path / entry.file, inputs)
    assert "ReorderOutput" in found["onnxruntime"]
    known = {node.op_type for node in convolutions.model.graph.node}
    assert found[PORTABLE] <= known - {"BatchNormalization"}, "folded, and nothing else"


def test_the_portable_levels_operators_are_all_standard(convolutions, make_onnx, tmp_path):
    for source in (convolutions, source_of(make_onnx(), tmp_path)):
        FALLBACK._optimise(source, tmp_path / "shown.onnx", 1, "ONNX")
        assert {node.domain for node in onnx.load(tmp_path / "shown.onnx").graph.node} == {""}


def test_a_kind_that_is_not_here_has_no_stamp():
    with pytest.raises(EngineLoad, match="'tensorrt'"):
        stamp_of("tensorrt")


def _unreadable(*_args, **_options):
    raise PermissionError
