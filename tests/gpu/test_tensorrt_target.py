"""The compiler's TensorRT target, over the fake of every release that is served: what is built, and what is refused."""

import json
from contextlib import closing

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.errors import EngineBuild, GpuMemory, GpuUnusable
from appliance.manifest import Precision
from appliance.recipe import Recipe
from compiler.precision import lowered
from compiler.progress import Silent
from compiler.reference import Reference
from compiler.rows.samples import Rows
from compiler.targets.tensorrt import STRIPPED, building
from compiler.targets.tensorrt.inspected import inspected_in
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.gpu.engine_file import EngineFile
from tests.gpu.building import convolutions, gpu, images, model, opened, run, typed
from tests.gpu.fake_tensorrt import RELEASES, FakeTensorRT

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
BOUND = {Precision.FP32: 1e-4, Precision.FP16: 0.02, Precision.INT8: 0.2}


@pytest.fixture
def fake():
    """The newest release."""
    with FakeTensorRT("11.4").installed() as installed:
        yield installed


@pytest.fixture
def small(tmp_path):
    """The convolutions: source and interface."""
    return opened(convolutions(), tmp_path)


def compiled(small, directory, precision=Precision.FP32, box=None, **options):
    source, interface = small
    target = TensorRTTarget(gpu=box or gpu(), **options)
    return target.compile(typed(source, precision), directory, interface, 1, precision)


def header_of(directory, entry):
    with closing(EngineFile(directory / entry.file)) as file:
        return file.header


def reference(small, inputs):
    source, interface = small
    (call,) = Reference(source, Recipe(), interface).calls(Rows(inputs=inputs))
    return call.outputs["scores"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_release_builds_what_computes_as_the_reference(release, precision, small, tmp_path):
    with FakeTensorRT(release).installed() as fake:
        entry = compiled(small, tmp_path, precision)
        told = inspected_in(tmp_path / entry.file)
        assert set(told.precisions) == {precision}
        assert told.library == f"TensorRT {fake.version}"
        assert [layer.nodes for layer in told.heavy if "stem" in layer.nodes]
        if precision is Precision.BF16:
            return  # ONNX Runtime, which computes for the fake, has no convolution of it
        inputs = images()
        got = run(fake, tmp_path, entry, small[1], inputs)["scores"]
    np.testing.assert_allclose(got, reference(small, inputs), atol=BOUND[precision])


def test_the_file_says_what_it_holds_and_what_it_was_built_for(fake, small, tmp_path):
    entry = compiled(small, tmp_path)
    header = header_of(tmp_path, entry)
    assert (entry.kind, entry.file) == ("tensorrt", "engine.fp32.trt")
    assert header.stamp == entry.stamp == gpu().stamp
    assert (header.inputs, header.outputs) == ({"x": "FP32"}, {"scores": "FP32"})
    assert header.profiles == ({"x": ((1, 3, 8, 8), (8, 3, 8, 8), (8, 3, 8, 8))},)
    assert not header.refittable
    assert header.build["optimisation_level"] == "3"
    assert [plan.typed for plan in fake.built] == [True]


def test_fp32_is_fp32_unless_tf32_is_asked_for(fake, small, tmp_path):
    compiled(small, tmp_path)
    compiled(small, tmp_path, box=gpu(tf32=True))
    assert ["TF32" in plan.flags for plan in fake.built] == [False, True]


def test_the_settings_reach_the_builder(fake, small, tmp_path):
    fake.workspace_needed = 1 << 20
    with pytest.raises(EngineBuild, match="at node 'stem'") as caught:
        compiled(small, tmp_path, box=gpu(workspace_bytes_max=1 << 16))
    assert "workspace_bytes_max" in caught.value.remedy
    compiled(small, tmp_path, box=gpu(workspace_bytes_max=1 << 21))
    compiled(small, tmp_path, box=gpu(compatibility="ampere_plus", version_compatible=True))
    assert fake.built[-1].compatibility == "AMPERE_PLUS"
    assert "VERSION_COMPATIBLE" in fake.built[-1].flags


def test_what_a_release_lacks_is_an_error_and_not_left_out(small, tmp_path):
    with (
        FakeTensorRT("10.3").installed(),
        pytest.raises(EngineBuild, match=r"TensorRT 10\.3\.0 makes no plans for compat"),
    ):
        compiled(small, tmp_path, box=gpu(compatibility="same_capability"))


def test_all_that_the_parser_refuses_is_told_before_anything_is_built(fake, small, tmp_path):
    fake.refusals = {"GlobalAveragePool": "no pooling here", "Conv": "no such padding"}
    with pytest.raises(EngineBuild) as caught:
        compiled(small, tmp_path)
    text = str(caught.value)
    assert "for 3 of its nodes" in text
    assert "Conv 'stem', 'second' (no such padding)" in text
    assert "GlobalAveragePool 'pool' (no pooling here): export it with operators" in text
    assert fake.built == []
    assert not (tmp_path / "engine.fp32.trt").exists()


def test_a_failed_build_speaks_in_the_librarys_words_and_names_the_node(fake, small, tmp_path):
    fake.build_fails = "Could not find any implementation for node second + bend."
    with pytest.raises(EngineBuild, match=r"at node 'second', 'bend': .*any implementation"):
        compiled(small, tmp_path)
    fake.build_fails = "Requested 4096 bytes: out of memory"
    with pytest.raises(GpuMemory, match="out of memory"):
        compiled(small, tmp_path)


def test_an_engine_in_other_arithmetic_than_asked_for_is_refused(fake, small, tmp_path):
    fake.arithmetic = "FLOAT"
    with pytest.raises(
        EngineBuild, match=r"TensorRT computes 3 of 3 .* in fp32, not in fp16: Conv"
    ):
        compiled(small, tmp_path, Precision.FP16)


def test_without_a_driver_nothing_of_the_library_is_touched(fake, small, tmp_path):
    box = msgspec.structs.replace(gpu(), trouble="no driver", remedy="install one")
    target = TensorRTTarget(gpu=box)
    assert target.unable(Precision.FP32) == "no GPU for it: no driver"
    with pytest.raises(GpuUnusable, match="no driver"):
        compiled(small, tmp_path, box=box)
    assert fake.alive == []


def test_bfloat16_needs_a_gpu_that_has_it():
    assert TensorRTTarget(gpu=gpu((7, 5))).unable(Precision.BF16) is not None
    assert TensorRTTarget(gpu=gpu((8, 0))).unable(Precision.BF16) is None
    assert TensorRTTarget(gpu=gpu((7, 5))).unable(Precision.FP16) is None
    assert TensorRTTarget().unable(Precision.BF16) is None


def test_a_result_whose_shape_hangs_on_values_is_found_in_the_plan(fake, tmp_path):
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], "whole", to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "zero"], ["length"], "length"),
        helper.make_node("Expand", ["one", "length"], ["y"], "spread"),
    ]
    proto = model(
        nodes,
        {"x": (TensorProto.FLOAT, [3])},
        {"y": (TensorProto.FLOAT, [None])},
        {"zero": np.array([0], np.int64), "one": np.ones(1, np.float32)},
    )
    source, interface = opened(proto, tmp_path, batch_max=0)
    with pytest.raises(EngineBuild, match="the shape of 'y' depends on values"):
        TensorRTTarget(gpu=gpu()).compile(source, tmp_path, interface, 1, Precision.FP32)


def test_an_input_that_is_read_as_a_shape_is_left_to_the_cpu(fake, small, tmp_path, monkeypatch):
    from tests.gpu import fake_parsing

    always = property(lambda it: True, lambda it, value: None)
    monkeypatch.setattr(fake_parsing.Tensor, "is_shape_tensor", always, raising=False)
    with pytest.raises(EngineBuild, match="reads input 'x' as a shape"):
        compiled(small, tmp_path)


class Bar:
    """A progress that adds up."""

    def __init__(self):
        self.steps, self.stages = [], []

    def stage(self, name, steps=1):
        self.stages.append((name, steps))

    def step(self, steps=1):
        self.steps.append(steps)


def test_the_builders_phases_move_one_bar_forward(fake, small, tmp_path):
    bar = Bar()
    compiled(small, tmp_path, progress=bar)
    assert bar.stages == [("building the plan", building.BAR_STEPS)]
    assert sum(bar.steps) == building.BAR_STEPS
    assert min(bar.steps) > 0
    assert len(bar.steps) > 3


def test_what_a_progress_raises_ends_the_build(fake, small, tmp_path):
    class Broken(Silent):
        def step(self, steps=1):
            raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError):
        compiled(small, tmp_path, progress=Broken())
    assert fake.built == []


def test_timings_are_kept_for_the_next_build_on_the_same_gpu(fake, small, tmp_path):
    kept = tmp_path / "kept"
    compiled(small, tmp_path)
    left = tmp_path / "timings.cache"
    assert left.stat().st_size > 0
    left.rename(kept)
    compiled(small, tmp_path, Precision.FP16, gpu(timings=str(kept)))
    assert len(json.loads(left.read_bytes())["entries"]) == 2, "both builds' timings"
    fake.gpu = "Another GPU"
    left.unlink()
    compiled(small, tmp_path, Precision.FP16, gpu(timings=str(kept)))
    assert len(json.loads(left.read_bytes())["entries"]) == 1, "those of another GPU are not used"
    left.unlink()
    compiled(small, tmp_path, box=gpu(timings_bytes_max=0))
    assert not left.exists()


def test_other_weights_are_put_into_the_earlier_plan(fake, small, tmp_path):
    box = gpu(refit=True)
    entry = compiled(small, tmp_path, Precision.FP16, box)
    file = EngineFile(tmp_path / entry.file)
    kept = {file.header.structure: bytes(file.part(STRIPPED))}
    assert file.header.refittable
    assert file.header.parts[STRIPPED].size < file.header.plan.size + 64
    file.close()
    directory = tmp_path / "second"
    directory.mkdir()
    other = opened(convolutions(seed=1), directory)
    built = len(fake.built)
    entry = compiled(other, directory, Precision.FP16, box, earlier=kept.get)
    assert len(fake.built) == built, "nothing was built"
    assert inspected_in(directory / entry.file).notes == ("an earlier plan with new weights",)
    inputs = images()
    got = run(fake, directory, entry, other[1], inputs)["scores"]
    np.testing.assert_allclose(got, reference(other, inputs), atol=BOUND[Precision.FP16])


def test_a_refit_that_fails_is_built_anew_and_told(fake, small, tmp_path):
    box = gpu(refit=True)
    entry = compiled(small, tmp_path, box=box)
    told = []

    def earlier(structure):
        told.append(structure)
        return b"no plan at all"

    entry = compiled(small, tmp_path, box=box, earlier=earlier)
    (note,) = inspected_in(tmp_path / entry.file).notes
    assert note.startswith("built anew, since TensorRT does not load the plan")
    assert told == [header_of(tmp_path, entry).structure]
    fake.refit_fails = "a bias is missing"
    with pytest.raises(EngineBuild, match="a bias is missing"):
        compiled(small, tmp_path, box=box)


def test_a_structure_is_all_but_the_values_of_weights(fake, tmp_path):
    def structure(proto, box=None):
        directory = tmp_path / "one"
        directory.mkdir(exist_ok=True)
        entry = compiled(opened(proto, directory), directory, box=box or gpu(refit=True))
        return header_of(directory, entry).structure

    first = structure(convolutions())
    assert structure(convolutions(seed=5)) == first
    assert structure(convolutions(), gpu(refit=True, tf32=True)) != first
    renamed = convolutions()
    renamed.graph.node[1].op_type = "Sigmoid"
    assert structure(renamed) != first


@pytest.mark.parametrize("release", ["10.13", "11.4"])
def test_a_network_that_is_not_strongly_typed_is_found_out(release, small, tmp_path, monkeypatch):
    """The trap of TensorRT 10: bit 0 of the flags is another flag there, and types are then ignored."""
    from compiler.targets.tensorrt import network

    def untyped(trt, builder, source, interface):
        made = builder.create_network(1)
        assert trt.OnnxParser(made, network.log_of(trt).logger).parse(source.data)
        return made

    monkeypatch.setattr("compiler.targets.tensorrt.compiling.parsed", untyped)
    with FakeTensorRT(release).installed():
        if release.startswith("11"):
            compiled(small, tmp_path, Precision.FP16)
            return
        with pytest.raises(EngineBuild, match="not in fp16"):
            compiled(small, tmp_path, Precision.FP16)


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda trt, config: config.set_flag(trt.BuilderFlag.FP16), AttributeError),
        (lambda trt, config: config.set_flag(3), TypeError),
        (lambda trt, config: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE), TypeError),
        (lambda trt, config: setattr(config, "max_workspace_size", 1), AttributeError),
        (lambda trt, config: setattr(config, "builder_optimization_level", "3"), TypeError),
        (lambda trt, config: config.set_timing_cache(None, ignore_mismatch=False), TypeError),
        (lambda trt, config: config.int8_calibrator, AttributeError),
    ],
)
@pytest.mark.usefixtures("fake")
def test_a_call_that_the_library_lacks_fails_here_too(mistake, error, small, tmp_path, monkeypatch):
    """Planted mistakes: the fake is held to the real bindings, so these tests would have met them."""
    real = building.configured

    def wrong(trt, builder, settings, ranges):
        config = real(trt, builder, settings, ranges)
        mistake(trt, config)
        return config

    monkeypatch.setattr("compiler.targets.tensorrt.compiling.configured", wrong)
    with pytest.raises(error):
        compiled(small, tmp_path)


def test_lowering_is_the_compilers_own(small, tmp_path, fake):
    """No flag of precision is ever set: the graph's types say it."""
    for precision in PRECISIONS:
        compiled(small, tmp_path, precision)
    assert not {flag for plan in fake.built for flag in plan.flags}
    assert lowered(small[0], Precision.FP32) is small[0]
