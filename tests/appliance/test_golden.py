"""Golden vectors: comparison and their file."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.errors import GoldenMissed, SpecError, StoreError
from appliance.golden import Golden, arrays_to_bytes, check_golden, load_arrays
from appliance.manifest import Tolerance

TOLERANCE = Tolerance(absolute=0.1, relative=0.01)


def golden(*values: float) -> Golden:
    return Golden(
        inputs={"x": np.zeros((len(values), 1))}, outputs={"y": np.array(values, np.float32)}
    )


def check(got: list[float], *wanted: float) -> float:
    return check_golden({"y": np.array(got, np.float32)}, golden(*wanted), TOLERANCE)


def test_the_largest_error_is_told():
    assert check([1.05, 100.5], 1.0, 100.0) == pytest.approx(0.5)
    assert check([], *[]) == 0.0


def test_nan_and_infinity_must_be_matched():
    assert check([np.nan, np.inf, -np.inf], np.nan, np.inf, -np.inf) == 0.0


@pytest.mark.parametrize(
    ("got", "wanted"),
    [(1.2, 1.0), (np.nan, 1.0), (1.0, np.nan), (np.inf, 1e30), (1.0, np.inf), (-np.inf, np.inf)],
)
def test_a_value_out_of_tolerance_is_named(got, wanted):
    with pytest.raises(GoldenMissed) as missed:
        check([0.0, got], 0.0, wanted)
    assert "output 'y' at [1]" in str(missed.value)
    assert missed.value.code == "proof.golden"


def test_another_shape_is_refused():
    with pytest.raises(GoldenMissed) as missed:
        check([1.0, 2.0, 3.0], 1.0, 2.0)
    assert "shape [3]" in str(missed.value)


def test_integers_and_booleans_compare_too():
    wanted = Golden(inputs={"x": np.zeros(2)}, outputs={"y": np.array([True, False])})
    assert check_golden({"y": np.array([True, False])}, wanted, TOLERANCE) == 0.0
    with pytest.raises(GoldenMissed):
        check_golden({"y": np.array([True, True])}, wanted, TOLERANCE)


@given(
    hnp.arrays(
        st.sampled_from([np.int64, np.uint64, np.int8, np.bool_]), st.integers(1, 5), unique=False
    ),
    st.data(),
)
def test_integers_and_booleans_are_compared_exactly(wanted, data):
    """However large they are and whatever the tolerance: 2**53 + 1 is not 2**53."""
    loose = Tolerance(absolute=1e30, relative=1e30)
    vectors = Golden(inputs={"x": wanted}, outputs={"y": wanted})
    assert check_golden({"y": wanted.copy()}, vectors, loose) == 0.0
    changed, at = wanted.copy(), data.draw(st.integers(0, len(wanted) - 1))
    changed[at] ^= wanted.dtype.type(1)
    with pytest.raises(GoldenMissed, match=rf"'y' at \[{at}\]") as missed:
        check_golden({"y": changed}, vectors, loose)
    assert "must be equal" in missed.value.remedy


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text("abc/_", min_size=1, max_size=8),
        hnp.arrays(
            st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_arrays_survive_their_file_and_equal_arrays_give_equal_bytes(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("arrays") / "a.npz"
    data = arrays_to_bytes(arrays)
    assert arrays_to_bytes(dict(reversed(arrays.items()))) == data
    path.write_bytes(data)
    loaded = load_arrays(path, SpecError)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_vectors_survive_their_file(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(golden(1.0, 2.0).to_bytes())
    loaded = Golden.load(path)
    assert loaded.rows == 2
    assert loaded.outputs["y"].tolist() == [1.0, 2.0]


def test_damaged_vectors_are_a_damaged_store(tmp_path):
    with pytest.raises(StoreError):
        Golden.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "text", "cut", "flipped", "npy", "objects", "zip", "huge"]
)
def test_what_is_no_file_of_plain_arrays_is_refused(tmp_path, damage):
    whole = arrays_to_bytes({"a": np.arange(1000)})
    flipped = bytearray(whole)
    flipped[500] ^= 1
    data = {
        "empty": b"",
        "text": b"just text",
        "cut": whole[:500],
        "flipped": bytes(flipped),
        "npy": _npy(np.arange(3)),
        "objects": _zip("a.npy", _npy(np.array([{}], object))),
        "zip": _zip("a.txt", b"hello"),
        # A header that claims 800 GB.
        "huge": _zip(
            "a.npy", _npy(np.arange(3)).replace(b"(3,), }" + b" " * 10, b"(99999999999,), }")
        ),
    }.get(damage)
    path = tmp_path / "a.npz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SpecError) as refused:
        load_arrays(path, SpecError)
    assert str(path) in str(refused.value)


def test_arrays_that_would_fill_the_memory_are_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(100_000, np.uint8), b=np.zeros(100_000, np.uint8))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("appliance.golden.ARRAYS_BYTES_MAX", 150_000)
    monkeypatch.setattr(np, "load", lambda *_a, **_k: pytest.fail("unpacked"))
    with pytest.raises(SpecError) as refused:
        load_arrays(path, SpecError)
    assert "unpacked, more than 150000" in str(refused.value)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _zip(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()
