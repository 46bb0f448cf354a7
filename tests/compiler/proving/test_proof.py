"""What must hold before a version is filed."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.errors import (
    EngineError,
    GoldenMissed,
    LimitMissed,
    SpecError,
    StoreError,
    ThresholdMissed,
)
from appliance.store import Store
from compiler.opening.source import Source
from compiler.proving.memory import added_bytes, resident_bytes
from compiler.proving.proof import served_outputs
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from runtime.servable import Answer


class WrongAt(OnnxRuntimeTarget):
    """Compiles a model that is right except for calls of exactly `rows` rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def compile(self, source, directory, interface, threads, precision):
        changed = onnx.load_from_string(source.data)
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
        wrong = Source(data=changed.SerializeToString(), model=changed)
        return super().compile(wrong, directory, interface, threads, precision)


@pytest.mark.parametrize("rows", [1, 3, 7, 8])
def test_golden_vectors_are_compared_at_every_size_and_at_odd_ones(workshop, rows):
    """There are five golden rows and batches of eight: the rows are used again to fill them."""
    workshop.pack()
    calls = "1 row in a call" if rows == 1 else f"{rows} rows in a call"
    with pytest.raises(GoldenMissed, match=calls):
        workshop.build(targets=[WrongAt(rows)])
    assert workshop.left_behind() == []


def test_the_tolerance_is_the_specs(workshop):
    workshop.change("absolute = 1e-4", "absolute = 1.5")
    workshop.pack()
    proof = workshop.build(targets=[WrongAt(8)]).version.record.proof
    assert proof.error_max == pytest.approx(1.0, abs=1e-5)


def built(workshop, **options):
    """The version of the workshop's bundle, packed anew, by one quick target."""
    workshop.pack()
    return workshop.build(targets=[OnnxRuntimeTarget()], **options).version


def test_what_was_proven_is_told_in_figures(workshop):
    proof = built(workshop).record.proof
    by_name = {item.output: item for item in proof.outputs}
    assert {name for name, item in by_name.items() if item.gated} == {"scores", "probabilities"}
    assert by_name["labels"].agreement == by_name["classes"].agreement == 1.0
    assert by_name["scores"].cosine == pytest.approx(1.0)
    assert [item.rows for item in proof.buckets] == [1, 2, 3, 4, 5, 7, 8]
    assert proof.error_max >= proof.error_p99 >= 0.0
    told = {(item.disturbance.kind, item.rows) for item in proof.disturbed}
    assert told == {("noise", 60), ("missing", 60), ("adversarial", 60)}


def test_the_report_is_a_file_of_the_version(workshop):
    version = built(workshop)
    names = {item.name for item in version.record.files}
    assert {"report.json", "report.html"} <= names
    html = (version.directory / "report.html").read_text()
    assert "accuracy of scores" in html
    assert version.record.bundle_sha256 in html
    (version.directory / "report.html").chmod(0o644)
    (version.directory / "report.html").write_text("another")
    with pytest.raises(StoreError, match=r"report\.html"):
        Store(workshop.config.state.store).open("tiny", 1)


BY_SITE = """
[[acceptance]]
metric = "macro_f1"
output = "scores"
minimum = 0.8
segment = "site"

[tolerance.fp32]"""


def test_each_segment_must_reach_its_threshold_by_itself(workshop, make_rows, classes_of):
    workshop.change("\n[tolerance.fp32]", BY_SITE)
    labels, site = classes_of(make_rows(60)), np.array(["north"] * 50 + ["south"] * 10)
    sealed = {"person": make_rows(60), "segment/site": site}
    workshop.save_rows("held_out", **sealed, label=labels)
    reached = built(workshop).record.proof.reached
    assert [(item.segment, item.rows) for item in reached] == [
        (None, 60),
        ("north", 50),
        ("south", 10),
    ]
    labels[-3:] = (labels[-3:] + 1) % 4  # few enough for all rows together
    workshop.save_rows("held_out", **sealed, label=labels)
    with pytest.raises(ThresholdMissed, match="10 held-out rows with site = south"):
        workshop.pack()
    workshop.save_rows("held_out", person=make_rows(60), label=labels)
    with pytest.raises(SpecError, match="by segment 'site' needs that column"):
        workshop.pack()


def test_a_regression_is_held_to_a_maximum(workshop, make_rows, make_onnx):
    weights = np.float32([[1.0], [2.0], [3.0]])
    model = make_onnx(
        outputs={"scores": (TensorProto.FLOAT, ["rows", 1])}, constants={"w": weights}
    )
    onnx.save(model, workshop.model)
    spec = workshop.spec.read_text().replace('labels = ["a", "b", "c", "d"]\n', "")
    spec = spec[: spec.index("[[recipe.after]]")]
    bound = 'metric = "mean_absolute_error"\noutput = "scores"\nmaximum = 0.2'
    workshop.spec.write_text(
        spec.replace('metric = "accuracy"\noutput = "scores"\nminimum = 0.9', bound)
    )
    prepared = make_rows(60)
    prepared[:, 0] = (prepared[:, 0] - 1.0) / 2.0
    true = (prepared @ weights)[:, 0].astype(np.float64)
    workshop.save_rows("held_out", person=make_rows(60), label=true + 0.125)
    (value,) = built(workshop).record.proof.reached
    assert value.value == pytest.approx(0.125, abs=1e-5)
    workshop.save_rows("held_out", person=make_rows(60), label=true + 0.25)
    with pytest.raises(ThresholdMissed, match=r"is 0.2500, which misses at most 0.2"):
        workshop.pack()


def test_an_engine_that_takes_too_much_memory_is_refused(workshop, monkeypatch):
    workshop.change("[provenance]", "[limits]\nmemory_bytes_max = 1000\n\n[provenance]")
    held = iter(range(0, 1_000_000, 999))
    monkeypatch.setattr("compiler.proving.memory.resident_bytes", lambda: next(held))
    monkeypatch.setattr("compiler.compiling.candidates.resident_bytes", lambda: next(held))
    assert built(workshop).record.proof.memory_bytes == 999
    workshop.change("= 1000", "= 998")
    with pytest.raises(LimitMissed, match="takes 999 bytes of memory, over 998"):
        built(workshop)


def test_memory_is_that_of_this_process(tmp_path):
    before = resident_bytes()
    assert before is not None
    assert before > 1 << 20
    kept = np.ones(8 << 20)  # 64 MiB, touched
    assert (added_bytes(before) or 0) > 32 << 20
    assert kept.size
    assert added_bytes(None) is None
    assert resident_bytes(tmp_path / "none") is None
    (tmp_path / "odd").write_text("VmRSS: many\n")
    assert resident_bytes(tmp_path / "odd") is None


GATED = """
[[robustness]]
kind = "noise"
level = 0.5
drop_max = {}

[[robustness]]
kind = "missing"
level = 0.5

[provenance]"""


def test_a_disturbance_decides_only_where_the_spec_says_so(workshop):
    workshop.change("[provenance]", GATED.format(0.9))
    disturbed = built(workshop).record.proof.disturbed
    assert [(item.disturbance.kind, item.disturbance.drop_max) for item in disturbed] == [
        ("noise", 0.9),
        ("missing", None),
    ]
    workshop.change("drop_max = 0.9", "drop_max = 0.0")
    workshop.pack()
    with pytest.raises(ThresholdMissed, match="accuracy of 'scores' under noise"):
        workshop.build(targets=[OnnxRuntimeTarget()])
    workshop.change('kind = "noise"', 'kind = "blur"')
    with pytest.raises(SpecError, match="nothing to hold"):
        workshop.pack()


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_the_calibration_of_int8_is_sealed_with_its_rows(workshop, precision):
    workshop.change("batch_max = 8", f'batch_max = 8\nprecision = "{precision}"')
    manifest = workshop.pack().manifest
    assert manifest.calibration.rows == 40
    assert "calibration.json" in {item.name for item in manifest.files}


def test_int8_of_a_model_without_a_product_is_refused(workshop, make_onnx):
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["first"]),
        helper.make_node("Concat", ["x", "first"], ["scores"], axis=1),
    ]
    constants = {"from": np.int64([0]), "to": np.int64([1]), "axis": np.int64([1])}
    onnx.save(make_onnx(nodes, constants=constants), workshop.model)
    workshop.change("batch_max = 8", 'batch_max = 8\nprecision = "int8"')
    workshop.change("minimum = 0.9", "minimum = 0.0")
    with pytest.raises(SpecError, match="nothing that int8 would compute"):
        workshop.pack()


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
