"""The inference codec: the bytes of requests, from whoever reaches the port."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as oip

from appliance.config import SharedMemoryConfig
from runtime.codec import decode
from runtime.regions import Regions
from tests.fuzz.mutating import fuzzed, mutants, refused_or_taken, saved
from tests.runtime.codec.messages import request_with
from tests.runtime.codec.test_walking import requests

SIZE = 64


def _honest() -> Iterator[bytes]:
    plain = request_with([np.zeros(4, np.float32).tobytes()], x=("FP32", [2, 2]))
    plain.id, plain.model_version = "r-1", "1"
    plain.outputs.add(name="y").parameters["classification"].int64_param = 2
    yield plain.SerializeToString()
    texts = request_with([struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0)], t=("BYTES", [2]))
    texts.parameters["sequence_id"].string_param = "s"
    texts.parameters["sequence_start"].bool_param = True
    texts.parameters["timeout"].int64_param = 5
    yield texts.SerializeToString()
    typed = request_with(i=("INT32", [3]), b=("BOOL", [0]))
    typed.inputs[0].contents.int_contents.extend([1, -2, 3])
    yield typed.SerializeToString()
    shared = request_with(x=("UINT8", [8]))
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": 1}
    for holder in (shared.inputs[0], shared.outputs.add(name="y")):
        for name, value in place.items():
            kind = "string_param" if isinstance(value, str) else "int64_param"
            setattr(holder.parameters[name], kind, value)
    yield shared.SerializeToString()


HONEST = list(_honest())


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Regions:
    directory = tmp_path_factory.mktemp("shm")
    (directory / "holdfast-client-a").write_bytes(bytes(SIZE))
    regions = Regions(SharedMemoryConfig(allowed=True), directory=directory)
    regions.register("r", "/holdfast-client-a", 0, SIZE)
    return regions


def _asked(data: bytes, regions: Regions | None) -> None:
    """All that the codec does to a request before a model sees it."""

    def _request(message: bytes) -> None:
        reading = decode(message, peer="ipv4:127.0.0.1:1", new_id=lambda: "made", regions=regions)
        heads = reading.heads()
        for name, array in reading.arrays(heads).items():
            assert array.shape == heads[name].shape
            assert array.nbytes <= 64 * max(len(message), SIZE)

    refused_or_taken(_request, data)


@fuzzed
@given(mutants(HONEST) | st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(regions: Regions, data: bytes) -> None:
    _asked(data, regions)
    _asked(data, None)


@fuzzed
@given(requests())
def test_any_fields_are_a_request_or_refused(
    regions: Regions, request: oip.ModelInferRequest
) -> None:
    _asked(request.SerializeToString(), regions)


@fuzzed
@given(
    st.sampled_from(["FP32", "BYTES", "BOOL", "UINT64", "BF16"]),
    st.lists(
        st.sampled_from([0, 1, 2, -1, 1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63)]), max_size=70
    ),
    st.binary(max_size=64),
)
def test_any_shape_is_held_against_the_data(datatype: str, shape: list[int], data: bytes) -> None:
    """Claims cost nothing: no array is larger than what came."""
    _asked(request_with([data], x=(datatype, shape)).SerializeToString(), None)


@pytest.mark.parametrize("path", saved("codec"), ids=lambda path: path.name)
def test_saved_cases(regions: Regions, path: Path) -> None:
    _asked(path.read_bytes(), regions)
    _asked(path.read_bytes(), None)
