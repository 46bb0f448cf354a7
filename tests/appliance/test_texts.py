"""BYTES arrays at rest: every byte survives, and nothing hostile is made room for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.errors import SpecError
from appliance.golden import Golden, arrays_to_bytes, check_golden, load_arrays
from appliance.manifest import Tolerance
from appliance.texts import (
    are_texts_at_rest,
    texts,
    texts_at_rest,
    texts_from_numpy,
    texts_from_rest,
)

arrays = hnp.arrays(
    np.object_, hnp.array_shapes(min_dims=0, min_side=0, max_side=4), elements=st.binary(max_size=9)
)


@given(arrays)
def test_texts_survive_their_rest(array):
    at_rest = texts_at_rest(array)
    assert are_texts_at_rest(at_rest)
    assert at_rest.tobytes() == texts_at_rest(array.copy()).tobytes()
    back = texts_from_rest(at_rest)
    assert back.shape == array.shape
    assert back.dtype == np.object_
    assert back.tolist() == array.tolist()


@given(arrays, st.data())
def test_a_mutilated_rest_is_refused_or_is_texts(array, data):
    whole = bytearray(texts_at_rest(array).tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    try:
        back = texts_from_rest(np.frombuffer(cut, "V1"))
    except ValueError:
        return
    assert all(isinstance(item, bytes) for item in back.flat)


@pytest.mark.parametrize(
    "header", [[1, 2**61], [3, 2**40, 2**40, 2**40], [2**63], [65], [2, 0, 2**63], [1, 1, 2**40]]
)
def test_claims_cost_nothing(header):
    with pytest.raises(ValueError):
        texts_from_rest(np.frombuffer(np.array(header, "<u8").tobytes(), "V1"))


def test_numpys_own_texts_are_read():
    assert texts_from_numpy(np.array([["a", "ü"]])).tolist() == [[b"a", "ü".encode()]]
    assert texts_from_numpy(np.array([b"a", b"\xff"])).tolist() == [b"a", b"\xff"]
    assert texts_from_numpy(np.empty((2, 0), "U3")).shape == (2, 0)


def test_files_of_arrays_hold_texts_and_any_name(tmp_path):
    named = {
        "file": texts([b"", b"a\0", b"\xff" * 300], (3, 1)),
        "allow_pickle": np.arange(3),
        "input/x.npy": np.float32([1.0]),
    }
    path = tmp_path / "a.npz"
    path.write_bytes(arrays_to_bytes(named))
    loaded = load_arrays(path, SpecError)
    assert {name: array.tolist() for name, array in loaded.items()} == {
        name: array.tolist() for name, array in named.items()
    }
    with np.load(path, allow_pickle=False) as archive:  # nothing in it needs a pickle
        assert archive["file"].dtype == "V1"


def test_a_damaged_text_makes_the_file_unreadable(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.frombuffer(b"\1\0\0\0\0\0\0\0\5", "V1"))
    with pytest.raises(SpecError, match="not a readable"):
        load_arrays(tmp_path / "a.npz", SpecError)


def test_texts_are_compared_exactly():
    wanted = texts([b"yes", b"no"], (2,))
    golden = Golden(inputs={"x": wanted}, outputs={"y": wanted})
    loose = Tolerance(absolute=9.0)
    assert check_golden({"y": wanted.copy()}, golden, loose) == 0.0
    with pytest.raises(Exception, match=r"'y' at \[1\] is b'on', the reference b'no'"):
        check_golden({"y": texts([b"yes", b"on"], (2,))}, golden, loose)
