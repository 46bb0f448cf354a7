"""Coarse bins for drawing: few, complete, and with the open ends kept apart."""

import numpy as np
import pytest

from appliance.bins import fit_categorical, fit_continuous
from appliance.drift.shares import INNER_BINS_MAX, LABELS_MAX, value_shares
from appliance.layout import Floats, ScoreValues, VectorLayout

LABELS = tuple(f"class {number}" for number in range(40))
LAYOUT = VectorLayout(
    batch_axis=True,
    parts=(ScoreValues(output="y", logits=True, classes=40, labels=LABELS),),
)
NAN = float("nan")


def column(*values: float) -> Floats:
    return np.asarray(values, np.float32)


def test_a_continuous_value_has_few_bins_of_about_equal_reference_share() -> None:
    sample = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    bins = fit_continuous("heat", sample, 256)
    shares = value_shares(LAYOUT, bins.counted(sample), bins.counted(sample + 9))
    assert len(shares.reference) == len(shares.live) == len(shares.edges) + 1
    assert len(shares.edges) == INNER_BINS_MAX + 1
    assert shares.reference[0] == shares.reference[-1] == 0.0
    assert max(shares.reference) < 2 / INNER_BINS_MAX
    assert shares.live[-1] == pytest.approx(1.0)
    assert shares.live_mean - shares.reference_mean == pytest.approx(9.0, abs=1e-5)
    assert shares.live_std == pytest.approx(shares.reference_std, rel=1e-5)


def test_bins_and_missing_add_up_to_one() -> None:
    bins = fit_continuous("heat", column(1, 2, 2, 3), 8)
    shares = value_shares(LAYOUT, bins.counted(column(1, 2, 2, 3)), bins.counted(column(2, NAN)))
    assert sum(shares.reference) + shares.reference_missing == pytest.approx(1.0)
    assert sum(shares.live) + shares.live_missing == pytest.approx(1.0)
    assert shares.live_missing == 0.5


def test_a_value_that_was_always_missing_has_one_bin() -> None:
    bins = fit_continuous("heat", column(NAN, NAN), 8)
    shares = value_shares(LAYOUT, bins.counted(column(NAN, NAN)), bins.counted(column(1, NAN)))
    assert (shares.edges, shares.reference, shares.live) == ((), (0.0,), (0.5,))


def test_categories_are_drawn_by_label_and_unseen_ones_last() -> None:
    bins = fit_categorical("y.class", column(0, 0, 3))
    live = bins.counted(column(3, 3, 5, 0))
    shares = value_shares(LAYOUT, bins.counted(column(0, 0, 3)), live)
    assert shares.labels == ("class 0", "class 3", "unseen")
    assert shares.live == (0.25, 0.5, 0.25)


def test_of_many_categories_the_small_ones_are_joined() -> None:
    sample = np.concatenate([np.arange(40), np.arange(8, 40)]).astype(np.float32)
    bins = fit_categorical("y.class", sample).counted(sample)
    shares = value_shares(LAYOUT, bins, bins)
    assert len(shares.labels) == LABELS_MAX + 2
    assert shares.labels[-2:] == ("other", "unseen")
    assert shares.labels[0] == "class 8"
    assert shares.reference[-2] == pytest.approx(8 / 72)
    assert shares.reference[-1] == 0.0
    assert sum(shares.reference) == pytest.approx(1.0)
