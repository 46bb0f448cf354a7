"""Running a plan: the real code over the fakes of TensorRT and of the device."""

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from appliance.errors import EngineLoad, GpuError, GpuMemory, GpuUnusable
from runtime.gpu.engine_file import Header, Part
from runtime.gpu.execution import Context, Execution, open_execution
from tests.gpu.fake_tensorrt import LEAN, RELEASES, FakeTensorRT
from tests.gpu.fakes import FakeDevice
from tests.gpu.plans import AS_LONG_AS_VALUES, ROWS_MAX, built, expected
from tests.gpu.pretence import Pretence

SOMEWHERE = Part(offset=0, size=1, sha256="")


class Box:
    """A device, TensorRT on it, and what is opened there."""

    def __init__(self, release: str, memory_bytes: int = 1 << 24) -> None:
        self.fake = FakeTensorRT(release)
        self.device = FakeDevice(Pretence(memory_bytes=memory_bytes))
        self.fake.on(self.device)
        self.stream = self.device.stream()

    def open(self, plan: bytes, *, version_compatible: bool = False) -> Execution:
        """The plan, loaded."""
        header = Header(plan=SOMEWHERE, stamp={}, version_compatible=version_compatible)
        with self.fake.installed():
            return open_execution(self.device, plan, header)

    def placed(self, array: Any) -> int:
        """An array's bytes on the device."""
        pointer = self.device.allocate(array.nbytes)
        host = ctypes.create_string_buffer(array.tobytes(), array.nbytes)
        self.device.copy_in(pointer, ctypes.addressof(host), array.nbytes, self.stream)
        self.device.synchronise(self.stream)
        return pointer

    def ran(self, execution: Execution, context: Context, x: Any) -> Any:
        """y of one run of `x` in `context`."""
        shape = execution.shapes({"x": x.shape})["y"]
        y = np.zeros(shape, np.float32)
        addresses = {"x": self.placed(x), "y": self.placed(y)}
        memory = self.device.allocate(max(context.activation_bytes, 1))
        context.lend(memory, context.activation_bytes)
        context.enqueue(addresses, self.stream)
        self.device.synchronise(self.stream)
        y = np.frombuffer(self.device.memory(addresses["y"], y.nbytes), np.float32).reshape(shape)
        for pointer in (*addresses.values(), memory):
            self.device.free(pointer)
        return y.copy()


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def box(release: str) -> Iterator[Box]:
    """What a test opens here must be given back by it."""
    made = Box(release)
    yield made
    made.device.drop_stream(made.stream)
    assert made.device.leaks() == {}
    assert made.fake.alive == []


def plan_of(release: str, **planted: Any) -> bytes:
    return bytes(built(release, **planted)["plan"])


def test_answers_are_the_models(box: Box, release: str) -> None:
    execution = box.open(plan_of(release))
    for rows in (1, 4, ROWS_MAX):
        x = np.random.default_rng(rows).normal(size=(rows, 10)).astype(np.float32)
        context = execution.context({"x": (rows, 10)})
        for _ in range(2):
            assert np.allclose(box.ran(execution, context, x), expected(x), atol=1e-6)
        context.close()
    execution.close()


def test_contexts_of_two_shapes_keep_to_theirs(box: Box, release: str) -> None:
    execution = box.open(plan_of(release))
    contexts = {rows: execution.context({"x": (rows, 10)}) for rows in (2, 3)}
    for rows in (2, 3, 2):
        x = np.ones((rows, 10), np.float32)
        assert np.allclose(box.ran(execution, contexts[rows], x), expected(x), atol=1e-6)
    for context in contexts.values():
        context.close()
    execution.close()


def test_memory_is_told_and_given_back(box: Box, release: str) -> None:
    before = box.device.room().free
    execution = box.open(plan_of(release))
    assert before - box.device.room().free == 30 * 4
    assert execution.context({"x": (2, 10)}).activation_bytes == box.fake.activation_bytes
    execution.close()
    assert box.device.room().free == before


@pytest.mark.parametrize("shape", [(0, 10), (ROWS_MAX + 1, 10), (2, 11), (2,)])
def test_shapes_that_the_engine_was_not_built_for(
    box: Box, release: str, shape: tuple[int, ...]
) -> None:
    execution = box.open(plan_of(release))
    for ask in (execution.shapes, execution.context):
        with pytest.raises(GpuError, match="was not built for"):
            ask({"x": shape})
    assert execution.shapes({"x": (2, 10)}) == {"y": (2, 3)}
    execution.close()


def test_a_run_that_fails_tells_why(box: Box, release: str) -> None:
    execution = box.open(plan_of(release))
    context = execution.context({"x": (2, 10)})
    box.fake.run_fails = "Cuda Runtime (invalid argument)"
    with pytest.raises(GpuError, match=r"did not run the engine: .*invalid argument"):
        box.ran(execution, context, np.ones((2, 10), np.float32))
    context.close()
    execution.close()
    box.device._addresses.owned.clear()  # what `ran` could not free


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ({"version": "10.99.0"}, "not compatible with this version"),
        ({"capability": (7, 5)}, "incompatible device"),
    ],
)
def test_a_plan_of_elsewhere_is_refused_in_tensorrts_words(
    box: Box, release: str, planted: dict[str, Any], words: str
) -> None:
    plan = plan_of(release)
    for name, value in planted.items():
        setattr(box.fake, name, value)
    with pytest.raises(EngineLoad, match=words) as failure:
        box.open(plan)
    assert "build the bundle again" in failure.value.remedy


def test_bytes_that_are_no_plan_are_refused(box: Box) -> None:
    with pytest.raises(EngineLoad, match="magic"):
        box.open(b"no plan at all")


def test_code_inside_a_plan_runs_only_when_the_header_says_so(box: Box, release: str) -> None:
    plan = plan_of(release, flags=("VERSION_COMPATIBLE",))
    with pytest.raises(EngineLoad, match="engine_host_code_allowed"):
        box.open(plan)
    box.open(plan, version_compatible=True).close()


def test_no_room_for_weights_is_gpu_memory(release: str) -> None:
    box = Box(release, memory_bytes=100)
    with pytest.raises(GpuMemory):
        box.open(plan_of(release))


def test_a_stripped_plan_makes_no_context(box: Box, release: str) -> None:
    plan = plan_of(release, flags=("STRIP_PLAN", "REFIT"))
    execution = box.open(plan)
    with pytest.raises(GpuError, match=r"makes no execution context: .*stripped"):
        execution.context({"x": (2, 10)})
    execution.close()


def test_the_lean_runtime_runs_version_compatible_plans() -> None:
    box = Box(LEAN)
    execution = box.open(plan_of("11.4", flags=("VERSION_COMPATIBLE",)), version_compatible=True)
    context = execution.context({"x": (2, 10)})
    x = np.ones((2, 10), np.float32)
    assert np.allclose(box.ran(execution, context, x), expected(x), atol=1e-6)
    context.close()
    execution.close()


def test_the_lean_runtime_is_given_no_other_plan() -> None:
    box = Box(LEAN)
    with pytest.raises(EngineLoad, match="version compatible plans only"):
        box.open(plan_of("11.4"))
    with pytest.raises(EngineLoad, match="ReformatRunner"):  # and what it would say
        box.open(plan_of("11.4"), version_compatible=True)


def test_without_tensorrt_nothing_is_opened() -> None:
    box = Box("11.4")
    with box.fake.installed():
        import sys

        del sys.modules["tensorrt"]
        sys.modules["tensorrt"] = None  # type: ignore[assignment]
        with pytest.raises(GpuUnusable):
            open_execution(box.device, b"", Header(plan=SOMEWHERE, stamp={}))


def test_inputs_without_a_shape_are_named(box: Box, release: str) -> None:
    execution = box.open(plan_of(release))
    with pytest.raises(GpuError, match=r"inputs \['x'\] have no shape"):
        execution.context({})
    execution.close()


@pytest.mark.parametrize(("told", "lent"), [(512, 512), (0, 1 << 16)])
def test_a_context_that_tells_of_no_activations_is_lent_what_its_profile_may_want(
    box: Box, release: str, told: int, lent: int
) -> None:
    """0 is also the answer to a question that failed."""
    execution = box.open(plan_of(release))
    box.fake.shapes_want = told
    context = execution.context({"x": (2, 10)})
    assert context.activation_bytes == lent
    context.close()
    execution.close()


def test_a_profile_that_is_not_taken_is_an_error_of_ours(box: Box, release: str) -> None:
    execution = box.open(plan_of(release))
    box.fake.profile_fails = True
    with pytest.raises(GpuError, match="does not take profile 0"):
        execution.context({"x": (2, 10)})
    execution.close()


def test_shapes_that_the_engine_fits_to_none_are_an_error_of_ours(box: Box, release: str) -> None:
    """As those of a model whose Reshape holds the batch that it was traced with."""
    execution = box.open(plan_of(release))
    box.fake.inference_fails = True
    for ask in (execution.shapes, execution.context):
        with pytest.raises(GpuError, match=r"no shapes for inputs of .*\(2, 10\).*error code: -1"):
            ask({"x": (2, 10)})
    execution.close()


def test_an_output_as_long_as_values_decide_is_refused(box: Box, release: str) -> None:
    execution = box.open(plan_of(release, source=AS_LONG_AS_VALUES))
    with pytest.raises(GpuError, match="shape of output 'y' depends on the data"):
        execution.shapes({"x": (2, 10)})
    execution.close()
