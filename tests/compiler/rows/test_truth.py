"""Labels and segments of held-out rows: read, checked, sealed and read again."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BundleContent, SpecError
from appliance.golden import arrays_to_bytes
from compiler.rows.held_out import HeldOut
from compiler.rows.truth import Truth, truth_from


def read(rows: int = 2, **arrays) -> Truth:
    named = {name.replace("__", "/"): np.asarray(array) for name, array in arrays.items()}
    return truth_from(named, rows, SpecError, where="rows.npz")


def test_labels_are_classes_or_measured_values():
    assert read(label=np.uint8([1, 2])).labels.dtype == np.int64
    assert read(label=np.float32([1.5, 2])).labels.dtype == np.float64
    assert read(label=np.zeros((2, 3))).labels.shape == (2, 3)
    assert read().labels is None


@pytest.mark.parametrize(
    "column",
    [["north", "süd"], np.array(["north", "süd"], "U99"), [b"north", "süd".encode()]],
)
def test_a_column_of_text_is_kept_as_text(column):
    kept = read(segment__site=column).segments["site"]
    assert kept.tolist() == ["north", "süd"]
    assert kept.dtype == np.dtype("<U5")


def test_a_column_of_integers_is_kept_as_integers():
    assert read(segment__device=np.int8([7, -1])).segments["device"].dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"label": [1]}, "2 rows of inputs and {'label': 1}"),
        ({"label": 1}, "'label' is int64 []"),
        ({"label": [1.0, np.nan]}, "not finite"),
        ({"label": ["a", "b"]}, "'label' is <U1"),
        ({"segment__site": ["a"]}, "{'segment/site': 1}"),
        ({"segment__site": [0.5, 1.0]}, "float64 [2]"),
        ({"segment__site": [["a"], ["b"]]}, "<U1 [2, 1]"),
        ({"segment__site": "a"}, "<U1 []"),
        ({"segment__site": [b"\xff", b"a"]}, "not UTF-8"),
        ({"segment__site": ["a", "b" * 257]}, "of 257 characters"),
        ({"segment__" + "n" * 300: ["a", "b"]}, "at most are 256 and 256"),
    ],
)
def test_what_is_no_label_or_column_is_refused_by_name(arrays, told):
    with pytest.raises(SpecError) as refused:
        read(**arrays)
    assert told in str(refused.value)
    assert str(refused.value).startswith("rows.npz: ")


def test_a_column_names_groups_and_not_rows():
    with pytest.raises(SpecError, match="300 different values"):
        read(300, segment__row=np.arange(300))


def test_an_input_called_label_is_an_input():
    arrays = {"label": np.float32([[1.0]])}
    assert truth_from(arrays, 1, SpecError, where="x", inputs={"label"}) == Truth()
    assert set(arrays) == {"label"}


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.text("aä é", max_size=4)), min_size=1, max_size=9),
    st.booleans(),
)
def test_sealed_rows_are_read_as_they_were(rows, labelled):
    known = Truth(
        labels=np.arange(len(rows)) if labelled else None,
        segments={"site": np.array([text for _, text in rows])},
    )
    sealed = HeldOut(inputs={"x": np.array([[value] for value, _ in rows])}, truth=known)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "held_out.npz"
        path.write_bytes(sealed.to_bytes())
        found = HeldOut.load(path)
    np.testing.assert_array_equal(found.inputs["x"], sealed.inputs["x"])
    np.testing.assert_array_equal(found.truth.segments["site"], known.segments["site"])
    assert (found.truth.labels is not None) == labelled
    assert found.to_bytes() == sealed.to_bytes()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"label": np.arange(2)},
        {"input/x": np.float32(1.0)},
        {"input/x": np.zeros((2, 1)), "other": np.zeros(2)},
        {"input/x": np.zeros((2, 1)), "label": np.zeros(3)},
        {"input/x": np.zeros((2, 1)), "segment/a": np.zeros(2)},
    ],
)
def test_a_sealed_file_that_holds_other_things_is_refused(tmp_path, arrays):
    path = tmp_path / "held_out.npz"
    path.write_bytes(arrays_to_bytes(arrays))
    if list(arrays) == ["input/x"]:  # told by the check of shapes that follows
        assert HeldOut.load(path).inputs["x"].ndim == 0
        return
    with pytest.raises(BundleContent):
        HeldOut.load(path)


def test_requests_hold_all_rows_in_order():
    rows = HeldOut(inputs={"x": np.arange(5)})
    assert [request["x"].tolist() for request in rows.requests(2)] == [[0, 1], [2, 3], [4]]
    assert [int(request["x"]) for request in rows.requests(0)] == [0, 1, 2, 3, 4]
    assert rows.part(np.array([3, 1])).inputs["x"].tolist() == [3, 1]
