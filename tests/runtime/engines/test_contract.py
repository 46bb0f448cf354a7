"""What holds for every engine, whatever library runs it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from appliance.errors import EngineError, EngineLoad, RequestError
from appliance.manifest import Precision
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.engines import ENGINES, load_engine
from runtime.engines.bounded import Bounded

RNG = np.random.default_rng(3)


def matmul_rows(count: int) -> np.ndarray:
    return RNG.normal(size=(count, 64)).astype(np.float32)


@pytest.fixture
def weights(engine_files):
    model = onnx.load(engine_files["matmul"] / "model.onnx")
    return numpy_helper.to_array(model.graph.initializer[0])


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_computes_the_model_in_float32(load, weights, rows, threads):
    x = matmul_rows(rows)
    outputs = load("matmul", threads=threads).run({"x": x})
    assert set(outputs) == {"y"}
    assert outputs["y"].dtype == np.float32
    # bfloat16 keeps 8 bits and would miss this bound by two orders of magnitude.
    np.testing.assert_allclose(outputs["y"], x.astype(np.float64) @ weights, rtol=1e-5, atol=1e-4)


def test_keeps_datatypes_and_names_without_a_batch_axis(load):
    outputs = load("mixed").run(
        {"image": np.array([7, 200], np.uint8), "count": np.array([1, 2**30], np.int32)}
    )
    assert outputs["large"].dtype == np.bool_
    assert outputs["large"].tolist() == [False, True]
    assert outputs["sum"].dtype == np.int32
    assert outputs["sum"].tolist() == [2, 2**30 + 1]


def test_outputs_stay_valid_after_the_next_run(load):
    engine = load("matmul")
    first = engine.run({"x": np.ones((2, 64), np.float32)})["y"]
    kept = first.copy()
    engine.run({"x": np.zeros((2, 64), np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_takes_read_only_and_strided_arrays(load):
    engine, x = load("matmul"), matmul_rows(4)
    wanted = engine.run({"x": x})["y"]
    x.setflags(write=False)
    np.testing.assert_array_equal(engine.run({"x": x})["y"], wanted)
    spread = np.repeat(x, 2, axis=0)[::2]
    np.testing.assert_array_equal(engine.run({"x": spread})["y"], wanted)


@pytest.mark.parametrize(
    "inputs",
    [
        {"x": np.zeros((2, 63), np.float32)},
        {"x": np.zeros((2, 64), np.float64)},
        {"x": np.zeros((2, 64, 1), np.float32)},
        {},
    ],
    ids=["shape", "datatype", "axes", "missing"],
)
def test_refuses_what_does_not_fit_and_stays_usable(load, inputs):
    engine, x = load("matmul"), matmul_rows(2)
    wanted = engine.run({"x": x})["y"]
    with pytest.raises(EngineError) as refused:
        engine.run(inputs)
    assert refused.value.code == "engine.failed"
    assert refused.value.remedy
    np.testing.assert_array_equal(engine.run({"x": x})["y"], wanted)


def test_says_what_it_is(load, kind):
    engine = load("matmul")
    assert engine.kind == kind
    assert engine.interface.batch_max == 8
    engine.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "cut", "onnx", "foreign"])
def test_a_file_that_is_no_engine_of_its_kind_is_refused(
    engine_files, engine_path, kind, tmp_path, damage
):
    whole = engine_path.read_bytes()
    path = tmp_path / "engine"
    if damage != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "garbage": b"garbage " * 100,
                "cut": whole[: len(whole) // 2],
                "onnx": (engine_files["matmul"] / "model.onnx").read_bytes(),
                "foreign": next(
                    file.read_bytes()
                    for file in engine_path.parent.glob("engine.*")
                    if file.suffix != engine_path.suffix
                ),
            }[damage]
        )
    with pytest.raises(EngineLoad) as refused:
        load_engine(kind, path, interface=_matmul(), threads=1, precision=Precision.FP32)
    assert "build" in refused.value.remedy


@pytest.mark.parametrize(
    "interface",
    [
        Interface(inputs=(), outputs=(), batch_max=8),
        Interface(
            inputs=(TensorSpec(name="z", datatype=DataType.FP32, shape=(64,)),),
            outputs=(TensorSpec(name="y", datatype=DataType.FP32, shape=(32,)),),
            batch_max=8,
        ),
        Interface(
            inputs=(TensorSpec(name="x", datatype=DataType.INT64, shape=(64,)),),
            outputs=(TensorSpec(name="y", datatype=DataType.FP32, shape=(32,)),),
            batch_max=8,
        ),
    ],
    ids=["count", "name", "datatype"],
)
def test_an_engine_of_another_model_is_refused(load, interface):
    with pytest.raises(EngineLoad) as refused:
        load("matmul", interface=interface)
    assert "another model" in refused.value.remedy


def test_an_unknown_kind_is_refused(engine_path):
    with pytest.raises(EngineLoad) as refused:
        load_engine(
            "tensorflow", engine_path, interface=_matmul(), threads=1, precision=Precision.FP32
        )
    assert refused.value.code == "engine.load"
    assert all(kind in refused.value.remedy for kind in ENGINES)


def _matmul() -> Interface:
    return Interface(
        inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(64,)),),
        outputs=(TensorSpec(name="y", datatype=DataType.FP32, shape=(32,)),),
        batch_max=8,
    )


def test_values_outside_of_an_engine_s_bounds_are_refused(load, kind):
    bounded = Bounded(load("mixed"), {"count": (-2, 3)})
    image = np.array([1, 200], np.uint8)
    inside = bounded.run({"count": np.array([-2, 3], np.int32), "image": image})
    assert inside["sum"].tolist() == [-1, 4]
    with pytest.raises(RequestError, match="input 'count' holds 4, this version takes -2 to 3"):
        bounded.run({"count": np.array([0, 4], np.int32), "image": image})
    bounded.close()


def test_bounds_of_what_is_no_input_are_another_model_s(load):
    with pytest.raises(EngineLoad, match="no inputs of the version"):
        Bounded(load("mixed"), {"other": (0, 1)})
