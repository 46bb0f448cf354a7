"""The whole check: what is found, what is left alone, and what a report says of it."""

from collections.abc import Callable

import numpy as np
import pytest

from appliance.drift.check import check
from appliance.drift.report import DriftReport, Finding, FindingKind, Thresholds, Verdict
from appliance.drift.window import Window
from appliance.errors import DriftError
from appliance.layout import Floats, TableValues, VectorLayout
from appliance.profiles import Profile, profile_from_vectors
from appliance.tables import canonical_json, from_json

Run = Callable[..., DriftReport]
Draw = Callable[..., Floats]


@pytest.fixture
def run(reference: Profile, window: Callable[[Floats], Window]) -> Run:
    """Check vectors against the reference, the permutations seeded."""

    def of(vectors: Floats, *, against: Profile = reference, **thresholds: float) -> DriftReport:
        rng = np.random.default_rng(0)
        settings = Thresholds(**thresholds)  # type: ignore[arg-type]
        return check(window(vectors), against, thresholds=settings, rng=rng)

    return of


def finding(report: DriftReport, feature: str, kind: FindingKind) -> Finding:
    return next(f for f in report.findings if (f.feature, f.kind) == (feature, kind))


def test_rows_like_the_references_are_quiet(run: Run, draw: Draw) -> None:
    report = run(draw(np.random.default_rng(2), 400))
    assert report.verdict is Verdict.QUIET
    assert {f.verdict for f in report.findings} == {Verdict.QUIET}
    assert 0.1 < report.e < 20


def test_a_shift_is_drift_in_the_value_that_shifted(run: Run, draw: Draw) -> None:
    report = run(draw(np.random.default_rng(2), 300, shift=0.5))
    found = finding(report, "x.heat", FindingKind.DISTRIBUTION)
    assert report.verdict is found.verdict is Verdict.DRIFT
    assert found.p <= found.level < 0.05
    assert found.effect == pytest.approx(0.5, abs=0.15)
    assert found.e > 100


def test_a_tiny_shift_in_very_many_rows_is_real_but_small(
    run: Run, draw: Draw, layout: VectorLayout
) -> None:
    """0.02 standard deviations: no doubt that it is there, no reason to wake anyone."""
    rng = np.random.default_rng(3)
    against = profile_from_vectors(layout, draw(rng, 200_000))
    report = run(draw(rng, 200_000, shift=0.02), against=against)
    assert finding(report, "x.heat", FindingKind.DISTRIBUTION).p < 1e-3
    assert report.verdict is Verdict.REAL_BUT_SMALL
    report = run(draw(rng, 200_000, shift=0.3), against=against)
    assert report.verdict is Verdict.DRIFT


def test_few_rows_are_too_little_data_however_they_look(run: Run, draw: Draw) -> None:
    report = run(draw(np.random.default_rng(2), 20, shift=5.0))
    assert report.verdict is Verdict.TOO_LITTLE_DATA
    assert {f.verdict for f in report.findings} == {Verdict.TOO_LITTLE_DATA}


def test_so_is_a_small_reference(run: Run, draw: Draw, layout: VectorLayout) -> None:
    small = profile_from_vectors(layout, draw(np.random.default_rng(2), 20))
    report = run(draw(np.random.default_rng(3), 300, shift=5.0), against=small)
    assert report.verdict is Verdict.TOO_LITTLE_DATA


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_flood_of_missing_values_is_found(run: Run, draw: Draw, value: float) -> None:
    vectors = draw(np.random.default_rng(2), 200)
    vectors[:20, 5] = value
    report = run(vectors)
    found = finding(report, "x.load", FindingKind.MISSING)
    assert report.verdict is found.verdict is Verdict.DRIFT
    assert found.statistic == pytest.approx(0.1)
    assert finding(report, "x.load", FindingKind.DISTRIBUTION).verdict is Verdict.QUIET
    assert finding(report, "x.load", FindingKind.DISTRIBUTION).n == 180


def test_rows_that_are_missing_throughout_are_no_copies(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 200)
    vectors[:50] = np.nan
    report = run(vectors)
    assert report.verdict is Verdict.DRIFT
    assert (report.copies, report.effective_rows) == (0, 200)
    assert finding(report, "y.class", FindingKind.MISSING).verdict is Verdict.DRIFT


def test_a_column_that_is_all_missing_leaves_the_others_their_verdicts(
    run: Run, draw: Draw
) -> None:
    vectors = draw(np.random.default_rng(2), 200)
    vectors[:, 5] = np.nan
    report = run(vectors)
    empty = finding(report, "x.load", FindingKind.DISTRIBUTION)
    assert empty.verdict is Verdict.TOO_LITTLE_DATA
    assert (empty.n, empty.p, empty.effect) == (0, 1.0, 0.0)
    assert report.verdict is Verdict.DRIFT


def test_a_class_the_reference_never_saw_is_found(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 200)
    vectors[:20, 9] = 7.0
    found = finding(run(vectors), "y.class", FindingKind.CATEGORIES)
    assert found.verdict is Verdict.DRIFT


def test_a_class_that_vanished_is_found(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 300)
    found = finding(run(vectors[vectors[:, 9] != 0.0]), "y.class", FindingKind.CATEGORIES)
    assert found.verdict is Verdict.DRIFT


def test_a_value_that_never_varied_is_found_when_it_moves(run: Run, draw: Draw) -> None:
    for moved in (0.3, 0.2):
        vectors = draw(np.random.default_rng(2), 100)
        vectors[:, 6] = moved
        found = finding(run(vectors), "x.still", FindingKind.DISTRIBUTION)
        assert found.verdict is Verdict.DRIFT


def test_rounding_of_a_value_that_never_varied_is_none(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 100)
    vectors[:, 6] = np.nextafter(np.float32(0.25), np.float32(1.0))
    found = finding(run(vectors), "x.still", FindingKind.DISTRIBUTION)
    assert found.verdict is Verdict.REAL_BUT_SMALL


def test_copies_do_not_count_as_rows(run: Run, draw: Draw) -> None:
    """A camera that sends each frame ten times has shown a tenth of the frames."""
    frames = draw(np.random.default_rng(2), 40)
    report = run(np.repeat(frames, 10, axis=0))
    assert (report.rows, report.copies, report.effective_rows) == (400, 360, 40)
    assert report.verdict is Verdict.QUIET


def test_unless_the_reference_repeats_rows_itself(
    run: Run, window: Callable[[Floats], Window]
) -> None:
    """A questionnaire with one question has few different rows, and that is no fault."""
    table = TableValues(input="x", columns=("answer",))
    layout = VectorLayout(batch_axis=True, parts=(table,))
    rng = np.random.default_rng(1)
    answers = rng.integers(0, 5, (500, 1)).astype(np.float32)
    against = profile_from_vectors(layout, answers)
    report = run(rng.integers(0, 5, (300, 1)).astype(np.float32), against=against)
    assert (report.copies, report.effective_rows) == (295, 300)
    assert report.verdict is Verdict.QUIET


def test_nothing_that_could_differ_is_no_evidence_either_way(
    run: Run, window: Callable[[Floats], Window]
) -> None:
    layout = VectorLayout(batch_axis=True, parts=(TableValues(input="x", columns=("still",)),))
    still = np.full((100, 1), 2.0, np.float32)
    report = run(still, against=profile_from_vectors(layout, still))
    assert (report.verdict, report.e) == (Verdict.QUIET, 1.0)


def test_a_model_without_drift_features_is_told_so(window: Callable[[Floats], Window]) -> None:
    layout = VectorLayout(batch_axis=True, parts=())
    empty = profile_from_vectors(layout, np.empty((5, 0), np.float32))
    with pytest.raises(DriftError, match="no drift features") as caught:
        check(
            window(np.empty((5, 0), np.float32)),
            empty,
            thresholds=Thresholds(),
            rng=np.random.default_rng(0),
        )
    assert caught.value.code == "drift.failed"


@pytest.mark.parametrize("shape", [(50, 4), (0, 13)], ids=["another model's", "no rows"])
def test_vectors_that_do_not_fit_are_refused(run: Run, shape: tuple[int, int]) -> None:
    with pytest.raises(DriftError, match="at least one row of 13 values"):
        run(np.zeros(shape, np.float32))


def test_the_same_window_and_seed_give_the_same_report(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 100)
    assert canonical_json(run(vectors)) == canonical_json(run(vectors))


def test_a_report_says_which_rows_it_is_about(run: Run, draw: Draw) -> None:
    report = run(draw(np.random.default_rng(2), 100))
    assert (report.model, report.version) == ("digits", 3)
    assert (report.first_sequence, report.last_sequence) == (10, 110)
    assert report.first_time == "2023-11-14T22:13:20.000000Z"
    assert report.last_time == "2023-11-14T22:14:20.000000Z"
    assert (report.rows, report.reference_rows) == (100, 600)


def test_a_report_holds_every_statistic_also_the_quiet_ones(
    run: Run, draw: Draw, layout: VectorLayout
) -> None:
    report = run(draw(np.random.default_rng(2), 100))
    assert tuple(f.feature for f in report.findings) == layout.names
    assert tuple(v.feature for v in report.values) == layout.names


def test_a_report_survives_its_json(run: Run, draw: Draw) -> None:
    report = run(draw(np.random.default_rng(2), 60, shift=1.0))
    text = canonical_json(report)
    assert from_json(text, DriftReport, DriftError, where="report") == report


def test_stricter_thresholds_make_fewer_alarms(run: Run, draw: Draw) -> None:
    vectors = draw(np.random.default_rng(2), 300, shift=0.5)
    assert run(vectors, effect_min=5.0).verdict is Verdict.REAL_BUT_SMALL
    assert run(vectors, rows_min=400).verdict is Verdict.TOO_LITTLE_DATA
    assert run(vectors, alpha=1e-200).verdict is Verdict.QUIET
