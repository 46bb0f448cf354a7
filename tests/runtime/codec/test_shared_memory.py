"""Tensors in shared memory: read once, written where asked, refused where it is off or too small."""

import numpy as np
import pytest

from appliance.audit.payload import Tensor
from appliance.errors import RequestError
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import Wanted, decode, place, wanted_outputs
from tests.runtime.codec.messages import arrays, decoded, request_with

Y = TensorSpec(name="y", datatype=DataType.UINT8, shape=(2,))
Z = TensorSpec(name="z", datatype=DataType.UINT8, shape=(2,))


class Memory:
    """One region "r" of eight bytes, 0 to 7."""

    def __init__(self):
        self.data = bytearray(range(8))

    def find(self, region, offset, byte_size):
        if region != "r" or offset + byte_size > len(self.data):
            raise RequestError(f"Unable to find shared memory region: '{region}'", remedy="")
        return Place(memoryview(self.data)[offset : offset + byte_size])


class Place:
    """A piece of a region."""

    def __init__(self, view):
        self.view = view

    def read(self):
        return memoryview(bytes(self.view))

    def write(self, data):
        self.view[: len(data)] = data


def placed(tensor, region="r", offset=None, byte_size=None):
    tensor.parameters["shared_memory_region"].string_param = region
    if offset is not None:
        tensor.parameters["shared_memory_offset"].int64_param = offset
    if byte_size is not None:
        tensor.parameters["shared_memory_byte_size"].int64_param = byte_size


def test_raw_entries_skip_inputs_in_shared_memory():
    request = request_with([b"\x09", b"\x08"], a=("UINT8", [1]), x=("UINT8", [2]), b=("UINT8", [1]))
    placed(request.inputs[1], offset=3, byte_size=2)
    found = arrays(request, regions=Memory())
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [9],
        "x": [3, 4],
        "b": [8],
    }


def test_what_a_client_writes_later_changes_nothing():
    memory = Memory()
    request = request_with(x=("UINT8", [2]))
    placed(request.inputs[0], byte_size=2)
    found = arrays(request, regions=memory)["x"]
    memory.data[:] = bytes(8)
    assert found.tolist() == [0, 1]


def test_texts_and_typed_contents_stand_beside_shared_memory():
    memory = Memory()
    memory.data[:5] = b"\1\0\0\0a"
    request = request_with(x=("BYTES", [1]), t=("UINT8", [1]))
    placed(request.inputs[0], byte_size=5)
    request.inputs[1].contents.uint_contents.append(7)
    found = arrays(request, regions=memory)
    assert (found["x"].tolist(), found["t"].tolist()) == ([b"a"], [7])


def refusals():
    def case(message, change, *, output=False):
        request = request_with(x=("UINT8", [2]))
        request.outputs.add(name="y")
        change(request.outputs[0] if output else request.inputs[0])
        return pytest.param(
            request, message, id=f"{'output' if output else 'input'} {message[:40]}"
        )

    for output in (False, True):
        name = "y" if output else "x"
        yield case(
            f"must be specified along with 'shared_memory_region' parameter for tensor '{name}'",
            placed,
            output=output,
        )
        yield case(
            "Unable to find shared memory region: 'q'",
            lambda tensor: placed(tensor, "q", byte_size=2),
            output=output,
        )
        yield case(
            f"of tensor '{name}' must not be negative",
            lambda tensor: placed(tensor, offset=-1, byte_size=2),
            output=output,
        )

    def only(kind, name, value):
        def change(tensor):
            setattr(tensor.parameters[name], kind, value)

        return change

    for name in ("shared_memory_offset", "shared_memory_byte_size"):
        yield case(
            f"'{name}' can not be specified without 'shared_memory_region' parameter",
            only("int64_param", name, 1),
        )
    yield case(
        "invalid value type for 'shared_memory_region' parameter for tensor 'x', "
        "expected string_param.",
        only("int64_param", "shared_memory_region", 1),
    )

    def text_size(tensor):
        placed(tensor)
        tensor.parameters["shared_memory_byte_size"].string_param = "2"

    yield case("expected int64_param.", text_size)
    yield case("Expected 2, got 3", lambda tensor: placed(tensor, byte_size=3))

    def typed(tensor):
        placed(tensor, byte_size=2)
        tensor.contents.uint_contents.append(1)

    yield case(
        "unexpected 'content' provided when using shared memory for input tensor 'x' for model 'm'",
        typed,
    )


@pytest.mark.parametrize(("request_", "message"), list(refusals()))
def test_a_place_that_is_wrong_is_refused(request_, message):
    with pytest.raises(RequestError) as refused:
        arrays(request_, regions=Memory())
    assert message in str(refused.value)


@pytest.mark.parametrize("output", [False, True])
def test_shared_memory_that_is_off_is_refused(output):
    request = request_with([b"12"], x=("UINT8", [2]))
    request.outputs.add(name="y")
    placed(request.outputs[0] if output else request.inputs[0], byte_size=2)
    with pytest.raises(RequestError, match=r"^Client shared memory is disabled$"):
        decoded(request).heads()


def test_a_client_that_is_not_on_this_box_has_no_shared_memory_here():
    request = request_with(x=("UINT8", [2]))
    placed(request.inputs[0], byte_size=2)
    reading = decode(
        request.SerializeToString(), peer="ipv4:10.0.0.7:1", new_id=str, regions=Memory()
    )
    with pytest.raises(RequestError, match="for clients on this box"):
        reading.heads()


Y_TENSOR = Tensor(name="y", datatype=DataType.UINT8, shape=(2,), data=b"\x21\x22")
Z_TENSOR = Tensor(name="z", datatype=DataType.UINT8, shape=(2,), data=b"\x23\x24")


def wanting(memory, byte_size):
    """A request for "y" in shared memory from byte 4 on, and for "z"; what it wants, and where."""
    request = request_with([b"12"], x=("UINT8", [2]))
    placed(request.outputs.add(name="y"), offset=4, byte_size=byte_size)
    request.outputs.add(name="z")
    reading = decoded(request, regions=memory)
    reading.heads()
    return wanted_outputs(reading.call, Interface(inputs=(), outputs=(Y, Z), batch_max=0)), reading


def test_an_output_goes_where_it_was_asked_and_leaves_no_data():
    memory = Memory()
    wanted, reading = wanting(memory, 3)
    left = place(wanted, (Y_TENSOR, Z_TENSOR), reading.places)
    assert bytes(memory.data) == b"\0\1\2\3\x21\x22\6\7"
    assert [tensor.data for tensor in left] == [b"", b"\x23\x24"]
    assert left[1] is Z_TENSOR


def test_without_shared_memory_nothing_is_placed():
    reading = decoded(request_with())
    assert place([Wanted(Y)], (Y_TENSOR,), reading.places) == (Y_TENSOR,)


def test_an_output_that_is_larger_than_its_place_is_refused():
    memory = Memory()
    wanted, reading = wanting(memory, 1)
    with pytest.raises(RequestError) as refused:
        place(wanted, (Y_TENSOR, Z_TENSOR), reading.places)
    assert str(refused.value) == (
        "shared memory size specified with the request for output 'y' (1 bytes) "
        "should be at least 2 bytes to hold the results"
    )
    assert bytes(memory.data) == bytes(range(8))


def test_an_array_from_shared_memory_is_aligned():
    request = request_with(x=("FP32", [1]))
    placed(request.inputs[0], offset=1, byte_size=4)
    found = arrays(request, regions=Memory())["x"]
    assert found.flags.aligned
    assert found.tobytes() == np.arange(1, 5, dtype=np.uint8).tobytes()
