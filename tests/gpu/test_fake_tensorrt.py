"""The fake of TensorRT is held to the dumps, and the dumps to the real bindings: planted mistakes prove it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import bindings
from tests.gpu.fake_tensorrt import LEAN, RELEASES, FakeTensorRT
from tests.gpu.plans import MODEL, built

DUMPS = Path(__file__).parent / "dumps"
each_release = pytest.mark.parametrize("release", RELEASES)


@pytest.mark.parametrize("release", bindings.RELEASES)
def test_dump_is_what_the_real_bindings_say(release: str) -> None:
    if (why := bindings.missing(release)) is not None:
        pytest.skip(why)
    told = bindings.run(
        release,
        "import sys; sys.argv.append('--print'); from tests.gpu.dump_api import main; main()",
    )
    assert json.loads(told) == json.loads((DUMPS / f"{release}.json").read_text())


# What we might write by mistake, what of it is wrong, and in which releases (all when empty).
MISTAKES: dict[str, tuple[str, type[Exception], tuple[str, ...]]] = {
    "a method that there never was": ("engine.get_binding_index('x')", AttributeError, ()),
    "a method that 11 removed": (
        "config.set_calibration_profile(profile)",
        AttributeError,
        ("11.0", "11.4"),
    ),
    "a method that came later": ("engine.get_engine_stat()", AttributeError, ("10.3", "10.13")),
    "a property that 11 removed": ("engine.device_memory_size", AttributeError, ("11.0", "11.4")),
    "a flag that 11 removed": ("trt.BuilderFlag.FP16", AttributeError, ("11.0", "11.4")),
    "a flag that came later": ("trt.BuilderFlag.MONITOR_MEMORY", AttributeError, ("10.3",)),
    "a class that came later": ("trt.IStreamWriter", AttributeError, ("10.3",)),
    "a number for a flag": ("config.set_flag(4)", TypeError, ()),
    "a flag for a pool": ("config.set_memory_pool_limit(trt.BuilderFlag.REFIT, 1)", TypeError, ()),
    "a flag shifted without int()": (
        "1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        TypeError,
        (),
    ),
    "too few arguments": ("context.set_device_memory(4096)", TypeError, ()),
    "too many arguments": ("builder.create_builder_config(1)", TypeError, ()),
    "a keyword that there is not": ("builder.create_network(flag=1)", TypeError, ()),
    "a wrong keyword": ("context.execute_async_v3(stream=0)", TypeError, ()),
    "text for a number": ("context.execute_async_v3('0')", TypeError, ()),
    "a number for text": ("parser.parse_from_file(3)", TypeError, ()),
    "text for bytes": ("runtime.deserialize_cuda_engine('plan')", TypeError, ()),
    "a property that cannot be set": ("setattr(engine, 'num_layers', 3)", AttributeError, ()),
    "a property that cannot be read": ("runtime.gpu_allocator", AttributeError, ()),
    "a property of another type": (
        "setattr(config, 'builder_optimization_level', 'high')",
        TypeError,
        (),
    ),
    "an attribute that there is not": ("setattr(config, 'workspace', 1)", AttributeError, ()),
    "a length of host memory": ("len(plan)", TypeError, ()),
    "a class that nobody constructs": ("trt.ICudaEngine()", TypeError, ()),
    "a base that was not initialised": ("Careless()", TypeError, ()),
    "an enumeration as a number": ("trt.DataType.HALF + 1", TypeError, ()),
}


@each_release
@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_is_found(release: str, mistake: str) -> None:
    text, error, where = MISTAKES[mistake]
    known = built(release)

    class Careless(known["trt"].ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    if where and release not in where:
        with suppress(NotImplementedError):  # there it is no mistake
            eval(text, known | {"Careless": Careless})
        return
    with pytest.raises(error):
        eval(text, known | {"Careless": Careless})


@each_release
def test_what_the_fake_does_not_do_is_no_silent_success(release: str) -> None:
    known = built(release)
    with pytest.raises(NotImplementedError):
        known["builder"].is_network_supported(known["network"], known["config"])


def test_lean_bindings_build_nothing() -> None:
    trt: Any = FakeTensorRT(LEAN).module
    assert trt.__name__ == "tensorrt_lean"
    for name in ("Builder", "OnnxParser", "EngineInspector", "IBuilderConfig"):
        assert not hasattr(trt, name), name


@each_release
def test_parser_tells_all_refusals_at_once(release: str) -> None:
    known = built(release, refusals={"Softmax": "no softmax", "MatMul": "no product"})
    parser = known["parser"]
    assert not parser.parse(MODEL)
    told = [parser.get_error(at) for at in range(parser.num_errors)]
    assert [(one.node(), one.node_name(), one.desc()) for one in told] == [
        (0, "product", "no product"),
        (1, "scores", "no softmax"),
    ]
    assert told[0].code() == known["trt"].ErrorCode.UNSUPPORTED_NODE


@each_release
def test_flags_of_old_precision_fail_a_typed_network(release: str) -> None:
    known = built(release)
    flags = [name for name in ("FP16", "INT8") if hasattr(known["trt"].BuilderFlag, name)]
    assert bool(flags) == release.startswith("10")
    for name in flags:
        known["config"].set_flag(getattr(known["trt"].BuilderFlag, name))
        assert known["builder"].build_serialized_network(known["network"], known["config"]) is None
