"""What must hold before a version is filed."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import EngineError, GoldenMissed
from compiler.proof import served_outputs
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from runtime.servable import Answer


class WrongAt(OnnxRuntimeTarget):
    """Compiles a model that is right except for calls of exactly `rows` rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def compile(self, model, directory, interface, threads):
        changed = onnx.load(model)
        del changed.graph.node[:]
        changed.graph.node.extend(
            [
                helper.make_node("MatMul", ["x", "w"], ["right"]),
                helper.make_node("Shape", ["x"], ["rows"], end=1),
                helper.make_node("Equal", ["rows", "wrong_at"], ["wrong"]),
                helper.make_node("Cast", ["wrong"], ["error"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["right", "error"], ["scores"]),
            ]
        )
        changed.graph.initializer.append(
            numpy_helper.from_array(np.array([self._rows], np.int64), "wrong_at")
        )
        onnx.save(changed, directory / "engine.changed.onnx")
        return super().compile(directory / "engine.changed.onnx", directory, interface, threads)


@pytest.mark.parametrize("rows", [1, 8])
def test_golden_vectors_are_compared_at_one_row_and_at_a_full_batch(workshop, rows):
    """There are five golden rows and batches of eight: the rows are used again to fill them."""
    workshop.pack()
    with pytest.raises(GoldenMissed):
        workshop.build(targets=[WrongAt(rows)])
    assert workshop.left_behind() == []


def test_the_tolerance_is_the_specs(workshop):
    workshop.change("absolute = 1e-4", "absolute = 1.5")
    workshop.pack()
    proof = workshop.build(targets=[WrongAt(8)]).version.record.proof
    assert proof.error_max == pytest.approx(1.0, abs=1e-5)


@dataclass
class Answering:
    """A servable with one answer for every request."""

    answer: object

    def run(self, requests):
        return [self.answer for _ in requests]


def test_an_engine_that_fails_on_rows_it_must_serve_is_not_proven():
    answer = Answer(outputs={"y": np.zeros(1)}, vectors=np.zeros((1, 0), np.float32))
    assert served_outputs(Answering(answer), {}) is answer.outputs
    with pytest.raises(EngineError):
        served_outputs(Answering(EngineError("failed", remedy="r")), {})
