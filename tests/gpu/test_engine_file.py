"""The file of a TensorRT engine: what is written is read, and nothing else."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import EngineLoad
from runtime.gpu.engine_file import (
    ALIGNMENT,
    Compiled,
    EngineFile,
    ModulePart,
    Part,
    module_for,
    write_engine_file,
)

in_one_directory = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TOLD = {
    "stamp": {"library": "tensorrt 10.13.0.35", "gpu": "Fake GPU"},
    "kernels": ("image.blend", "softmax"),
    "edition": "1",
    "profiles": ({"x": ((1, 10), (4, 10), (8, 10))},),
    "refittable": True,
    "structure": "ab" * 32,
    "build": {"workspace_mib": "1024"},
    "inspection": {"layers": [{"name": "conv", "precision": "FP16"}]},
}


@in_one_directory
@given(
    plan=st.binary(min_size=1, max_size=9000),
    images=st.lists(st.binary(max_size=5000), max_size=3),
    stripped=st.none() | st.binary(max_size=5000),
)
def test_round_trip(
    tmp_path: Path, plan: bytes, images: list[bytes], stripped: bytes | None
) -> None:
    path = tmp_path / "engine.fp16.trt"
    modules = [Compiled("cubin", (7 + at, 0), image) for at, image in enumerate(images)]
    parts = {} if stripped is None else {"stripped": stripped}
    written = write_engine_file(path, plan=plan, modules=modules, parts=parts, **TOLD)
    opened = EngineFile(path)
    assert opened.header == written
    assert bytes(opened.plan()) == plan
    for module in modules:
        assert opened.module(module.capability) == module.image
    if stripped is not None:
        assert bytes(opened.part("stripped")) == stripped
    assert opened.header.plan.sha256 == hashlib.sha256(plan).hexdigest()
    assert opened.header.plan.offset % ALIGNMENT == 0
    opened.close()


def test_same_content_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_engine_file(tmp_path / name, plan=b"plan", parts={"more": b"bytes"}, **TOLD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@in_one_directory
@given(data=st.data())
def test_a_changed_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "engine.fp16.trt"
    header = write_engine_file(
        path, plan=b"p" * 700, modules=[Compiled("cubin", (9, 0), b"c" * 300)], **TOLD
    )
    whole = path.read_bytes()
    parts = (header.plan, header.modules[0].part)
    begin = min(part.offset for part in parts)
    meant = [at for part in parts for at in range(part.offset, part.offset + part.size)]
    # Zeros between the parts belong to nobody, and those behind the header are few.
    at = data.draw(st.sampled_from([*range(begin - ALIGNMENT, begin - ALIGNMENT + 300), *meant]))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(EngineLoad) as failure:
        everything(path)
    assert "engine.fp16.trt is not used: " in str(failure.value)


@in_one_directory
@given(data=st.data())
def test_a_file_cut_short_or_grown_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "engine.fp16.trt"
    write_engine_file(path, plan=b"p" * 700, **TOLD)
    whole = path.read_bytes()
    size = data.draw(st.integers(0, len(whole) - 1))
    for mutilated in (whole[:size], whole + b"\0", b"", b"ONNX" * 64):
        path.write_bytes(mutilated)
        with pytest.raises(EngineLoad):
            everything(path)


def everything(path: Path) -> None:
    """Read all of the file."""
    opened = EngineFile(path)
    try:
        opened.plan()
        opened.module((9, 0))
    finally:
        opened.close()


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineLoad, match="cannot be read"):
        EngineFile(tmp_path / "engine.fp16.trt")


def test_a_header_beyond_its_bound_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="header"):
        write_engine_file(
            tmp_path / "engine", plan=b"p", stamp={}, build={"long": "x" * (17 << 20)}
        )
    assert not list(tmp_path.iterdir())


def test_views_outlive_the_file(tmp_path: Path) -> None:
    write_engine_file(tmp_path / "engine", plan=b"plan", **TOLD)
    opened = EngineFile(tmp_path / "engine")
    view = opened.plan()
    opened.close()
    assert bytes(view) == b"plan"


SOMEWHERE = Part(offset=0, size=1, sha256="")


def modules(*told: str) -> tuple[ModulePart, ...]:
    """Such as "cubin 8.6"."""
    made = []
    for one in told:
        kind, _, numbers = one.partition(" ")
        major, minor = numbers.split(".")
        made.append(
            ModulePart(
                format="cubin" if kind == "cubin" else "ptx",
                capability=(int(major), int(minor)),
                part=SOMEWHERE,
            )
        )
    return tuple(made)


SHIPPED = modules("cubin 7.5", "cubin 8.0", "cubin 8.6", "cubin 9.0", "ptx 7.5", "ptx 9.0")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), "cubin 7.5"),
        ((8, 0), "cubin 8.0"),
        ((8, 6), "cubin 8.6"),
        ((8, 7), "cubin 8.6"),  # later minor of the same major
        ((8, 9), "cubin 8.6"),
        ((9, 0), "cubin 9.0"),
        ((10, 0), "ptx 9.0"),  # a major that nobody compiled for
        ((7, 2), None),
    ],
)
def test_the_best_module_for_a_gpu(capability: tuple[int, int], expected: str | None) -> None:
    chosen = module_for(SHIPPED, capability)
    assert (chosen and f"{chosen.format} {chosen.capability[0]}.{chosen.capability[1]}") == expected


def test_no_module_for_a_gpu_names_those_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "engine.fp16.trt"
    write_engine_file(path, plan=b"p", modules=[Compiled("cubin", (9, 0), b"c")], stamp={})
    opened = EngineFile(path)
    with pytest.raises(EngineLoad, match=r"capability 7\.5, only cubin 9\.0"):
        opened.module((7, 5))
    opened.close()
