"""Lanes of one engine: side by side over the same weights, each on its own."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime.engines.bounded import Bounded

RNG = np.random.default_rng(5)


@pytest.fixture
def weights(engine_files):
    model = onnx.load(engine_files["matmul"] / "model.onnx")
    return numpy_helper.to_array(model.graph.initializer[0])


@pytest.mark.parametrize("lanes", [1, 2])
def test_lanes_compute_side_by_side_also_beyond_those_asked_for(load, weights, lanes):
    first = load("matmul", lanes=lanes)
    engines = [first, first.lane(), first.lane().lane()]
    batches = [RNG.normal(size=(rows, 64)).astype(np.float32) for rows in (1, 3, 8)] * 10

    def run(engine):
        return [engine.run({"x": x})["y"] for x in batches]

    with ThreadPoolExecutor(len(engines)) as threads:
        for outputs in threads.map(run, engines):
            for x, y in zip(batches, outputs, strict=True):
                np.testing.assert_allclose(y, x @ weights, rtol=1e-4, atol=1e-4)
    assert {engine.kind for engine in engines} == {first.kind}


def test_a_lane_outlives_the_one_it_came_from(load, weights):
    first = load("matmul", lanes=2)
    twin = first.lane()
    first.close()
    first.close()
    x = np.ones((2, 64), np.float32)
    np.testing.assert_allclose(twin.run({"x": x})["y"], x @ weights, rtol=1e-4, atol=1e-4)
    third = twin.lane()
    twin.close()
    np.testing.assert_allclose(third.run({"x": x})["y"], x @ weights, rtol=1e-4, atol=1e-4)


def test_a_lane_of_a_bounded_engine_is_bounded(load):
    lane = Bounded(load("mixed"), {"count": (-2, 3)}).lane()
    assert isinstance(lane, Bounded)
    assert lane.interface.batch_max == 0
