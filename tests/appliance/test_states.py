"""Which states an engine may have, and what is left of its interface."""

import numpy as np
import pytest

from appliance.errors import SpecError
from appliance.states import State, beginning, state_bytes, state_specs, stateless
from appliance.tensors import DataType, Interface, TensorSpec


def tensor(name, shape=(2, 3), datatype=DataType.FP32):
    return TensorSpec(name=name, datatype=datatype, shape=shape)


ENGINE = Interface(
    inputs=(tensor("x"), tensor("h"), tensor("open", (-1,)), tensor("text", (1,), DataType.BYTES)),
    outputs=(
        tensor("y"),
        tensor("h_next"),
        tensor("wide", (3, 3)),
        tensor("open_next", (-1,)),
        tensor("text_next", (1,), DataType.BYTES),
    ),
    batch_max=4,
)
H = State(input="h", output="h_next")


def test_what_is_left_is_what_clients_see():
    left = stateless(ENGINE, (H,))
    assert [spec.name for spec in left.inputs] == ["x", "open", "text"]
    assert [spec.name for spec in left.outputs] == ["y", "wide", "open_next", "text_next"]
    assert left.batch_max == 4
    assert stateless(ENGINE, ()) is ENGINE


def test_a_state_begins_as_zeros():
    (spec,) = state_specs(ENGINE, (H,))
    assert state_bytes((spec,)) == 24
    assert beginning(spec, 2).shape == (2, 2, 3)
    assert not beginning(spec, None).any()
    assert beginning(spec, None).dtype == np.float32


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([("no", "h_next")], "the model has no input 'no' for a state"),
        ([("h", "no")], "the model has no output 'no' for a state"),
        ([("h", "h_next"), ("h", "y")], "a tensor is named by two states"),
        ([("h", "h_next"), ("x", "h_next")], "a tensor is named by two states"),
        ([("h", "wide")], r"'h' is FP32 \[2, 3\], 'wide' is FP32 \[3, 3\]"),
        ([("open", "open_next")], r"the state 'open' is FP32 \[-1\]"),
        ([("text", "text_next")], r"the state 'text' is BYTES \[1\]"),
    ],
)
def test_what_cannot_be_a_state_is_refused(states, told):
    with pytest.raises(SpecError, match=told):
        stateless(ENGINE, tuple(State(input=given, output=taken) for given, taken in states))


@pytest.mark.parametrize("kept", ["inputs", "outputs"])
def test_something_must_be_left_for_clients(kept):
    both = {"inputs": (tensor("h"), tensor("x")), "outputs": (tensor("h_next"), tensor("y"))}
    engine = Interface(**(both | {kept: both[kept][:1]}), batch_max=4)
    with pytest.raises(SpecError, match="nothing is left beside the states"):
        stateless(engine, (H,))
