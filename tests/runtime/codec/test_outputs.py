"""Which outputs are wanted, and the form in which they leave."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import deserialize_bytes_tensor

from appliance.errors import RequestError
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import CLASSES_MAX, Wanted, wanted_outputs
from runtime.codec.outputs import VIEWED_BYTES_MIN, raw_tensors
from tests.runtime.codec.messages import decoded, request_with

A = TensorSpec(name="a", datatype=DataType.FP32, shape=(3,))
B = TensorSpec(name="b", datatype=DataType.BYTES, shape=(1,))
LARGE = TensorSpec(name="large", datatype=DataType.FP32, shape=(CLASSES_MAX + 1,))
OPEN = TensorSpec(name="open", datatype=DataType.FP32, shape=(-1,))
INTERFACE = Interface(inputs=(), outputs=(A, B, LARGE, OPEN), batch_max=4)


def call_for(*names, classes=0):
    request = request_with()
    for name in names:
        output = request.outputs.add(name=name)
        if classes:
            output.parameters["classification"].int64_param = classes
    return decoded(request).call


def classified(values, count, *, labels=(), datatype=DataType.FP32, rows=True):
    """The texts of one output's classes, and their shape."""
    array = np.array(values, datatype.numpy)
    spec = TensorSpec(name="a", datatype=datatype, shape=array.shape[1:] if rows else array.shape)
    (tensor,) = raw_tensors([Wanted(spec, count)], {"a": array}, labels)
    assert (tensor.name, tensor.datatype) == ("a", DataType.BYTES)
    return [item.decode() for item in deserialize_bytes_tensor(tensor.data)], tensor.shape


def test_all_outputs_are_wanted_when_none_is_named():
    assert [item.spec for item in wanted_outputs(call_for(), INTERFACE)] == [A, B, LARGE, OPEN]


def test_outputs_come_in_the_order_asked_for():
    assert wanted_outputs(call_for("b", "a"), INTERFACE) == (Wanted(B), Wanted(A))


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["z"], 0, "unexpected inference output 'z' for model 'm'"),
        (["a", "a"], 0, "output 'a' already exists in request"),
        (["b"], 1, "class result not available for output due to unsupported type 'BYTES'"),
        (["large"], CLASSES_MAX + 1, f"more than {CLASSES_MAX}"),
        (["open"], CLASSES_MAX + 1, f"more than {CLASSES_MAX}"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(names, classes, message):
    with pytest.raises(RequestError) as refused:
        wanted_outputs(call_for(*names, classes=classes), INTERFACE)
    assert message in str(refused.value)


def test_as_many_classes_as_there_are_may_be_asked_for_by_any_number():
    assert wanted_outputs(call_for("a", classes=2**31), INTERFACE) == (Wanted(A, 2**31),)


def test_raw_data_is_little_endian_and_texts_carry_their_length():
    outputs = {"a": np.ones((1, 3), np.float32), "b": np.array([[b"yes"]], dtype=np.object_)}
    tensors = raw_tensors([Wanted(B), Wanted(A)], outputs)
    assert [(tensor.name, tensor.shape, bytes(tensor.data)) for tensor in tensors] == [
        ("b", (1, 1), b"\3\0\0\0yes"),
        ("a", (1, 3), struct.pack("<3f", 1, 1, 1)),
    ]


def test_a_large_output_is_viewed_where_it_lies():
    batch = np.arange(VIEWED_BYTES_MIN, dtype=np.float32).reshape(2, -1)
    (tensor,) = raw_tensors([Wanted(OPEN)], {"open": batch[1:]})
    assert np.shares_memory(np.frombuffer(tensor.data, np.uint8), batch)
    assert bytes(tensor.data) == batch[1:].tobytes()
    assert len(tensor.data) == batch[1:].nbytes


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.ones((128, 128), np.float32).T[::2], id="not in one piece"),
        pytest.param(np.ones((1, 8192), np.float64), id="of another type"),
    ],
)
def test_a_large_output_that_is_not_in_raw_form_is_brought_into_it(array):
    (tensor,) = raw_tensors([Wanted(OPEN)], {"open": array})
    assert tensor.data == array.astype(np.float32).tobytes()


def test_classes_are_told_as_triton_tells_them():
    assert classified([[1.1, 3.3, 0.5, 2.4]], 2) == (["3.300000:1", "2.400000:3"], (1, 2))
    labels = ["ant", "bee", "cat", "dog"]
    assert classified([[1.1, 3.3, 0.5, 2.4]], 2, labels=labels)[0] == [
        "3.300000:1:bee",
        "2.400000:3:dog",
    ]
    told, _ = classified([[1, 5, 10, 4]], 3, datatype=DataType.UINT32)
    assert told == ["10:2", "5:1", "4:3"]


def test_each_row_has_its_own_classes_and_no_more_than_there_are():
    assert classified([[1, 2], [4, 3]], 9, datatype=DataType.INT8) == (
        ["2:1", "1:0", "4:0", "3:1"],
        (2, 2),
    )
    assert classified([1, 2], 1, datatype=DataType.INT8, rows=False) == (["2:1"], (1,))


def test_labels_are_for_outputs_with_a_value_for_each():
    assert classified([[1, 2, 3]], 1, labels=["ant", "bee"])[0] == ["3.000000:2"]


def test_values_that_are_no_numbers_come_last():
    values = [[np.nan, -np.inf, 0.0, np.inf, np.nan]]
    told = ["inf:3", "0.000000:2", "-inf:1", "nan:0", "nan:4"]
    assert classified(values, 5)[0] == told
    assert classified(values, 5, datatype=DataType.FP16)[0] == told


NUMBERS = [each for each in DataType if each not in (DataType.BOOL, DataType.BYTES)]


@given(st.data())
def test_the_largest_come_first_and_equal_ones_by_index(data):
    datatype = data.draw(st.sampled_from(NUMBERS))
    values = data.draw(hnp.arrays(datatype.numpy, (1, data.draw(st.integers(1, 12)))))
    told, _ = classified(values, 12, datatype=datatype)
    row = values[0].tolist()
    order = sorted(range(len(row)), key=lambda i: (row[i] != row[i], -row[i], i))
    known = [index for index in order if row[index] == row[index]]
    unknown = [index for index in range(len(row)) if row[index] != row[index]]
    assert [int(text.split(":")[1]) for text in told] == known + unknown
