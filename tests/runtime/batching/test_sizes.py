"""How many rows a batch has."""

import pytest

from runtime.batching.sizes import Sizes


@pytest.mark.parametrize(
    ("preferred", "buckets", "fitting", "limit"),
    [
        ((), (), 5, 5),
        ((), (), 40, 32),
        ((4, 8), (), 3, 3),
        ((4, 8), (), 7, 4),
        ((4, 8), (), 30, 8),
        ((64,), (), 40, 32),
        ((), (1, 8, 32), 9, 8),
        ((), (1, 8, 32), 20, 20),
        ((), (4, 8), 1, 1),
        ((), (4, 8), 20, 20),
    ],
)
def test_sizes_of_batches(preferred, buckets, fitting, limit):
    assert Sizes(32, preferred=preferred, buckets=buckets).limit(fitting, fitting, 1) == limit


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (2, 8), (8, 8), (9, 32), (40, 40)])
def test_batches_are_padded_to_the_next_bucket(rows, padded):
    assert Sizes(32, preferred=(), buckets=(8, 1, 64)).padded(rows) == padded
