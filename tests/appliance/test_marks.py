"""Bundles that failed: marked, told, forgotten, and never too many."""

import os

import pytest

from appliance import marks
from appliance.errors import BuildMarked, GoldenMissed, StateError
from appliance.marks import Marks

BUNDLE = "a" * 64
HERE = {"stamps": {"onnxruntime": {"library": "onnxruntime 1"}}, "release": "1"}


@pytest.fixture
def kept(tmp_path) -> Marks:
    """An empty set of marks."""
    return Marks(tmp_path / "marks")


def put(kept, bundle=BUNDLE, conditions=HERE):
    kept.put(
        GoldenMissed("output 'y' is wrong", remedy="mend the model"),
        model="tiny",
        bundle_sha256=bundle,
        failed="2026-01-02T03:04:05Z",
        stamps=HERE["stamps"],
        conditions=conditions,
    )


def test_a_failure_is_told_with_when_why_and_what_to_do(kept):
    kept.check(BUNDLE, HERE)
    put(kept)
    with pytest.raises(BuildMarked) as caught:
        kept.check(BUNDLE, HERE)
    assert str(caught.value) == (
        "this bundle failed here on 2026-01-02T03:04:05Z: [proof.golden] output 'y' is wrong"
    )
    assert caught.value.remedy == "mend the model; to try it once more as it is, add --again"
    mark = kept.find(BUNDLE)
    assert (mark.model, mark.code, mark.stamps) == ("tiny", "proof.golden", HERE["stamps"])


def test_other_conditions_other_bundles_and_cleared_ones_are_tried(kept):
    put(kept)
    kept.check(BUNDLE, HERE | {"release": "2"})
    kept.check("b" * 64, HERE)
    kept.clear(BUNDLE)
    kept.clear(BUNDLE)
    kept.check(BUNDLE, HERE)


def test_a_damaged_mark_costs_a_build_and_nothing_else(kept, tmp_path):
    put(kept)
    (tmp_path / "marks" / f"{BUNDLE}.json").write_text("{")
    kept.check(BUNDLE, HERE)


def test_the_oldest_make_room(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "MARKS_MAX", 3)
    bundles = [letter * 64 for letter in "abcde"]
    for at, bundle in enumerate(bundles):
        put(kept, bundle)
        os.utime(tmp_path / "marks" / f"{bundle}.json", ns=(at, at))
    assert [bundle for bundle in bundles if kept.find(bundle)] == bundles[2:]


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "marks").write_bytes(b"in the way")
    with pytest.raises(StateError):
        put(Marks(tmp_path / "marks"))
