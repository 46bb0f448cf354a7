"""The engines that a bundle could get, and what is recorded of each."""

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from appliance import errors
from appliance.manifest import CALIBRATION_FILE, Precision
from compiler.compiling.trials import FALLBACK, KEPT, SLOWER
from compiler.proving.running import served_outputs
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from compiler.targets.openvino_cpu import OpenVinoTarget
from runtime.engines.stamp import PORTABLE, stamp_of

FP32, INT8 = Precision.FP32, Precision.INT8


@pytest.fixture
def packed(workshop):
    """A workshop with its bundle packed."""
    workshop.pack()
    return workshop


@pytest.fixture
def clocked(monkeypatch):
    """Sets how fast engines are found to be: the given attempts first, in their order."""

    def set_order(*first: tuple[str, Precision]) -> None:
        def by_speed(timings):
            return sorted(timings, key=lambda key: first.index(key) if key in first else len(first))

        monkeypatch.setattr("compiler.compiling.candidates.by_speed", by_speed)

    return set_order


def trials(version) -> dict[tuple[str, Precision], object]:
    return {(item.engine, item.precision): item for item in version.record.trials}


def spec_precision(workshop, precision: str, *, fallback: bool = True) -> None:
    wanted = f'precision = "{precision}"\nfallback = {str(fallback).lower()}'
    workshop.change("batch_max = 8", f"batch_max = 8\n{wanted}")
    workshop.pack()


def test_both_engines_are_tried_and_the_table_is_kept(packed):
    version = packed.build().version
    found = trials(version)
    assert set(found) == {("onnxruntime", FP32), ("openvino", FP32), (PORTABLE, FP32)}
    for trial in found.values():
        assert [timing.rows for timing in trial.timings] == [1, 8]
        assert all(0 < timing.median_ms <= timing.p99_ms for timing in trial.timings)
        assert trial.bytes > 0
        assert trial.error_p99 <= trial.error_max < 1e-5
    kept = found[version.record.engine.kind, FP32]
    assert (kept.verdict, kept.metric) == (KEPT, 1.0)
    assert kept.bytes == (version.directory / version.record.engine.file).stat().st_size


@pytest.mark.parametrize(
    ("kept", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")]
)
def test_the_fastest_that_passes_is_kept_and_the_fallback_beside_it(packed, clocked, kept, other):
    clocked((PORTABLE, FP32), (kept, FP32))  # even the fastest of all is not kept when portable
    version = packed.build().version
    engine, fallback = version.record.engine, version.record.fallback
    assert (engine.kind, fallback.kind) == (kept, PORTABLE)
    assert fallback.stamp == stamp_of(PORTABLE)
    assert engine.key != fallback.key
    assert {path.name for path in version.directory.glob("engine*")} == {engine.file, fallback.file}
    spare, slower = trials(version)[PORTABLE, FP32], trials(version)[other, FP32]
    assert (spare.verdict, spare.metric) == (FALLBACK, 1.0)
    assert spare.bytes == (version.directory / fallback.file).stat().st_size
    assert (slower.verdict, slower.metric) == (SLOWER, None)
    assert slower.error_max is not None


def test_no_latency_limit_is_laid_on_the_fallback(workshop, clocked, monkeypatch):
    limited = []
    monkeypatch.setattr(
        "compiler.compiling.candidates.check_latency", lambda *_: limited.append(True)
    )
    workshop.pack()
    assert workshop.build().version.record.fallback is not None
    assert len(limited) == 1


def test_a_fallback_that_fails_costs_the_fallback_alone(packed, monkeypatch):
    def compiled(target, *arguments, real=OnnxRuntimeTarget.compile):
        if target.portable:
            raise errors.EngineBuild("not portable", remedy="none")
        return real(target, *arguments)

    monkeypatch.setattr(OnnxRuntimeTarget, "compile", compiled)
    version = packed.build().version
    assert version.record.fallback is None
    assert trials(version)[PORTABLE, FP32].verdict == "[engine.build] not portable"
    assert trials(version)[version.record.engine.kind, FP32].verdict == KEPT


def test_without_a_fallback_only_the_kept_engine_is_there(workshop, clocked):
    clocked(("openvino", FP32))
    spec_precision(workshop, "fp32", fallback=False)
    version = workshop.build().version
    assert version.record.fallback is None
    assert trials(version)["onnxruntime", FP32].verdict == SLOWER
    assert (PORTABLE, FP32) not in trials(version)
    assert [path.name for path in version.directory.glob("engine*")] == ["engine.fp32.blob"]


def test_int8_is_calibrated_built_and_proven_with_fp32_to_fall_back_on(workshop):
    spec_precision(workshop, "int8")
    version = workshop.build().version
    record = version.record
    assert record.engine.precision is INT8
    assert record.engine.file.startswith("engine.int8.")
    assert (record.fallback.kind, record.fallback.precision) == (PORTABLE, FP32)
    assert version.manifest.calibration.rows == 40
    assert 1e-5 < record.proof.error_max < 0.3


def test_auto_tries_every_precision_and_tells_why_some_are_not_there(workshop):
    spec_precision(workshop, "auto")
    found = trials(workshop.build().version)
    assert set(found) == {
        (kind, precision)
        for kind in ("onnxruntime", "openvino")
        for precision in (FP32, Precision.FP16, Precision.BF16, INT8)
    } | {(PORTABLE, FP32)}
    for target in (OnnxRuntimeTarget(), OpenVinoTarget()):
        for precision in (Precision.FP16, Precision.BF16):
            reason = target.unable(precision)
            if reason is not None:
                assert found[target.kind, precision].verdict == f"[engine.build] {reason}"
    assert [trial.verdict for trial in found.values()].count(KEPT) == 1


def test_auto_keeps_the_fastest_that_passes_and_leaves_what_missed(workshop, clocked):
    clocked(("onnxruntime", INT8), ("openvino", INT8), ("onnxruntime", FP32))
    workshop.change(
        "[tolerance.fp32]", "[tolerance.int8]\nabsolute = 1e-6\nrelative = 0.0\n[tolerance.fp32]"
    )
    spec_precision(workshop, "auto")
    version = workshop.build().version
    found = trials(version)
    assert (version.record.engine.kind, version.record.engine.precision) == ("onnxruntime", FP32)
    for kind in ("onnxruntime", "openvino"):
        missed = found[kind, INT8]
        assert missed.verdict.startswith("[proof.golden]")
        assert missed.timings
        assert missed.bytes > 0


def test_a_precision_that_no_engine_has_here_is_refused_for_every_reason(workshop):
    if OpenVinoTarget().unable(Precision.FP16) is None:
        pytest.skip("this CPU computes in fp16")
    spec_precision(workshop, "fp16")
    with pytest.raises(errors.EngineBuild) as refused:
        workshop.build()
    assert str(refused.value).startswith("no engine passed: onnxruntime fp16: ")
    assert "; openvino fp16: " in str(refused.value)
    assert workshop.left_behind() == []


def test_an_engine_over_the_latency_limit_has_missed(workshop):
    workshop.change("[tolerance.fp32]", "[limits]\nlatency_ms_max = 1e-6\n[tolerance.fp32]")
    workshop.pack()
    with pytest.raises(errors.LimitMissed) as missed:
        workshop.build()
    assert "onnxruntime fp32: answering one row takes" in str(missed.value)
    assert "latency_ms_max" in missed.value.remedy


def test_a_model_that_cannot_be_lowered_is_built_in_fp32_by_auto(workshop, make_onnx):
    scale = helper.make_node("Mul", ["x", "x"], ["square"])
    pad = helper.make_node("Concat", ["square", "first"], ["scores"], axis=1)
    first = helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"])
    constants = {"zero": [0], "one": [1]}
    onnx.save(
        make_onnx(
            [
                scale,
                first,
                pad,
            ],
            constants={
                name: onnx.numpy_helper.to_array(
                    helper.make_tensor(name, TensorProto.INT64, [1], value)
                )
                for name, value in constants.items()
            },
        ),
        workshop.model,
    )
    workshop.change("minimum = 0.9", "minimum = 0.0")
    spec_precision(workshop, "auto")
    version = workshop.build().version
    assert version.record.engine.precision is FP32
    assert "nothing to compute in int8" in trials(version)["openvino", INT8].verdict


def test_a_calibration_that_is_not_the_manifests_is_refused(workshop):
    spec_precision(workshop, "int8")
    manifest, _ = workshop.contents()
    changed = msgspec.structs.replace(manifest.calibration, rows=39)
    workshop.resign(calibration=changed)
    with pytest.raises(errors.BundleContent) as refused:
        workshop.build()
    assert "calibration is not the one its manifest names" in str(refused.value)
    workshop.resign(files={CALIBRATION_FILE: b"{}"})
    with pytest.raises(errors.BundleContent):
        workshop.build()
    assert workshop.left_behind() == []


def test_an_engine_that_does_not_answer_does_not_stop_the_other(packed, monkeypatch):
    failures = [errors.EngineError("no answer", remedy="none")]

    def answers(servable, inputs):
        if failures:
            raise failures.pop()
        return served_outputs(servable, inputs)

    monkeypatch.setattr("compiler.compiling.candidates.served_outputs", answers)
    version = packed.build().version
    assert version.record.engine.kind == "openvino"
    assert trials(version)["onnxruntime", FP32].verdict == "[engine.failed] no answer"
    assert version.record.fallback.kind == PORTABLE


def test_a_model_that_openvino_would_narrow_is_built_for_onnx_runtime(packed, make_onnx):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Cast", ["scores"], ["whole"], to=TensorProto.INT64),
    ]
    onnx.save(
        make_onnx(
            nodes,
            outputs={
                "scores": (TensorProto.FLOAT, ["rows", 4]),
                "whole": (TensorProto.INT64, ["rows", 4]),
            },
        ),
        packed.model,
    )
    packed.pack()
    version = packed.build().version
    assert version.record.engine.kind == "onnxruntime"
    verdict = trials(version)["openvino", FP32].verdict
    assert "makes 'whole', which is INT64 and would be computed in fewer bits" in verdict
