"""Tensors in records: one digest whatever the order, inline only when small."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.payload import INLINE_BYTES_MAX, Tensor, digest, inline
from appliance.tensors import DataType

TENSORS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=4),
        st.sampled_from(DataType),
        st.tuples(st.integers(0, 9)),
        st.binary(max_size=8),
    ),
    unique_by=lambda tensor: tensor[0],
    max_size=4,
)


def test_the_digest_is_what_its_docstring_says() -> None:
    line = b'{"bytes":4,"datatype":"UINT8","name":"image","shape":[2,2]}\n'

    assert (
        digest([("image", DataType.UINT8, (2, 2), b"\x01\x02\x03\x04")])
        == hashlib.sha256(line + b"\x01\x02\x03\x04").hexdigest()
    )


@given(TENSORS, st.randoms())
def test_the_order_of_tensors_does_not_matter(tensors: list, random) -> None:
    shuffled = tensors.copy()
    random.shuffle(shuffled)

    assert digest(shuffled) == digest(tensors)


@given(TENSORS, TENSORS)
def test_different_tensors_have_different_digests(one: list, other: list) -> None:
    assert (digest(one) == digest(other)) == (sorted(one) == sorted(other))


def test_a_view_is_digested_without_a_copy_and_alike() -> None:
    data = bytearray(b"abcdefgh")

    assert digest([("x", DataType.INT64, (1,), memoryview(data).cast("Q"))]) == digest(
        [("x", DataType.INT64, (1,), bytes(data))]
    )


def test_only_small_answers_are_kept_inline() -> None:
    def tensor(name: str, size: int) -> Tensor:
        return Tensor(name=name, datatype=DataType.UINT8, shape=(size,), data=bytes(size))

    small = [tensor("a", INLINE_BYTES_MAX - 1), tensor("b", 1)]

    assert inline(small) == tuple(small)
    assert inline([*small, tensor("c", 1)]) == ()
