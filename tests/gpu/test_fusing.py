"""Recipes on the GPU: what is answered equals what the CPU's kernels answer, whatever is sent along.

The kernels are the real ones, run thread by thread over the fake's memory.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper

from appliance.config import GpuConfig
from appliance.errors import EngineLoad, RequestError
from appliance.manifest import Precision
from appliance.recipe import (
    ArgMax,
    Cast,
    Drop,
    InputRecipe,
    Layout,
    Normalise,
    Recipe,
    RescaleBoxes,
    Resize,
    Softmax,
)
from appliance.states import State, stateless
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.engines import load_engine
from runtime.fusing import fusing
from runtime.gpu import current
from runtime.gpu.engine_file import Compiled
from runtime.kernels.chain import Chain
from runtime.kernels.cuda.splitting import split
from runtime.kernels.cuda.toolchain import edition
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout
from runtime.servable import Servable
from tests.gpu import few_threads
from tests.gpu.fake_kernels import sources_image
from tests.gpu.models import tiny_engine

RANDOM = np.random.default_rng(3)
SIDE = 4
WEIGHTS = RANDOM.normal(size=(SIDE * SIDE, 3)).astype(np.float32)
PHOTO = TensorSpec(name="photo", datatype=DataType.UINT8, shape=(-1, -1, 1))
PIXELS = TensorSpec(name="pixels", datatype=DataType.FP32, shape=(1, SIDE, SIDE))
LOGITS = TensorSpec(name="logits", datatype=DataType.FP32, shape=(3,))
FLOATS = TensorSpec(name="x", datatype=DataType.FP32, shape=(3,))
BEFORE, AFTER = (
    TensorSpec(name=name, datatype=DataType.FP32, shape=(3,)) for name in ("h", "h_next")
)
FOUND = TensorSpec(name="found", datatype=DataType.FP32, shape=(SIDE, 4))


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """A fake GPU in this process; blocks have one thread, as each is one of Python's."""
    for defaults in few_threads.defaults():
        monkeypatch.setitem(defaults, "threads", 1)
    current.use(
        GpuConfig(),
        executions="tests.gpu.sessions:open_sessions",
        devices="tests.gpu.fakes:open_fake",
        here=True,
    )
    yield
    current.release()
    current.use(GpuConfig(), executions=current.EXECUTIONS, devices=current.DEVICES)


class Both:
    """One model on the fake GPU and on the CPU; `fused` and `plain` are its servables."""

    def __init__(self, path, engine, nodes, constants, recipe, *, states=(), sample, told=None):
        rows = (1,) if engine.batch_max else ()
        outer = stateless(engine, states)
        outputs = {s.name: np.zeros((*rows, *s.shape), np.float32) for s in outer.outputs}
        layout = fit_layout(recipe, outer, sample, outputs)
        self.parts = split(recipe, outer, layout)
        sources = self.parts.kernels()
        module = Compiled(format="cubin", capability=(9, 0), image=sources_image(sources))
        kernels = {
            "modules": (module,),
            "kernels": tuple(source.name for source in sources),
            "edition": edition(),
        }
        file = tiny_engine(path, engine, nodes, constants, **{**kernels, **(told or {})})
        chain, vector = Chain(recipe, engine=outer), DriftVector(layout)
        manifest = SimpleNamespace(
            recipe=recipe, engine=engine, stateless=outer, states=states, served=chain.served
        )
        self.engine = load_engine(
            "tensorrt", file, interface=engine, threads=1, precision=Precision.FP32
        )
        fuse = fusing(self.engine, manifest, layout, chain)
        shared = {"chain": chain, "vector": vector, "states": states}
        self.plain = Servable(engine=self.engine.lane(), **shared)
        self.fused = Servable(engine=self.engine, fuse=fuse, **shared)

    def check(self, *requests, rows=0):
        """Both ways answer the same; returns the answers."""
        answers = self.fused.run(requests, rows)
        wanted = self.plain.run(requests, rows)
        for got, want in zip(answers, wanted, strict=True):
            assert list(got.outputs) == [spec.name for spec in self.fused.interface.outputs]
            for name, array in got.outputs.items():
                assert array.dtype == want.outputs[name].dtype
                if array.dtype.kind == "f":
                    np.testing.assert_allclose(array, want.outputs[name], rtol=1e-5, atol=1e-6)
                else:
                    np.testing.assert_array_equal(array, want.outputs[name])
            np.testing.assert_allclose(got.vectors, want.vectors, rtol=2e-5, atol=1e-6)
            assert got.states.keys() == want.states.keys()
            for name, state in got.states.items():
                np.testing.assert_allclose(state, want.states[name], rtol=1e-5)
        return answers


def picture_steps(fit="letterbox"):
    return (
        Cast(),
        Resize(height=SIDE, width=SIDE, fit=fit),
        Normalise(mean=(0.5,), std=(2.0,), scale=1 / 255),
        Layout(),
    )


def photos(rows, height=6, width=5):
    return RANDOM.integers(0, 256, (rows, height, width, 1), np.uint8)


def product_nodes():
    return [
        helper.make_node("Reshape", ["pixels", "flat"], ["rows_of_pixels"]),
        helper.make_node("MatMul", ["rows_of_pixels", "w"], ["logits"]),
    ]


FLAT = np.array([-1, SIDE * SIDE])
LABELLED = Recipe(
    inputs=(InputRecipe(feeds="pixels", raw=PHOTO, steps=picture_steps()),),
    after=(
        Softmax(tensor="logits", output="p"),
        ArgMax(tensor="logits", output="best", labels="name"),
    ),
    labels=("a", "b", "c"),
)


def classifier(path, batch_max=4, **told):
    engine = Interface(inputs=(PIXELS,), outputs=(LOGITS,), batch_max=batch_max)
    flat = FLAT if batch_max else np.array([SIDE * SIDE])
    shape = (3, *PIXELS.shape) if batch_max else PIXELS.shape
    sample = {"pixels": RANDOM.normal(size=shape).astype(np.float32)}
    nodes, constants = product_nodes(), {"w": WEIGHTS, "flat": flat}
    return Both(path, engine, nodes, constants, LABELLED, sample=sample, told=told)


def test_pictures_are_answered_as_by_the_processor(tmp_path):
    both = classifier(tmp_path)
    assert {*both.parts.before} == {"pixels"}
    assert both.parts.vector
    first, second = both.check({"photo": photos(1)}, {"photo": photos(2)}, rows=4)
    assert (len(first.outputs["p"]), len(second.outputs["p"])) == (1, 2)
    kept = first.outputs["logits"].copy()
    both.check({"photo": photos(3)})
    np.testing.assert_array_equal(first.outputs["logits"], kept)
    answers = both.check({"photo": photos(1, 9, 3)})
    assert answers[0].outputs["name"].shape == (1, 1)
    assert current.standings()[0].lanes == 2


def test_pictures_of_unlike_sizes_share_no_batch_and_wrong_ones_are_refused(tmp_path):
    fused = classifier(tmp_path).fused
    keys = [
        fused.batch_key({"photo": photos(rows, *size)})
        for rows, size in ((1, (6, 5)), (2, (6, 5)), (1, (5, 6)))
    ]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(RequestError, match="input 'photo' is an image without pixels"):
        fused.batch_key({"photo": photos(1, 0, 5)})


def test_a_proof_sees_the_engines_own_outputs_of_the_run_that_serves(tmp_path):
    both = classifier(tmp_path)
    request = {"photo": photos(2)}
    outputs, served = both.fused.answered(request)
    assert {*outputs} == {"logits"}
    again = both.fused.completed(request, outputs)
    np.testing.assert_allclose(served["p"], again["p"], rtol=1e-6)
    np.testing.assert_array_equal(served["name"], again["name"])


def test_a_model_without_a_batch_axis(tmp_path):
    both = classifier(tmp_path, batch_max=0)
    (answer,) = both.check({"photo": photos(1)[0]})
    assert answer.outputs["logits"].shape == (3,)
    assert len(answer.vectors) == 1
    outputs, served = both.fused.answered({"photo": photos(1)[0]})
    assert outputs["logits"].shape == served["p"].shape == (3,)


def test_what_the_device_cannot_prepare_and_states_are_sent_along(tmp_path):
    engine = Interface(inputs=(PIXELS, FLOATS, BEFORE), outputs=(LOGITS, AFTER), batch_max=4)
    nodes = [
        *product_nodes()[:1],
        helper.make_node("MatMul", ["rows_of_pixels", "w"], ["made"]),
        helper.make_node("Add", ["made", "x"], ["logits"]),
        helper.make_node("Add", ["h", "x"], ["h_next"]),
    ]
    recipe = Recipe(
        inputs=LABELLED.inputs,
        after=(Softmax(tensor="logits", output="p"), Drop(tensors=("logits",))),
    )
    sample = {
        "pixels": RANDOM.normal(size=(3, *PIXELS.shape)).astype(np.float32),
        "x": RANDOM.normal(size=(3, 3)).astype(np.float32),
    }
    both = Both(
        tmp_path,
        engine,
        nodes,
        {"w": WEIGHTS, "flat": FLAT},
        recipe,
        states=(State(input="h", output="h_next"),),
        sample=sample,
    )
    requests = [
        {"photo": photos(rows), "x": RANDOM.normal(size=(rows, 3)).astype(np.float32)}
        for rows in (1, 2)
    ]
    first, _ = both.check(*requests, rows=4)
    assert {*first.outputs} == {"p"}
    np.testing.assert_allclose(first.states["h"], requests[0]["x"])
    (after,) = both.check({**requests[0], **first.states})
    np.testing.assert_allclose(after.states["h"], 2 * requests[0]["x"], rtol=1e-6)
    outputs, _ = both.fused.answered(requests[1])
    assert {*outputs} == {"logits"}


@pytest.mark.parametrize("batch_max", [4, 0])
def test_boxes_come_back_in_the_pixels_of_what_was_sent(tmp_path, batch_max):
    engine = Interface(inputs=(PIXELS,), outputs=(FOUND,), batch_max=batch_max)
    shape = [-1, SIDE, 4] if batch_max else [SIDE, 4]
    recipe = Recipe(
        inputs=LABELLED.inputs,
        after=(
            RescaleBoxes(tensor="found", image="pixels", output="boxes"),
            Drop(tensors=("found",)),
        ),
    )
    rows = (2,) if batch_max else ()
    both = Both(
        tmp_path,
        engine,
        [helper.make_node("Reshape", ["pixels", "shape"], ["found"])],
        {"shape": np.array(shape)},
        recipe,
        sample={"pixels": RANDOM.normal(size=(*rows, *PIXELS.shape)).astype(np.float32)},
    )
    assert both.parts.after, "the device scales them"
    for size in ((6, 5), (3, 9)):
        sent = photos(2, *size) if batch_max else photos(1, *size)[0]
        (answer,) = both.check({"photo": sent}, rows=4)
        assert {*answer.outputs} == {"boxes"}
    both.fused.completed({"photo": sent}, both.fused.answered({"photo": sent})[0])


def test_kernels_of_another_edition_are_never_launched(tmp_path):
    with pytest.raises(EngineLoad, match="edition old"):
        classifier(tmp_path, edition="old")
    with pytest.raises(EngineLoad, match="lacks"):
        classifier(tmp_path, kernels=("k_other",))


def test_an_engine_without_kernels_runs_plainly(tmp_path):
    both = classifier(tmp_path, kernels=(), modules=())
    assert both.fused._fuse is None
    both.check({"photo": photos(2)})


def test_an_engine_with_an_output_called_as_an_input_runs_plainly(tmp_path):
    both = classifier(tmp_path)
    engine = Interface(inputs=(LOGITS,), outputs=(LOGITS,), batch_max=4)
    assert fusing(both.engine, SimpleNamespace(engine=engine), None, None) is None
