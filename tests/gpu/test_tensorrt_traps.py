"""What TensorRT documents that it may do, and a build must live with."""

import pytest

from appliance.errors import EngineBuild
from appliance.manifest import Precision
from compiler.progress import Silent
from compiler.targets.tensorrt.building import BAR_STEPS, Fraction, configured
from compiler.targets.tensorrt.shapes import Range
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.gpu.tensorrt_library import new_monitor
from tests.gpu.building import convolutions, gpu, opened
from tests.gpu.fake_contexts import Context
from tests.gpu.fake_tensorrt import RELEASES, FakeTensorRT
from tests.gpu.plans import Logger


class Bar(Silent):
    """A progress that adds up."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, steps: int = 1) -> None:
        self.steps.append(steps)


def test_phases_side_by_side_and_left_early_end_no_build() -> None:
    """IProgressMonitor: called by several threads; a phase may be finished before all of its steps are told."""
    bar = Bar()
    monitor = new_monitor(FakeTensorRT("11.4").module, Fraction(bar).tell)
    monitor.phase_start("Build", None, 2)
    monitor.phase_start("One", "Build", 3)
    monitor.phase_start("Other", "Build", 3)
    assert monitor.step_complete("One", 0)
    assert monitor.step_complete("Other", 0)
    monitor.phase_finish("Other")
    assert monitor.step_complete("One", 2)
    assert monitor.step_complete("Other", 1)
    monitor.phase_finish("One")
    assert monitor.step_complete("Build", 1)
    monitor.phase_finish("Build")
    assert monitor.error is None
    assert min(bar.steps) > 0
    assert sum(bar.steps) == BAR_STEPS


@pytest.mark.parametrize("release", RELEASES)
def test_ranges_that_the_library_refuses_are_an_error_of_ours(release: str) -> None:
    trt = FakeTensorRT(release).module
    builder = trt.Builder(Logger.of(trt))
    falling = {"x": Range((4, 10), (2, 10), (8, 10))}
    with pytest.raises(EngineBuild, match="does not take the ranges"):
        configured(trt, builder, gpu().settings, falling)


def test_shapes_that_cannot_be_inferred_are_an_error_of_ours(monkeypatch, tmp_path) -> None:
    """The bindings' infer_shapes raises RuntimeError where inferShapes returns -1, and the log holds the node."""

    def stuck(context: Context) -> list[str]:
        context._refuse("IShuffleLayer fixed: reshape would change volume 24 to 3")
        raise RuntimeError("infer_shapes error code: -1")

    monkeypatch.setattr(Context, "infer_shapes", stuck)
    with FakeTensorRT("11.4").installed():
        source, interface = opened(convolutions(), tmp_path)
        with pytest.raises(EngineBuild, match=r"error code: -1.*IShuffleLayer fixed") as refused:
            TensorRTTarget(gpu=gpu()).compile(source, tmp_path, interface, 1, Precision.FP32)
    assert "Reshape" in refused.value.remedy


@pytest.mark.parametrize("release", RELEASES)
def test_inputs_and_outputs_lie_as_arrays_do(release, tmp_path) -> None:
    """By default TensorRT may choose (ITensor::setAllowedFormats)."""
    with FakeTensorRT(release).installed() as fake:
        source, interface = opened(convolutions(), tmp_path)
        TensorRTTarget(gpu=gpu()).compile(source, tmp_path, interface, 1, Precision.FP32)
        assert [plan.linear for plan in fake.built] == [True]
