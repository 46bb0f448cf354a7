"""The drift check: a window of live rows and a reference profile make a report.

Knows: which statistic suits which value, how alpha is shared out, what copied rows count for. Rules:
the same window, reference and seed give the same report; missing values are tested on their own and
never dropped silently. Leaves to others: the statistics (`distance`), verdicts (`report`), gathering rows
(`window`).
"""

import numpy as np
from numpy.typing import NDArray

from appliance.clock import timestamp
from appliance.drift import distance
from appliance.drift.comparison import Comparison, compare
from appliance.drift.report import (
    DriftReport,
    Finding,
    FindingKind,
    Thresholds,
    finding_verdict,
    overall_verdict,
)
from appliance.drift.shares import value_shares
from appliance.drift.window import VectorRecord, Window, decode_vector, vectors_from_records
from appliance.errors import DriftError
from appliance.layout import Floats
from appliance.profiles import Profile, distinct_rows, live_profile

__all__ = ["VectorRecord", "Window", "check", "decode_vector", "vectors_from_records"]

COPIES_SHARE_MAX = 0.05  # over it, copies are in the nature of the data and say nothing


def check(
    window: Window, reference: Profile, *, thresholds: Thresholds, rng: np.random.Generator
) -> DriftReport:
    """Compare the rows of `window` with `reference`.

    `rng` serves the permutation tests; seed it from what is recorded (say `window.last_sequence`) and
    the report can be made again. Raises DriftError when the model has no drift features, the window has
    no rows or its vectors are not the reference's.
    """
    _check_window(window, reference)
    distinct = distinct_rows(window.vectors)
    live = live_profile(reference, _effective_rows(window.vectors, distinct, reference))
    made = list(compare(reference, live, permutations=thresholds.permutations, rng=rng))
    findings = _findings(made, thresholds)
    return DriftReport(
        model=window.model,
        version=window.version,
        verdict=overall_verdict(
            findings, rows=min(live.rows, reference.rows), rows_min=thresholds.rows_min
        ),
        first_sequence=window.first_sequence,
        last_sequence=window.last_sequence,
        first_time=timestamp(window.first_wall_ns),
        last_time=timestamp(window.last_wall_ns),
        rows=len(window.vectors),
        copies=len(window.vectors) - len(distinct),
        effective_rows=live.rows,
        reference_rows=reference.rows,
        e=_mean_evidence(made),
        thresholds=thresholds,
        findings=findings,
        values=tuple(
            value_shares(reference.layout, *pair)
            for pair in zip(reference.bins, live.bins, strict=True)
        ),
    )


def _check_window(window: Window, reference: Profile) -> None:
    width = len(reference.bins)
    if not width:
        raise DriftError(
            f"{window.model} version {window.version} has no drift features: "
            "its inputs and outputs are neither images nor numbers of fixed length",
            remedy="watch its traffic and latency instead",
        )
    if window.vectors.shape[1:] != (width,) or not len(window.vectors):
        raise DriftError(
            f"the window holds vectors {window.vectors.shape}, the reference profile needs "
            f"at least one row of {width} values",
            remedy="check rows of the version whose profile this is",
        )


def _mean_evidence(made: list[Comparison]) -> float:
    """The mean e-value of what could have differed; 1, no evidence either way, when nothing could."""
    values = [distance.e_value(each.p) for each in made if each.varies]
    return sum(values) / len(values) if values else 1.0


def _effective_rows(vectors: Floats, distinct: NDArray[np.intp], reference: Profile) -> Floats:
    """The rows without exact copies: bursts of one frame would pass for many (drift by repetition).

    When the reference itself repeats rows, as tables of a few categories do, copies are kept.
    """
    if reference.copies > COPIES_SHARE_MAX * reference.rows:
        return vectors
    return vectors[distinct]


def _findings(made: list[Comparison], thresholds: Thresholds) -> tuple[Finding, ...]:
    """Verdicts, alpha shared out among the kinds and then the comparisons that could differ.

    Which could is known from both samples together, not from how they differ, so the levels hold.
    """
    kinds = list(FindingKind)
    sizes = [sum(1 for each in made if each.varies and each.kind is kind) for kind in kinds]
    levels = dict(zip(kinds, distance.bonferroni(thresholds.alpha, sizes), strict=True))
    return tuple(
        Finding(
            feature=each.feature,
            kind=each.kind,
            statistic=each.statistic,
            p=each.p,
            level=levels[each.kind],
            e=distance.e_value(each.p),
            effect=each.effect,
            effect_min=thresholds.effect_min,
            n=each.live_rows,
            verdict=finding_verdict(
                p=each.p,
                level=levels[each.kind],
                effect=each.effect,
                effect_min=thresholds.effect_min,
                rows=min(each.live_rows, each.reference_rows),
                rows_min=thresholds.rows_min,
            ),
        )
        for each in made
    )
