"""The engine for a GPU, over the fake and the stand-in: programs, lanes, what is refused and what breaks."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper

from appliance.config import GpuConfig
from appliance.errors import EngineError, EngineLoad, GpuError, GpuLost
from appliance.manifest import Precision
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.engines import load_engine
from runtime.gpu import current
from runtime.gpu.kept import Kept, Written
from runtime.gpu.program import Program
from runtime.gpu.writing import Draft
from runtime.loaded import Loaded
from runtime.servable import ON_GPU, Servable
from tests.gpu.models import tiny_engine
from tests.gpu.sessions import BREAKS

WEIGHTS = np.random.default_rng(7).normal(size=(64, 32)).astype(np.float32)
X = TensorSpec(name="x", datatype=DataType.FP32, shape=(64,))
Y = TensorSpec(name="y", datatype=DataType.FP32, shape=(32,))
MATMUL = Interface(inputs=(X,), outputs=(Y,), batch_max=8)
ROWS = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)


@pytest.fixture(params=["here", "apart"])
def gpu(request, monkeypatch):
    """A fake GPU, held by this process or by one of its own."""
    monkeypatch.setenv(BREAKS, "100")
    current.use(
        GpuConfig(),
        executions="tests.gpu.sessions:open_sessions",
        devices="tests.gpu.fakes:open_fake",
        here=request.param == "here",
    )
    yield request.param
    current.release()
    current.use(GpuConfig(), executions=current.EXECUTIONS, devices=current.DEVICES)


@pytest.fixture
def load(gpu, tmp_path):
    """Loads a matrix product."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = tiny_engine(tmp_path, MATMUL, [node], {"w": WEIGHTS})

    def loaded(interface=MATMUL):
        return load_engine(
            "tensorrt", path, interface=interface, threads=1, precision=Precision.FP32
        )

    return loaded


def test_outputs_are_right_for_each_size_and_outlive_the_next_run(load):
    engine = load()
    first = engine.run({"x": ROWS[:3]})["y"]
    for _ in range(2):
        for count in (8, 1, 3):
            got = engine.run({"x": ROWS[:count] + count})["y"]
            np.testing.assert_allclose(got, (ROWS[:count] + count) @ WEIGHTS, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first, ROWS[:3] @ WEIGHTS, rtol=1e-4, atol=1e-4)
    (standing,) = current.standings()
    assert (standing.state, standing.lanes) == ("ready", 1)
    assert len(standing.engines) == 1
    assert current.trouble() == ""
    engine.close()


def test_lanes_share_the_engine_until_the_last_of_them_goes(load):
    engine = load()
    other = engine.lane()
    engine.close()
    np.testing.assert_allclose(other.run({"x": ROWS})["y"], ROWS @ WEIGHTS, rtol=1e-4, atol=1e-4)
    assert len(current.standings()[0].engines) == 1
    other.close()
    assert current.standings()[0].lanes == 0


def test_an_engine_of_another_model_is_refused(load):
    other = Interface(
        inputs=(TensorSpec(name="x", datatype=DataType.FP16, shape=(64,)),),
        outputs=(Y,),
        batch_max=8,
    )
    with pytest.raises(EngineLoad, match="the engine has"):
        load(other)
    assert current.standings()[0].lanes == 0


def test_shapes_that_the_engine_was_not_built_for_are_refused_and_the_lane_stays_usable(load):
    engine = load()
    with pytest.raises(Exception, match=r"(?i)dimension|shape|failed"):
        engine.run({"x": ROWS[:, :5]})
    np.testing.assert_allclose(engine.run({"x": ROWS})["y"], ROWS @ WEIGHTS, rtol=1e-4, atol=1e-4)
    engine.close()


def test_a_lost_gpu_is_told_once_to_each_request_of_the_batch(load, gpu):
    engine = load()
    ours = Servable(engine=engine, chain=_Chain(), vector=_Vector())
    bad = np.full((1, 64), 200, np.float32)
    answers = ours.run([{"x": ROWS[:1]}, {"x": bad}, {"x": ROWS[1:3]}])
    assert [type(answer) for answer in answers] == [GpuLost] * 3
    if gpu == "apart":
        (again,) = ours.run([{"x": ROWS[:1]}])
        np.testing.assert_allclose(again.outputs["y"], ROWS[:1] @ WEIGHTS, rtol=1e-4, atol=1e-4)
        assert current.standings()[0].restarts == 1
    else:
        assert current.trouble().startswith("GPU 0 is failed")


def test_memory_is_back_at_its_level_after_each_of_many_engines(load):
    first = load()
    first.run({"x": ROWS})
    level = current.standings()[0].free_bytes
    for _ in range(10):
        engine = load()
        other = engine.lane()
        for _ in range(3):
            engine.run({"x": ROWS[:3]})
        other.run({"x": ROWS})
        assert current.standings()[0].free_bytes < level
        other.close()
        engine.close()
        assert current.standings()[0].free_bytes == level
    first.close()


def test_a_process_may_reach_its_gpus_only_while_it_holds_them(load, gpu):
    engine = load()
    current.release()
    with pytest.raises(EngineError):
        engine.run({"x": ROWS})
    assert current.standings() == ()


def test_a_version_on_a_gpu_has_the_trouble_of_its_gpu(monkeypatch):
    monkeypatch.setattr(current, "trouble", lambda: "GPU 0 is restarting")
    batcher = SimpleNamespace(trouble="")

    def trouble(kind):
        stored = SimpleNamespace(record=SimpleNamespace(engine=SimpleNamespace(kind=kind)))
        return Loaded(stored, servable=None, batcher=batcher, recipe_sha256="").trouble

    assert trouble("onnxruntime") == ""
    assert trouble(ON_GPU) == "GPU 0 is restarting"


def test_no_gpu_is_opened_before_an_engine_is_loaded():
    assert current.standings() == ()
    assert current.trouble() == ""
    current.release()


class _Chain:
    """A recipe without steps."""

    def __init__(self):
        self.served, self.placed_inputs = MATMUL, frozenset()

    def prepared_shape(self, inputs):
        return {"x": inputs["x"].shape}

    def before(self, inputs, into, placed):
        into["x"][...] = inputs["x"]

    def after(self, outputs, placed):
        return dict(outputs)


class _Vector:
    def compute(self, prepared, outputs):
        return np.zeros((len(outputs["y"]), 0), np.float32)


class _Lane:
    """Notes what it is asked to keep and to drop."""

    def __init__(self):
        self.kept, self.count = set(), 0

    def install(self, program):
        self.count += 1
        self.kept.add(self.count)
        return self.count

    def forget(self, number):
        self.kept.remove(number)


def test_the_program_used_longest_ago_makes_room():
    lane, written = _Lane(), []

    def write(key):
        written.append(key)
        return Written(Program(steps=(), slot_bytes=0, arena_bytes=0), key)

    kept = Kept(lane, write, programs_max=2)
    assert [kept.take(key).number for key in "abab"] == [1, 2, 1, 2]
    assert kept.take("a").sheet == "a"
    kept.take("c")
    assert lane.kept == {1, 3}
    kept.take("b")
    assert written == ["a", "b", "c", "b"]


def test_what_fails_to_be_written_is_not_kept():
    def write(key):
        raise GpuError("not built for it", remedy="r")

    kept = Kept(_Lane(), write)
    for _ in range(2):
        with pytest.raises(GpuError):
            kept.take("a")


def test_results_that_lie_side_by_side_come_back_by_one_copy():
    draft = Draft()
    window, sent = draft.take_in(DataType.FP32, (3, 5))
    draft.copy_in()
    first, second = draft.make(DataType.FP32, (2, 2)), draft.make(DataType.INT64, (1,))
    draft.room(1000)
    third = draft.make(DataType.UINT8, (7,))
    none = draft.make(DataType.FP32, (0, 4))
    brought = draft.bring({"c": third, "a": first, "b": second, "n": none})
    program = draft.program()
    assert (window.at, sent.place.offset) == (0, 0)
    copies = [(step.slot, step.size) for step in program.steps]
    assert copies == [(0, 256), (256, 512), (768, 256)]
    assert [brought[name].at for name in "abc"] == [256, 512, 768]
    assert brought["n"].of(memoryview(bytearray(program.slot_bytes))).shape == (0, 4)
    assert program.slot_bytes == 1024
    assert draft.keep(b"abc").offset == 0
    assert draft.keep(b"d").offset == 256
