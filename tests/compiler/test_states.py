"""Models with states through pack and build: what clients see, what is proven, what is refused."""

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance.errors import BundleContent, GoldenMissed, SpecError
from appliance.manifest import Precision
from appliance.states import State
from appliance.store import Store
from compiler.proving.steps import check_steps
from runtime.servable import assemble, golden_of

STATES = '[[model.states]]\ninput = "h"\noutput = "h_next"\n\n[data]'
ROWS = (np.arange(24, dtype=np.float32).reshape(8, 3) - 9) / 8


def recurrent(make_onnx, *, batched=True, ignored=False):
    """scores = x @ w + the sum of all rows of the sequence before it; `ignored`: the state changes nothing."""
    row = ["rows"] if batched else []
    given = "h" if not ignored else "zero"
    zero = np.zeros(([1] if batched else []) + [4], np.float32)
    weights = np.random.default_rng(11).normal(size=(3, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["made"]),
        helper.make_node("Add", ["made", given], ["scores"]),
        helper.make_node("Add", ["made", "h"], ["h_next"]),
    ]
    return make_onnx(
        nodes,
        inputs={"x": (TensorProto.FLOAT, [*row, 3]), "h": (TensorProto.FLOAT, [*row, 4])},
        outputs={
            "scores": (TensorProto.FLOAT, [*row, 4]),
            "h_next": (TensorProto.FLOAT, [*row, 4]),
        },
        constants={"w": weights, "zero": zero},
    )


@pytest.fixture
def stateful(workshop, make_onnx):
    """The workshop's tiny model with a state, taken as it is."""
    onnx.save(recurrent(make_onnx), workshop.model)
    spec = workshop.spec.read_text()
    head, _, rest = spec.partition("[[recipe.inputs]]")
    workshop.spec.write_text(head + "\n[[recipe.after]]" + rest.partition("[[recipe.after]]")[2])
    workshop.change("[data]", STATES)
    workshop.change("minimum = 0.9", "minimum = 0.0")
    workshop.save_rows("sample", x=ROWS)
    workshop.save_rows("held_out", x=ROWS, label=np.zeros(len(ROWS), np.int64))
    return workshop


def loaded(workshop):
    """The built version and its servable."""
    stored = Store(workshop.config.state.store).open("tiny", 1)
    entry = stored.record.engine
    return stored, assemble(stored.directory, stored.manifest, entry, threads=1)


def test_clients_see_no_state_and_answers_bring_it_on(stateful):
    stateful.pack()
    stateful.build()
    stored, servable = loaded(stateful)
    assert [spec.name for spec in stored.manifest.served.inputs] == ["x"]
    assert "h_next" not in [spec.name for spec in stored.manifest.served.outputs]
    state, seen = {}, np.zeros(4, np.float32)
    made = servable.run([{"x": ROWS}])[0].outputs["scores"]
    for row, alone in zip(ROWS, made, strict=True):
        answer = servable.run([{"x": row[None], **state}])[0]
        np.testing.assert_allclose(answer.outputs["scores"][0], alone + seen, rtol=1e-5)
        state, seen = answer.states, answer.states["h"][0]
    servable.close()


def test_requests_with_and_without_states_share_a_padded_batch(stateful):
    stateful.pack()
    stateful.build()
    _, servable = loaded(stateful)
    state = np.ones((1, 4), np.float32)
    requests = [{"x": ROWS[:1]}, {"x": ROWS[1:2], "h": state}, {"x": ROWS[2:4]}]
    together = servable.lane().run(requests, 8)
    for request, answer in zip(requests, together, strict=True):
        alone = servable.run([request])[0]
        np.testing.assert_allclose(answer.outputs["scores"], alone.outputs["scores"], rtol=1e-5)
        np.testing.assert_allclose(answer.states["h"], alone.states["h"], rtol=1e-5)
    servable.close()


def test_a_model_without_a_batch_axis_keeps_states_too(stateful, make_onnx):
    onnx.save(recurrent(make_onnx, batched=False), stateful.model)
    stateful.change("batch_max = 8", "batch_max = 0")
    stateful.pack()
    stateful.build()
    _, servable = loaded(stateful)
    first = servable.run([{"x": ROWS[0]}])[0]
    second = servable.run([{"x": ROWS[1], **first.states}])[0]
    assert first.states["h"].shape == (4,)
    alone = servable.run([{"x": ROWS[1]}])[0]
    want = alone.outputs["scores"] + first.states["h"]
    np.testing.assert_allclose(second.outputs["scores"], want, rtol=1e-5)
    servable.close()


def test_an_engine_that_ignores_its_state_is_found_out(stateful, make_onnx, tmp_path):
    """At a sequence's start the two models answer alike: only the steps tell them apart."""
    stateful.pack()
    stateful.build()
    stored, servable = loaded(stateful)
    directory = tmp_path / "other"
    directory.mkdir()
    onnx.save(recurrent(make_onnx, ignored=True), directory / "model.onnx")
    golden = golden_of(stored.directory)
    check_steps(servable, golden, stored.directory, stored.manifest, Precision.FP32)
    with pytest.raises(GoldenMissed, match="in a sequence of the golden rows, output 'scores'"):
        check_steps(servable, golden, directory, stored.manifest, Precision.FP32)
    servable.close()


def test_int8_has_no_ranges_of_states(stateful):
    stateful.change("batch_max = 8", 'batch_max = 8\nprecision = "int8"')
    with pytest.raises(SpecError, match="int8 needs the ranges of the states"):
        stateful.pack()


def test_what_is_no_state_is_refused(stateful):
    stateful.change('output = "h_next"', 'output = "scored"')
    with pytest.raises(SpecError, match="the model has no output 'scored' for a state"):
        stateful.pack()


def test_a_bundle_cannot_name_other_states(stateful):
    stateful.pack()
    stateful.resign(states=())
    with pytest.raises(BundleContent):
        stateful.build()
    stateful.resign(states=(State(input="h", output="none"),))
    with pytest.raises(BundleContent):
        stateful.build()


def test_a_manifest_without_states_is_read_as_one_that_has_none(workshop):
    workshop.pack()
    manifest, _ = workshop.contents()
    told = msgspec.to_builtins(manifest)
    del told["states"]
    assert msgspec.convert(told, type(manifest)) == manifest
