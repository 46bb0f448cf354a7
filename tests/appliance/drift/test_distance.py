"""The statistics against scipy.stats, against counting by hand, and against simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from appliance.drift import distance
from appliance.drift.distance import Counts


def in_bins(reference: np.ndarray, live: np.ndarray) -> tuple[np.ndarray, Counts, Counts]:
    """Bins that hold one value each: the values, and both samples' counts of them."""
    values = np.unique(np.concatenate([reference, live]))
    counts = [
        np.bincount(np.searchsorted(values, sample), minlength=len(values))
        for sample in (reference, live)
    ]
    return values, counts[0], counts[1]


def counts(*values: int) -> Counts:
    return np.asarray(values, dtype=np.int64)


NOTHING = counts(0, 0, 0)


def ks_p(reference: Counts, live: Counts) -> float:
    """The p-value of one pair."""
    return distance.ks_ps([(reference, live)])[0]


class TestKolmogorovSmirnov:
    @pytest.mark.parametrize(("m", "n"), [(40, 13), (13, 40), (200, 50), (90, 90)])
    @pytest.mark.parametrize("shift", [0.0, 0.4, 2.0])
    def test_without_ties_it_is_scipys_exact_test(self, m: int, n: int, shift: float) -> None:
        rng = np.random.default_rng(m + n)
        a, b = rng.normal(size=m), rng.normal(shift, size=n)
        _, reference, live = in_bins(a, b)
        wanted = stats.ks_2samp(a, b, method="exact")
        assert distance.ks_statistic(reference, live) == pytest.approx(wanted.statistic)
        assert ks_p(reference, live) == pytest.approx(wanted.pvalue, rel=1e-9)

    @pytest.mark.parametrize(
        ("reference", "live"),
        [((3, 2, 1), (0, 2, 3)), ((4, 0, 2), (1, 1, 1)), ((1, 5), (3, 1)), ((2, 2, 2), (2, 2, 2))],
    )
    def test_with_ties_it_is_every_way_of_dealing_the_rows(
        self, reference: tuple[int, ...], live: tuple[int, ...]
    ) -> None:
        seen = distance.ks_statistic(counts(*reference), counts(*live))
        pooled = np.repeat(np.arange(len(live)), np.add(reference, live))
        reached = [
            distance.ks_statistic(np.bincount(pooled, minlength=len(live)) - dealt, dealt)
            >= seen - 1e-12
            for chosen in itertools.combinations(range(len(pooled)), sum(live))
            for dealt in [np.bincount(pooled[list(chosen)], minlength=len(live))]
        ]
        assert ks_p(counts(*reference), counts(*live)) == pytest.approx(np.mean(reached))

    def test_large_samples_use_the_asymptotic_distribution(self) -> None:
        rng = np.random.default_rng(5)
        a, b = rng.normal(size=3000), rng.normal(0.03, size=4000)
        _, reference, live = in_bins(a, b)
        exact = stats.ks_2samp(a, b, method="exact").pvalue
        assert ks_p(reference, live) == pytest.approx(exact, rel=0.05)

    def test_a_tiny_p_value_stays_above_zero(self) -> None:
        million = 1_000_000
        assert ks_p(counts(million, 0), counts(0, million)) == distance.P_MIN

    @pytest.mark.parametrize(
        ("reference", "live"),
        [(counts(9, 0), counts(7, 0)), (counts(0, 0), counts(3, 4)), (counts(3, 4), counts(0, 0))],
        ids=["one bin", "no reference", "no live rows"],
    )
    def test_nothing_to_compare_is_no_evidence(self, reference: Counts, live: Counts) -> None:
        assert ks_p(reference, live) == 1.0
        assert distance.ks_statistic(reference, live) == 0.0

    def test_several_pairs_give_what_each_gives_alone(self) -> None:
        rng = np.random.default_rng(8)
        pairs = [(rng.multinomial(60, [0.2] * 5), rng.multinomial(20, [0.2] * 5)) for _ in range(6)]
        pairs.append((counts(9, 9, 0, 0, 0), counts(0, 5, 0, 0, 0)))
        assert distance.ks_ps(pairs) == [ks_p(*pair) for pair in pairs]

    @given(st.data())
    def test_it_does_not_matter_which_sample_is_live(self, data: st.DataObject) -> None:
        some = st.lists(st.integers(0, 6), min_size=4, max_size=4).map(lambda c: counts(*c))
        a, b = data.draw(some), data.draw(some)
        assert distance.ks_statistic(a, b) == distance.ks_statistic(b, a)
        assert ks_p(a, b) == pytest.approx(ks_p(b, a))
        assert 0.0 < ks_p(a, b) <= 1.0


class TestWasserstein:
    def test_far_apart_it_is_scipys_distance(self) -> None:
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=20_000), rng.normal(1.5, 1.2, size=20_000)
        edges = np.linspace(-6, 9, 300)
        sample = [np.bincount(np.searchsorted(edges, s), minlength=301) for s in (a, b)]
        found = distance.wasserstein(edges, sample[0], sample[1], 0.0)
        assert found == pytest.approx(stats.wasserstein_distance(a, b), rel=0.01)

    def test_a_step_is_exact_when_an_edge_stands_just_below_it(self) -> None:
        """A 0/1 value, 20 % ones against 60 %: the distance is 0.4."""
        edges = np.asarray([0.0 - 1e-9, 0.0, 1.0 - 1e-9, 1.0])
        many = 10_000_000
        reference, live = counts(0, 8 * many, 0, 2 * many, 0), counts(0, 4 * many, 0, 6 * many, 0)
        assert distance.wasserstein(edges, reference, live, 0.0) == pytest.approx(0.4, rel=1e-3)

    def test_lines_that_cross_within_a_bin_count_on_both_sides(self) -> None:
        """The gap goes from 1/2 to -1/2, so its mean size is 1/4, not 0."""
        edges, many = np.asarray([0.0, 1.0]), 10**12
        reference, live = counts(many, 0, many), counts(0, 2 * many, 0)
        assert distance.wasserstein(edges, reference, live, 0.0) == pytest.approx(0.25, rel=1e-3)

    def test_what_lies_beyond_the_edges_is_added(self) -> None:
        edges, many = np.asarray([0.0]), 10**9
        found = distance.wasserstein(edges, counts(many, many), counts(many, many), 7.0)
        assert found == pytest.approx(7.0)

    @pytest.mark.parametrize("n", [30, 100, 1000])
    def test_chance_alone_is_taken_off(self, n: int) -> None:
        """Without drift the mean effect is under half of what is seen uncorrected."""
        rng = np.random.default_rng(n)
        edges = np.linspace(-4, 4, 100)
        raw, corrected = [], []
        for _ in range(50):
            a, b = rng.normal(size=500), rng.normal(size=n)
            sample = [np.bincount(np.searchsorted(edges, s), minlength=101) for s in (a, b)]
            raw.append(stats.wasserstein_distance(a, b))
            corrected.append(distance.wasserstein(edges, sample[0], sample[1], 0.0))
        assert np.mean(corrected) < np.mean(raw) / 2

    def test_no_rows_no_distance(self) -> None:
        edges = np.asarray([0.0, 1.0])
        assert distance.wasserstein(edges, NOTHING, counts(1, 2, 3), 0.0) == 0.0
        assert distance.wasserstein(edges, counts(1, 2, 3), NOTHING, 0.0) == 0.0


class TestCategories:
    def test_pearson_is_the_larger_when_a_category_is_new(self) -> None:
        reference, live = counts(300, 300, 0), counts(20, 20, 10)
        table = np.stack([reference, live])
        assert distance.chi_square(reference, live) == pytest.approx(
            stats.chi2_contingency(table, correction=False).statistic
        )

    def test_the_likelihood_ratio_is_the_larger_when_one_vanished(self) -> None:
        reference, live = counts(200, 200, 200), counts(50, 50, 0)
        wanted = stats.chi2_contingency(
            np.stack([reference, live]), correction=False, lambda_="log-likelihood"
        )
        assert distance.chi_square(reference, live) == pytest.approx(wanted.statistic)

    @pytest.mark.parametrize(
        ("reference", "live"), [((60, 40, 20), (25, 30, 15)), ((90, 5, 0), (20, 1, 4))]
    )
    def test_permutation_p_agrees_with_every_table(
        self, reference: tuple[int, ...], live: tuple[int, ...]
    ) -> None:
        """The exact p-value: the chance of all tables with these margins that reach the statistic."""
        pooled, n = np.add(reference, live), sum(live)
        tables = [
            np.asarray([a, b, n - a - b])
            for a in range(pooled[0] + 1)
            for b in range(pooled[1] + 1)
            if 0 <= n - a - b <= pooled[2]
        ]
        chances = stats.multivariate_hypergeom(pooled, n).pmf(np.stack(tables))
        seen = distance.chi_square(counts(*reference), counts(*live))
        reached = [distance.chi_square(pooled - t, t) >= seen * (1 - 1e-9) for t in tables]
        found = distance.chi_square_p(
            counts(*reference), counts(*live), permutations=20_000, rng=np.random.default_rng(2)
        )
        assert found == pytest.approx(float(chances[reached].sum()), rel=0.15)

    def test_the_least_p_value_is_one_in_all_draws(self) -> None:
        rng = np.random.default_rng(0)
        found = distance.chi_square_p(counts(99, 0), counts(0, 99), permutations=199, rng=rng)
        assert found == 1 / 200

    def test_many_categories_are_drawn_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reference, live = counts(*[3] * 40), counts(*[2] * 40)
        whole = distance.chi_square_p(
            reference, live, permutations=500, rng=np.random.default_rng(4)
        )
        monkeypatch.setattr(distance, "DRAWN_CELLS_MAX", 1000)
        parts = distance.chi_square_p(
            reference, live, permutations=500, rng=np.random.default_rng(4)
        )
        assert parts == pytest.approx(whole, abs=0.05)

    @pytest.mark.parametrize(
        ("reference", "live"),
        [
            (NOTHING, counts(1, 2, 3)),
            (counts(1, 2, 3), NOTHING),
            (counts(0, 9, 0), counts(0, 4, 0)),
        ],
        ids=["no reference", "no live rows", "one category"],
    )
    def test_nothing_to_compare_is_no_evidence(self, reference: Counts, live: Counts) -> None:
        rng = np.random.default_rng(0)
        assert distance.chi_square(reference, live) == 0.0
        assert distance.chi_square_p(reference, live, permutations=99, rng=rng) == 1.0
        assert distance.cohens_w(reference, live) == 0.0

    def test_of_two_categories_w_is_the_shift_in_standard_deviations(self) -> None:
        """60 % against 50 % ones: 0.1 / sqrt(0.55 * 0.45)."""
        many = 10**9
        found = distance.cohens_w(counts(5 * many, 5 * many), counts(4 * many, 6 * many))
        assert found == pytest.approx(0.1 / math.sqrt(0.55 * 0.45))

    def test_chance_alone_is_taken_off(self) -> None:
        """The expectation of w squared is 0 without drift, so in half the draws w is 0."""
        rng = np.random.default_rng(6)
        found = [
            distance.cohens_w(rng.multinomial(400, [0.1] * 10), rng.multinomial(60, [0.1] * 10))
            for _ in range(200)
        ]
        assert 0.4 < np.mean([w == 0.0 for w in found]) < 0.7


class TestShares:
    @pytest.mark.parametrize(
        ("reference", "live"),
        [((0, 400), (5, 45)), ((3, 397), (0, 50)), ((9, 11), (9, 11)), ((20, 0), (0, 20))],
    )
    def test_twice_the_smaller_tail(
        self, reference: tuple[int, int], live: tuple[int, int]
    ) -> None:
        total, n = sum(reference) + sum(live), sum(live)
        dealt = stats.hypergeom(total, reference[0] + live[0], n)
        tail = min(dealt.cdf(live[0]), dealt.sf(live[0] - 1))
        assert distance.share_p(reference, live) == pytest.approx(min(1.0, 2 * tail))

    def test_large_counts_do_not_overflow(self) -> None:
        assert distance.share_p((0, 10**6), (10**5, 10**6)) == distance.P_MIN


class TestEvidence:
    @pytest.mark.parametrize("p", [1e-12, 1e-3, 0.05, 0.4, 0.9, 0.9999])
    def test_the_e_value_is_the_integral(self, p: float) -> None:
        wanted, _ = integrate.quad(lambda kappa: kappa * p ** (kappa - 1), 0, 1)
        assert distance.e_value(p) == pytest.approx(wanted, rel=1e-6)

    def test_without_drift_it_is_expected_to_be_one(self) -> None:
        """Over p uniform in (0, 1), written as p = exp(-s)."""
        wanted, _ = integrate.quad(lambda s: distance.e_value(math.exp(-s)) * math.exp(-s), 0, 600)
        assert wanted == pytest.approx(1.0, abs=0.01)

    def test_it_is_finite_at_both_ends(self) -> None:
        assert distance.e_value(1.0) == 0.5
        assert math.isfinite(distance.e_value(distance.P_MIN))


def test_families_share_alpha_and_their_tests_share_theirs() -> None:
    levels = distance.bonferroni(0.06, [3, 1, 0])
    assert levels == pytest.approx([0.01, 0.03, 0.0])
    assert distance.bonferroni(0.06, [0, 0]) == [0.0, 0.0]
