"""Windows are the last rows of one version, whatever else the log holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.drift.window import VectorRecord, decode_vector, vectors_from_records
from appliance.errors import DriftError


def record(
    sequence: int, rows: int, *, model: str = "digits", version: int = 1, width: int = 2
) -> VectorRecord:
    """A record whose rows all hold its sequence."""
    vector = np.full((rows, width), sequence, "<f4").tobytes()
    return VectorRecord(sequence, sequence * 1000, model, version, vector)


def test_a_vector_reads_back_row_by_row() -> None:
    values = np.asarray([[1.5, np.nan], [-0.0, np.inf]], "<f4")
    np.testing.assert_array_equal(decode_vector(values.tobytes(), 2), values)


@pytest.mark.parametrize(("length", "width"), [(7, 1), (12, 2), (8, 0)])
def test_a_vector_that_holds_no_whole_rows_is_an_error(length: int, width: int) -> None:
    with pytest.raises(DriftError, match="does not hold rows"):
        decode_vector(bytes(length), width)


def test_other_models_and_versions_are_passed_over() -> None:
    records = [
        record(1, 1),
        record(2, 1, model="tumours", width=5),
        record(3, 1, version=2),
        VectorRecord(4, 4000, "digits", 1, b""),
        record(5, 2),
    ]
    window = vectors_from_records(records, model="digits", version=1, width=2, rows_max=100)
    assert window.vectors[:, 0].tolist() == [1.0, 5.0, 5.0]
    assert (window.first_sequence, window.last_sequence) == (1, 5)
    assert (window.first_wall_ns, window.last_wall_ns) == (1000, 5000)


def test_a_record_may_be_kept_in_part() -> None:
    records = [record(1, 3), record(2, 4)]
    window = vectors_from_records(records, model="digits", version=1, width=2, rows_max=5)
    assert window.vectors[:, 0].tolist() == [1.0, 2.0, 2.0, 2.0, 2.0]
    assert window.first_sequence == 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_the_window_is_the_tail_of_all_rows(sizes: list[int], rows_max: int) -> None:
    records = [record(sequence, rows) for sequence, rows in enumerate(sizes)]
    window = vectors_from_records(
        iter(records), model="digits", version=1, width=2, rows_max=rows_max
    )
    everything = np.repeat(np.arange(len(sizes)), sizes)[-rows_max:]
    assert window.vectors[:, 0].tolist() == everything.tolist()
    assert (window.first_sequence, window.last_sequence) == (everything[0], everything[-1])


def test_no_rows_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DriftError, match="no drift vectors of digits version 9") as caught:
        vectors_from_records([record(1, 1)], model="digits", version=9, width=2, rows_max=10)
    assert "answered requests" in caught.value.remedy
