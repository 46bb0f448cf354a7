"""The room of TensorRT's bindings: which are found, what is said of those that are not, and words as errors."""

import builtins
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from appliance.errors import EngineBuild, EngineLoad, GpuError, GpuLost, GpuMemory, GpuUnusable
from runtime.gpu import tensorrt_library as room
from tests.gpu.fake_tensorrt import LEAN, NAMES, RELEASES, FakeTensorRT
from tests.gpu.plans import built


class Gpu:
    name = "a GPU that a driver answered for"


@pytest.fixture(autouse=True)
def nothing_installed() -> Iterator[None]:
    """No TensorRT at all, whatever this machine has."""
    with FakeTensorRT("11.4").installed():
        sys.modules.update(dict.fromkeys(NAMES))  # type: ignore[arg-type]  # None: cannot be imported
        yield


def present(name: str, version: str = "10.13.0.35") -> ModuleType:
    """A module of this name that can be imported."""
    module = ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    sys.modules[name] = module
    return module


@pytest.fixture
def unimportable(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """Names that raise when they are imported."""
    raises: dict[str, Exception] = {}
    real = builtins.__import__

    def importing(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name in raises:
            raise raises[name]
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", importing)
    return raises


def test_bindings_are_found_in_order(unimportable: dict[str, Exception]) -> None:
    for name in NAMES:
        unimportable[name] = ModuleNotFoundError(f"No module named '{name}'", name=name)
    for name in reversed(NAMES):
        del unimportable[name]
        module = present(name)
        assert room.library() is module


def test_nothing_installed_says_so(unimportable: dict[str, Exception]) -> None:
    for name in NAMES:
        unimportable[name] = ModuleNotFoundError(f"No module named '{name}'", name=name)
    with pytest.raises(GpuUnusable, match=r"^TensorRT is not installed$") as failure:
        room.library()
    assert "docs/gpu.md" in failure.value.remedy


def test_bindings_without_their_libraries_say_which(unimportable: dict[str, Exception]) -> None:
    for name in NAMES[1:]:
        unimportable[name] = ModuleNotFoundError(f"No module named '{name}'", name=name)
    unimportable["tensorrt"] = ImportError(
        "libnvinfer.so.10: cannot open shared object file: No such file or directory"
    )
    with pytest.raises(GpuUnusable, match=r"libnvinfer\.so\.10") as failure:
        room.library()
    assert "libraries" in failure.value.remedy


def test_bindings_that_lack_a_package_say_which(unimportable: dict[str, Exception]) -> None:
    for name in NAMES[1:]:
        unimportable[name] = ModuleNotFoundError(f"No module named '{name}'", name=name)
    unimportable["tensorrt"] = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    with pytest.raises(GpuUnusable, match="numpy"):
        room.library()


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0.1"])
def test_releases_that_we_do_not_know_are_refused(version: str) -> None:
    present("tensorrt", version)
    with pytest.raises(GpuUnusable, match=version):
        room.library()


def test_one_logger_for_all_that_is_heard() -> None:
    trt = FakeTensorRT("10.13").module
    log = room.log_of(trt)
    assert room.log_of(trt) is log
    severity = trt.ILogger.Severity
    with log.heard() as outer:
        log.logger.log(severity.INFO, "one")
        with log.heard() as inner:
            log.logger.log(severity.ERROR, "two")
            log.logger.log(severity.ERROR, "two")
            log.logger.log(severity.INTERNAL_ERROR, "three")
        log.logger.log(severity.WARNING, "four")
    log.logger.log(severity.ERROR, "five")
    assert inner.errors == ["two", "three"]
    assert outer.errors == ["two", "three"]
    assert outer.warnings == ["four"]


def test_who_listens_hears_no_line_of_another_who_does() -> None:
    log = room.Log()
    with ThreadPoolExecutor(1) as pool, log.heard() as here:

        def beside() -> room.Heard:
            with log.heard() as there:
                log.said("ERROR", "theirs")
                return there

        assert pool.submit(beside).result().errors == ["theirs"]
        log.said("ERROR", "ours")
        pool.submit(log.said, "ERROR", "of a thread of TensorRT's").result()
    assert here.errors == ["ours", "of a thread of TensorRT's"]


def test_what_a_build_says_by_the_thousand_pushes_out_no_error() -> None:
    log = room.Log()
    with log.heard() as heard:
        log.said("ERROR", "the cause")
        for number in range(2000):
            log.said("VERBOSE", f"tactic {number}")
            log.said("WARNING", f"tactic {number} is skipped")
            log.said("ERROR", f"what follows {number}")
    assert heard.errors[0] == "the cause"
    assert heard.warnings[0] == "tactic 0 is skipped"
    assert len(heard.errors) == len(heard.warnings) == 500


@pytest.mark.parametrize("release", ["10.3", "11.4"])
def test_objects_are_made_against_a_gpu_that_answered(release: str) -> None:
    trt = FakeTensorRT(release).module
    assert room.created_runtime(trt, Gpu()).logger is room.log_of(trt).logger
    assert room.created_builder(trt, Gpu()).logger is room.log_of(trt).logger
    silent = Gpu()
    silent.name = ""
    with pytest.raises(AssertionError, match="driver"):
        room.created_runtime(trt, silent)


def test_lean_bindings_build_nothing() -> None:
    trt = FakeTensorRT(LEAN).module
    assert not room.builds(trt)
    assert room.created_runtime(trt, Gpu())
    with pytest.raises(GpuUnusable, match="lean runtime builds no engines"):
        room.created_builder(trt, Gpu())


def test_null_pointers_are_errors_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = FakeTensorRT("11.4").module

    def nothing(logger: Any) -> None:
        logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", nothing)
    with pytest.raises(GpuError, match=r"makes no Builder.*CUDA initialization failure"):
        room.created_builder(trt, Gpu())


NODES = ("conv1", "/layer/conv1", "/layer/conv1/bias", "head.0", "head", "", "add")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Could not find any implementation for node {ForeignNode[/layer/conv1.../add]}.",
            ["/layer/conv1"],
        ),
        ("Error Code 4: /layer/conv1/bias: broadcast failed", ["/layer/conv1/bias"]),
        ("node conv1 + add of [ONNX Layer: conv1]", ["conv1", "add"]),
        ("IShuffleLayer head.0: reshape changes volume", ["head.0"]),
        ("In node 3 with name: head and operator: Resize", ["head"]),
        ("addition failed in header", []),
    ],
)
def test_nodes_are_found_in_words(text: str, expected: list[str]) -> None:
    assert room.nodes_in(text, NODES) == expected


def heard(*errors: str) -> room.Heard:
    found = room.Heard()
    for text in errors:
        found.take("ERROR", text)
    return found


def test_failure_names_node_and_reason() -> None:
    recorder = room.new_recorder(FakeTensorRT("10.13").module)
    recorder.recorded.append(("INTERNAL_ERROR", "no tactic for conv1"))
    error = room.failure(
        "TensorRT builds no engine", heard("no tactic\n for conv1"), kind=EngineBuild, recorder=recorder, nodes=NODES
    )  # fmt: skip
    assert type(error) is EngineBuild
    assert str(error) == "TensorRT builds no engine, at node 'conv1': no tactic for conv1"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Error Code 1: Cuda Runtime (out of memory)", GpuMemory),
        ("Requested amount of GPU memory could not be allocated: OutOfMemory", GpuMemory),
        ("Cuda Runtime (an illegal memory access was encountered)", GpuLost),
        ("Cuda failure: unspecified launch failure", GpuLost),
        ("Cuda Runtime (misaligned address)", GpuLost),
        ("Cuda Runtime (an illegal instruction was encountered)", GpuLost),
        ("Cuda Runtime (uncorrectable ECC error encountered)", GpuLost),
        ("Cuda Runtime (the launch timed out and was terminated)", GpuLost),
        ("anything else", EngineLoad),
    ],
)
def test_failure_is_of_the_kind_that_the_words_tell(text: str, kind: type[Exception]) -> None:
    assert type(room.failure("it failed", heard(text), kind=EngineLoad)) is kind


@pytest.mark.parametrize("kind", [GpuMemory, GpuLost])
def test_failure_of_an_allocation_is_the_allocators(kind: type[GpuError]) -> None:
    allocator = room.new_allocator(FakeTensorRT("10.13").module, None)  # type: ignore[arg-type]
    allocator.error = kind("3 bytes are free", remedy="free some")
    assert room.failure("it failed", heard("no"), allocator=allocator) is allocator.error


def test_failure_without_words_and_with_too_many() -> None:
    assert str(room.failure("it failed", heard())).endswith("TensorRT gave no reason")
    assert len(str(room.failure("it failed", heard("x" * 5000)))) < 700


@pytest.mark.parametrize("release", RELEASES)
def test_a_plan_is_handed_over_whole(release: str) -> None:
    known = built(release)
    objects = [known[name] for name in ("trt", "builder", "network", "config")]
    plan = room.serialized(*objects)
    assert plan is not None
    assert bytes(plan) == bytes(known["plan"])
    known["fake"].build_fails = "no tactic"
    assert room.serialized(*objects) is None


def test_a_plan_that_cannot_be_written_fails_the_build_with_the_reason() -> None:
    known = built("11.4")

    def write(piece: bytes) -> None:
        raise OSError("the disk is full")

    writer = room.new_writer(known["trt"], write)
    told = known["builder"].build_serialized_network_to_stream(
        known["network"], known["config"], writer
    )
    assert told is False
    assert str(writer.error) == "the disk is full"


def test_memory_that_cannot_be_given_back_is_kept_as_an_error() -> None:
    class Memory:
        def allocate(self, size: int) -> int:
            return 4096

        def free(self, pointer: int) -> None:
            raise GpuLost("the context is gone", remedy="start again")

    allocator = room.new_allocator(FakeTensorRT("10.13").module, Memory())
    assert allocator.allocate(10, 256, 0) == 4096
    assert allocator.reallocate(4096, 256, 20) == 0
    assert allocator.deallocate(0)
    assert not allocator.deallocate(4096)
    assert isinstance(allocator.error, GpuLost)


def test_what_is_made_without_cuda_is_an_error_and_never_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen with NVIDIA's lean runtime 11.4 on a box without a driver: it logs, gives an object, and crashes with it."""
    trt = FakeTensorRT("11.4").module
    gone = []

    class Runtime:
        def __init__(self, logger: Any) -> None:
            severity = trt.ILogger.Severity.ERROR
            logger.log(severity, "CUDA initialization failure with error: 35")

        def __del__(self) -> None:
            gone.append(self)

    monkeypatch.setattr(trt, "Runtime", Runtime)
    with pytest.raises(GpuError, match="no Runtime that works: CUDA initialization failure"):
        room.created_runtime(trt, Gpu())
    gc.collect()
    assert not gone
