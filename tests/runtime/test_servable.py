"""A version between its kernels: batches, failures of one request, proof."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import EngineError, GoldenMissed
from appliance.golden import Golden
from appliance.manifest import Manifest, Precision
from appliance.recipe import Recipe, Softmax
from appliance.store import Store
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout
from runtime.servable import Servable, golden_of, load_proven

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(2,))
Y = TensorSpec(name="y", datatype=DataType.FP32, shape=(2,))
RECIPE = Recipe(after=(Softmax(tensor="y", output="p"),))


class Negating:
    """An engine that gives -x, and fails on any batch that holds a 13."""

    kind = "fake"
    resting = False

    def __init__(self, batch_max):
        self.interface = Interface(inputs=(X,), outputs=(Y,), batch_max=batch_max)
        self.calls = []
        self.closed = False

    def run(self, inputs):
        x = inputs["x"]
        self.calls.append(x.shape)
        if (x == 14).any():
            raise MemoryError("14 is large")
        if (x == 13).any():
            raise EngineError("13 is unlucky", remedy="send another number")
        return {"y": -x}

    def lane(self):
        return Negating(self.interface.batch_max)

    def close(self):
        self.closed = True


def servable(batch_max=4, clock=None):
    engine = Negating(batch_max)
    rows = np.eye(2, dtype=np.float32) if batch_max else np.ones(2, np.float32)
    layout = fit_layout(RECIPE, engine.interface, {"x": rows}, {"y": -rows})
    chain = Chain(RECIPE, engine=engine.interface)
    return Servable(engine=engine, chain=chain, vector=DriftVector(layout), clock=clock), engine


def rows(*values):
    return {"x": np.array([[value, value + 1] for value in values], np.float32)}


def test_requests_share_one_engine_call_and_get_their_own_rows():
    ours, engine = servable()
    first, second = ours.run([rows(1), rows(5, 7)])
    assert engine.calls == [(3, 2)]
    np.testing.assert_array_equal(first.outputs["y"], [[-1, -2]])
    np.testing.assert_array_equal(second.outputs["y"], [[-5, -6], [-7, -8]])
    np.testing.assert_allclose(second.outputs["p"].sum(axis=1), 1, rtol=1e-6)
    assert (len(first.vectors), len(second.vectors)) == (1, 2)


def test_a_request_the_engine_refuses_fails_alone():
    ours, _ = servable()
    good, bad, other = ours.run([rows(1), rows(13), rows(3)])
    assert isinstance(bad, EngineError)
    np.testing.assert_array_equal(good.outputs["y"], [[-1, -2]])
    np.testing.assert_array_equal(other.outputs["y"], [[-3, -4]])


def test_a_request_that_breaks_the_library_fails_alone_too():
    ours, _ = servable()
    good, bad = ours.run([rows(1), rows(14)])
    assert isinstance(bad, EngineError)
    assert "14 is large" in str(bad)
    np.testing.assert_array_equal(good.outputs["y"], [[-1, -2]])


def test_answers_outlive_the_next_batch():
    ours, _ = servable()
    (first,) = ours.run([rows(1)])
    ours.run([rows(9)])
    np.testing.assert_array_equal(first.outputs["y"], [[-1, -2]])


def test_an_engine_call_is_padded_and_nobody_gets_the_padding():
    ours, engine = servable()
    first, second = ours.run([rows(1), rows(5)], 4)
    assert engine.calls == [(4, 2)]
    np.testing.assert_array_equal(first.outputs["y"], [[-1, -2]])
    np.testing.assert_array_equal(second.outputs["y"], [[-5, -6]])
    (alone,) = ours.run([rows(3, 7)], 3)
    np.testing.assert_array_equal(alone.outputs["y"], [[-3, -4], [-7, -8]])
    assert alone.outputs["p"].shape == (2, 2)
    assert len(alone.vectors) == 2


def test_padding_is_what_the_engine_takes():
    ours, engine = servable()
    seen = []
    run = engine.run
    engine.run = lambda inputs: seen.append(inputs["x"].copy()) or run(inputs)
    ours.run([rows(9), rows(1)], 4)
    np.testing.assert_array_equal(seen[0][2:], [[9, 10], [9, 10]])


def test_lanes_share_nothing_that_changes():
    ours, engine = servable()
    twin = ours.lane()
    (first,) = ours.run([rows(1)])
    (other,) = twin.run([rows(5)])
    np.testing.assert_array_equal(first.outputs["y"], [[-1, -2]])
    np.testing.assert_array_equal(other.outputs["y"], [[-5, -6]])
    assert engine.calls == [(1, 2)]
    twin.close()
    assert not engine.closed


def test_lanes_run_side_by_side_on_a_stored_version(state, held_out):
    ours = load_proven(Store(state / "store").open("digits", 2), threads=1, lanes=2)
    lanes, images = [ours, ours.lane()], held_out["image"]
    wanted = ours.run([{"image": images[:8]}])[0].outputs["logits"]

    def run(lane):
        """A lane is one thread's at a time."""
        return [lane.run([{"image": images[:8]}])[0].outputs["logits"] for _ in range(20)]

    with ThreadPoolExecutor(2) as threads:
        for answers in threads.map(run, lanes):
            for answer in answers:
                np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-5)
    for lane in lanes:
        lane.close()


def test_an_answer_says_where_its_time_went():
    times = iter(range(0, 100, 10))

    class Clock:
        def monotonic_ns(self):
            return next(times)

    ours, _ = servable(clock=Clock())
    (answer,) = ours.run([rows(1)])
    assert (answer.before_ns, answer.after_ns) == (10, 10)


def test_an_unbatched_model_has_no_row_axis():
    ours, engine = servable(batch_max=0)
    (answer,) = ours.run([{"x": np.array([1, 2], np.float32)}])
    assert engine.calls == [(2,)]
    np.testing.assert_array_equal(answer.outputs["y"], [-1, -2])
    assert answer.vectors.shape[0] == 1


def manifest_of(state: Path) -> Manifest:
    return Store(state / "store").describe("digits", 1).manifest


@pytest.mark.parametrize("batch_max", [4, 0])
def test_proof_runs_rows_alone_and_in_batches(batch_max, digits_state):
    ours, engine = servable(batch_max)
    inputs = rows(1, 2, 3, 4, 5)["x"]
    golden = Golden(inputs={"x": inputs}, outputs={"y": -inputs})
    assert ours.prove(golden, manifest_of(digits_state), Precision.FP32) == 0.0
    if batch_max:
        assert engine.calls == [(1, 2)] * 5 + [(4, 2), (1, 2)]
    wrong = Golden(inputs={"x": inputs}, outputs={"y": -inputs - 1})
    with pytest.raises(GoldenMissed, match="output 'y' at"):
        ours.prove(wrong, manifest_of(digits_state), Precision.FP32)


def test_warming_runs_every_bucket():
    ours, engine = servable()
    ours.warm(Golden(inputs={"x": rows(1)["x"]}, outputs={}))
    assert engine.calls == [(1, 2), (2, 2), (4, 2)]


@pytest.mark.parametrize(
    ("batch_max", "sizes"), [(0, []), (1, [1]), (6, [1, 2, 4, 6]), (48, [1, 2, 4, 8, 16, 32, 48])]
)
def test_warming_ends_with_the_largest_batch(batch_max, sizes):
    ours, engine = servable(batch_max)
    ours.warm(Golden(inputs={"x": rows(1)["x"]}, outputs={}))
    assert engine.calls == ([(size, 2) for size in sizes] if batch_max else [(2,)])


def test_warming_runs_the_sizes_that_are_padded_to():
    ours, engine = servable()
    ours.warm(Golden(inputs={"x": rows(1)["x"]}, outputs={}), sizes=(3, 9))
    assert engine.calls == [(1, 2), (2, 2), (3, 2), (4, 2)]


def test_proof_fills_the_largest_batch(digits_state):
    ours, engine = servable(batch_max=7)
    inputs = rows(1, 2, 3)["x"]
    golden = Golden(inputs={"x": inputs}, outputs={"y": -inputs})
    ours.prove(golden, manifest_of(digits_state), Precision.FP32)
    assert engine.calls == [(1, 2)] * 3 + [(7, 2)]


@pytest.mark.parametrize("batch_max", [4, 0])
@pytest.mark.parametrize(
    "change",
    [lambda y: y[..., :1], lambda y: y.astype(np.float64), lambda y: np.concatenate([y, y])],
    ids=["shape", "type", "rows"],
)
def test_outputs_that_are_not_as_declared_are_not_served(batch_max, change, monkeypatch):
    ours, engine = servable(batch_max)
    monkeypatch.setattr(engine, "run", lambda inputs: {"y": change(inputs["x"])})
    (failed,) = ours.run([rows(1) if batch_max else {"x": np.ones(2, np.float32)}])
    assert isinstance(failed, EngineError)
    assert "output 'y' came out as" in str(failed)


def test_a_stored_version_is_loaded_warm_and_proven(state, held_out):
    stored = Store(state / "store").open("digits", 2)
    ours = load_proven(stored, threads=1)
    (answer,) = ours.run([{"image": held_out["image"][:8]}])
    assert answer.outputs["labels"].shape == (8, 3)
    ours.close()


def test_a_stored_version_that_misses_its_golden_vectors_is_not_served(state):
    stored = Store(state / "store").open("digits", 1)
    golden = golden_of(stored.directory)
    golden.outputs["logits"][3, 3] += 1
    (stored.directory / "golden.npz").chmod(0o644)
    (stored.directory / "golden.npz").write_bytes(golden.to_bytes())
    with pytest.raises(GoldenMissed, match=r"'logits' at \[0, 3\]"):
        load_proven(stored, threads=1)


def test_a_proof_sees_the_engines_outputs_and_the_served_ones(digits_state):
    stored = Store(digits_state / "store").describe("digits", 1)
    ours = load_proven(stored, threads=1)
    golden = golden_of(stored.directory)
    request = {name: array[:3] for name, array in golden.inputs.items()}
    engine, served = ours.answered(request)
    assert set(engine) < set(served)
    known = {name: array[:3] for name, array in golden.outputs.items()}
    completed = ours.completed(request, known)
    assert {name: array.shape for name, array in completed.items()} == {
        name: array.shape for name, array in served.items()
    }
    with pytest.raises(EngineError, match="could not be computed"):
        ours.answered({})
    ours.close()


def test_what_a_proof_has_run_is_not_warmed_again():
    ours, engine = servable(6)
    ours.warm(Golden(inputs={"x": rows(1)["x"]}, outputs={}), sizes=(3, 6), proven=True)
    assert engine.calls == [(2, 2), (3, 2), (4, 2)]
