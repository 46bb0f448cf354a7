"""Verdicts: an alarm needs a small p-value, an effect that matters and enough rows."""

import msgspec
import pytest

from appliance.drift.report import (
    Finding,
    FindingKind,
    Thresholds,
    Verdict,
    finding_verdict,
    overall_verdict,
)


@pytest.mark.parametrize(
    ("p", "effect", "rows", "verdict"),
    [
        (0.001, 0.5, 100, Verdict.DRIFT),
        (0.01, 0.1, 30, Verdict.DRIFT),
        (0.001, 0.09, 100, Verdict.REAL_BUT_SMALL),
        (0.02, 0.5, 100, Verdict.QUIET),
        (0.02, 0.0, 100, Verdict.QUIET),
        (0.001, 0.5, 29, Verdict.TOO_LITTLE_DATA),
        (0.9, 0.0, 29, Verdict.TOO_LITTLE_DATA),
    ],
)
def test_a_finding_is_drift_only_when_all_three_agree(
    p: float, effect: float, rows: int, verdict: Verdict
) -> None:
    found = finding_verdict(p=p, level=0.01, effect=effect, effect_min=0.1, rows=rows, rows_min=30)
    assert found is verdict


def of(verdict: Verdict) -> Finding:
    return Finding(
        feature="x",
        kind=FindingKind.DISTRIBUTION,
        statistic=0.1,
        p=0.5,
        level=0.05,
        e=1.0,
        effect=0.0,
        effect_min=0.1,
        n=50,
        verdict=verdict,
    )


@pytest.mark.parametrize(
    ("verdicts", "rows", "overall"),
    [
        ("QUIET", 50, Verdict.QUIET),
        ("QUIET REAL_BUT_SMALL", 50, Verdict.REAL_BUT_SMALL),
        ("REAL_BUT_SMALL DRIFT QUIET", 50, Verdict.DRIFT),
        ("TOO_LITTLE_DATA QUIET", 50, Verdict.QUIET),
        ("TOO_LITTLE_DATA DRIFT", 50, Verdict.DRIFT),
        ("TOO_LITTLE_DATA", 29, Verdict.TOO_LITTLE_DATA),
    ],
)
def test_a_check_is_as_grave_as_its_gravest_finding(
    verdicts: str, rows: int, overall: Verdict
) -> None:
    findings = [of(Verdict[name]) for name in verdicts.split()]
    assert overall_verdict(findings, rows=rows, rows_min=30) is overall


@pytest.mark.parametrize(
    "table", [{"alpha": 0.0}, {"alpha": 1.0}, {"rows_min": 0}, {"effect_min": -0.1}, {"beta": 1}]
)
def test_thresholds_that_mean_nothing_are_refused(table: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Thresholds)
