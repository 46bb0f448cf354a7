"""Figures of a proof: what cannot be is not read, whoever wrote it."""

import json

import msgspec
import pytest

from appliance.proof import BucketErrors, Timing


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Timing, {"rows": 0, "median_ms": 1.0, "p99_ms": 1.0}),
        (Timing, {"rows": 1, "median_ms": -1.0, "p99_ms": 1.0}),
        (BucketErrors, {"rows": -1, "largest": 1.0}),
        (BucketErrors, {"rows": 1, "largest": -1.0}),
    ],
)
def test_figures_that_cannot_be_are_not_read(kind, fields):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(fields), type=kind)
