"""Profiles: what is counted, that nothing is lost, and that they merge in any order."""

from itertools import pairwise
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.bins import (
    CATEGORIES_MAX,
    CategoricalBins,
    ContinuousBins,
    fit_categorical,
    fit_continuous,
)
from appliance.errors import DriftError
from appliance.layout import (
    GRID_CELLS,
    Floats,
    ImageValues,
    Kind,
    OutputValues,
    ScoreValues,
    TableValues,
    VectorLayout,
    floats,
)
from appliance.profiles import Profile, distinct_rows, live_profile, merge, profile_from_vectors
from appliance.tables import canonical_json, from_json

NAN, INF = float("nan"), float("inf")
TABLE = TableValues(input="x", columns=("a", "b"))
SCORES = ScoreValues(output="y", logits=True, classes=2, labels=("no", "yes"))
LAYOUT = VectorLayout(batch_axis=True, parts=(TABLE, SCORES))
WIDTH = len(LAYOUT.names)


def column(*values: float) -> Floats:
    return np.asarray(values, np.float32)


def sample(rows: int, seed: int = 0) -> Floats:
    """Vectors of LAYOUT: an atom at 0 in "b", some missing values, classes 0 and 1."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    vectors[:, 1] = np.maximum(vectors[:, 1], 0.0)
    vectors[:, 4] = rng.integers(0, 2, rows)
    vectors[rng.random(rows) < 0.05, 0] = NAN
    return vectors


REFERENCE = profile_from_vectors(LAYOUT, sample(300))
VECTORS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 12), st.just(WIDTH)),
    elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.5, 0.25, 1e30, NAN, INF, -INF, 1e-42]),
)


class TestLayout:
    def test_the_vector_is_its_parts_in_order(self) -> None:
        assert LAYOUT.names == (
            "x.a", "x.b", "y.confidence", "y.entropy", "y.class", "y.p(no)", "y.p(yes)",
        )  # fmt: skip
        assert LAYOUT.kinds.count(Kind.CATEGORICAL) == 1
        assert LAYOUT.kinds[4] is Kind.CATEGORICAL

    def test_an_image_has_a_score_a_component(self) -> None:
        image = ImageValues(
            input="i", order="CHW", mean=bytes(4 * GRID_CELLS), components=bytes(8 * GRID_CELLS)
        )
        names = [value.name for value in image.values()]
        assert names[-4:] == ["i.zeros", "i.pca_1", "i.pca_2", "i.residual"]
        assert image.component_rows().shape == (2, GRID_CELLS)

    def test_of_many_classes_the_first_probabilities_are_kept(self) -> None:
        scores = ScoreValues(output="y", logits=False, classes=1000)
        names = [value.name for value in scores.values()]
        assert names[-1] == "y.p(31)"

    def test_other_outputs_are_columns(self) -> None:
        values = OutputValues(output="boxes", columns=2).values()
        assert [value.name for value in values] == ["boxes[0]", "boxes[1]"]

    def test_a_category_is_called_by_its_label_where_it_has_one(self) -> None:
        assert LAYOUT.label("y.class", 1) == "yes"
        assert LAYOUT.label("y.class", 7) == "7"
        assert LAYOUT.label("x.a", 1) == "1"

    @pytest.mark.parametrize(
        "broken",
        [
            {"part": "image", "input": "i", "order": "CHW", "mean": "AAAA", "components": ""},
            {"part": "scores", "output": "y", "logits": True, "classes": 3, "labels": ["a"]},
            {"part": "table", "input": "x", "columns": ["a", "a"]},
            {"part": "table", "input": "x", "columns": []},
        ],
        ids=["short PCA", "labels", "names", "no columns"],
    )
    def test_a_layout_that_contradicts_itself_is_refused(self, broken: object) -> None:
        text = canonical_json({"batch_axis": True, "parts": [broken]})
        with pytest.raises(DriftError):
            from_json(text, VectorLayout, DriftError, where="layout")

    def test_so_are_too_many_components(self) -> None:
        cells = 4 * GRID_CELLS
        with pytest.raises(ValueError, match="more than 16"):
            ImageValues(input="i", order="HWC", mean=bytes(cells), components=bytes(17 * cells))


class TestContinuousBins:
    def test_the_references_own_values_leave_the_open_ends_empty(self) -> None:
        values = np.random.default_rng(1).normal(size=500).astype(np.float32)
        bins = fit_continuous("a", values, 100).counted(values)
        assert bins.counts[0] == bins.counts[-1] == 0
        assert len(bins.counts) == 102
        assert set(bins.counts[1:-1]) == {5}

    def test_a_bin_holds_its_upper_edge(self) -> None:
        bins = fit_continuous("a", column(1, 2, 3, 4), 4)
        assert bins.counted(column(1, 2, 3, 4)).counts == (0, 1, 1, 1, 1, 0)
        assert bins.counted(column(0.9, 1.1, 4.1)).counts == (1, 0, 1, 0, 0, 1)

    def test_an_atom_has_a_bin_of_its_own(self) -> None:
        bins = fit_continuous("a", column(0, 0, 0, 0, 1, 2, 3, 4), 8)
        found = bins.counted(column(-0.1, -0.0, 0.0, 1e-42, 0.1)).counts
        assert found[:3] == (1, 3, 1)

    def test_a_constant_has_one_bin_between_its_open_ends(self) -> None:
        bins = fit_continuous("a", column(5, 5, 5), 8)
        assert bins.counted(column(4.9, 5, 5, 5.1)).counts == (1, 2, 1)

    def test_distances_beyond_the_ends_are_summed(self) -> None:
        bins = fit_continuous("a", column(1, 2), 8).counted(column(-2, 1, 5, 12))
        assert bins.below == pytest.approx(3.0)
        assert bins.above == pytest.approx(13.0)

    def test_missing_values_are_counted_and_spoil_no_moment(self) -> None:
        bins = fit_continuous("a", column(1, 2, 3), 8).counted(column(NAN, 1, INF, 3, -INF))
        assert (bins.missing, bins.finite, bins.mean, bins.std) == (3, 2, 2.0, 1.0)

    def test_nothing_finite_leaves_one_bin(self) -> None:
        bins = fit_continuous("a", column(NAN, INF), 8)
        assert bins.counts == (0,)
        assert bins.counted(column(1, NAN)).counts == (1,)

    def test_edges_rise_and_are_finite_at_the_ends_of_float32(self) -> None:
        large = float(np.finfo(np.float32).max)
        edges = floats(fit_continuous("a", column(-large, 0.0, 1e-40, large), 8).edges)
        assert np.isfinite(edges).all()
        assert (edges[1:] > edges[:-1]).all()

    @given(st.lists(st.floats(width=32), max_size=60), st.integers(1, 40))
    def test_every_value_is_counted_once(self, values: list[float], count: int) -> None:
        bins = fit_continuous("a", column(*values), count).counted(column(*values))
        assert bins.finite + bins.missing == len(values)
        assert len(bins.counts) <= count + 3


class TestCategoricalBins:
    def test_what_the_reference_never_saw_is_unseen(self) -> None:
        bins = fit_categorical("class", column(2, 0, 2, NAN)).counted(column(2, 1, 9, INF, 0, 0))
        assert bins.categories == (0, 2)
        assert (bins.counts, bins.unseen, bins.missing) == ((2, 1), 2, 1)

    def test_only_the_most_frequent_categories_are_listed(self) -> None:
        values = np.arange(CATEGORIES_MAX + 5, dtype=np.float32)
        bins = fit_categorical("class", np.concatenate([values, values[5:]]))
        assert len(bins.categories) == CATEGORIES_MAX
        assert bins.categories[0] == 5


class TestProfile:
    def test_live_rows_are_counted_in_the_references_bins(self) -> None:
        live = live_profile(REFERENCE, sample(50, seed=9))
        assert live.rows == 50
        for mine, theirs in zip(live.bins, REFERENCE.bins, strict=True):
            assert mine.name == theirs.name
            assert mine.finite + mine.missing == 50

    def test_the_reference_counted_again_is_the_reference(self) -> None:
        again = live_profile(REFERENCE, sample(300))
        assert again.bins == REFERENCE.bins

    def test_it_survives_its_json(self) -> None:
        text = canonical_json(REFERENCE)
        assert from_json(text, Profile, DriftError, where="profile.json") == REFERENCE

    @pytest.mark.parametrize(
        ("rows", "columns", "bins"), [(20, 2, 8), (400, 2, 100), (5000, 2, 256), (5000, 60, 58)]
    )
    def test_how_fine_the_bins_are_follows_rows_and_values(
        self, rows: int, columns: int, bins: int
    ) -> None:
        names = tuple(f"c{index}" for index in range(columns))
        table = TableValues(input="x", columns=names)
        layout = VectorLayout(batch_axis=True, parts=(table, SCORES))
        vectors = np.random.default_rng(0).random((rows, columns + 5)).astype(np.float32)
        vectors[:, columns + 2] = 0.0
        profile = profile_from_vectors(layout, vectors)
        assert len(profile.bins[0].counts) == bins + 2

    def test_a_large_one_stays_under_64_kilobytes(self) -> None:
        """The widest vector there is, from 100,000 rows."""
        table = TableValues(input="x", columns=tuple(f"column_{index}" for index in range(64)))
        image = ImageValues(
            input="i", order="CHW", mean=bytes(4 * 64), components=bytes(16 * 4 * 64)
        )
        scores = ScoreValues(output="y", logits=True, classes=1000)
        others = OutputValues(output="z", columns=32)
        layout = VectorLayout(batch_axis=True, parts=(image, table, scores, others))
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(100_000, len(layout.names))).astype(np.float32)
        vectors[:, layout.names.index("y.class")] = rng.integers(0, 1000, len(vectors))
        assert len(canonical_json(profile_from_vectors(layout, vectors))) < 1 << 16

    def test_no_rows_make_no_reference(self) -> None:
        with pytest.raises(DriftError, match="needs rows"):
            profile_from_vectors(LAYOUT, np.empty((0, WIDTH), np.float32))

    @pytest.mark.parametrize(
        "change",
        [{"rows": 299}, {"bins": REFERENCE.bins[1:]}],
        ids=["counts do not add up", "a value is missing"],
    )
    def test_one_that_contradicts_itself_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="profile's"):
            msgspec.structs.replace(REFERENCE, **change)

    @pytest.mark.parametrize(
        ("edges", "counts"), [((1, 1), 3), ((2, 1), 3), ((1, NAN), 3), ((1, 2), 2)]
    )
    def test_so_are_bins_that_do(self, edges: tuple[float, ...], counts: int) -> None:
        with pytest.raises(ValueError, match="'a'"):
            ContinuousBins(name="a", edges=column(*edges).tobytes(), counts=(0,) * counts)

    @pytest.mark.parametrize(("categories", "counts"), [((1, 1), 2), ((2, 1), 2), ((1, 2), 1)])
    def test_and_categories_that_do(self, categories: tuple[int, ...], counts: int) -> None:
        with pytest.raises(ValueError, match="'a'"):
            CategoricalBins(name="a", categories=categories, counts=(0,) * counts)


def counts_of(profile: Profile) -> list[object]:
    """Everything that is exact in a profile."""
    return [
        (item.counts, item.missing, getattr(item, "unseen", None), profile.rows)
        for item in profile.bins
    ]


def assert_same(a: Profile, b: Profile) -> None:
    assert counts_of(a) == counts_of(b)
    for mine, theirs in zip(a.bins, b.bins, strict=True):
        if isinstance(mine, ContinuousBins):
            assert isinstance(theirs, ContinuousBins)
            # Sums in another order round differently, by the size of what is summed: a std of equal
            # rows at 1e30 is not exactly 0 in every order.
            rounding = 1e-6 * max(1.0, abs(theirs.mean))
            for field in ("mean", "std", "below", "above"):
                wanted = pytest.approx(getattr(theirs, field), rel=1e-6, abs=rounding)
                assert getattr(mine, field) == wanted


class TestMerge:
    @given(VECTORS, VECTORS, VECTORS)
    def test_it_is_associative_and_commutative(self, a: Floats, b: Floats, c: Floats) -> None:
        x, y, z = (live_profile(REFERENCE, vectors) for vectors in (a, b, c))
        assert_same(merge(merge(x, y), z), merge(x, merge(y, z)))
        assert merge(x, y) == merge(y, x)

    @given(VECTORS, st.lists(st.integers(0, 12), max_size=4), st.randoms())
    def test_any_split_in_any_order_gives_the_whole(
        self, vectors: Floats, cuts: list[int], random: Random
    ) -> None:
        places = [0, *sorted(min(cut, len(vectors)) for cut in cuts), len(vectors)]
        parts = [live_profile(REFERENCE, vectors[a:b]) for a, b in pairwise(places)]
        random.shuffle(parts)
        whole = parts[0]
        for part in parts[1:]:
            whole = merge(whole, part)
        assert_same(whole, live_profile(REFERENCE, vectors))

    def test_profiles_of_other_bins_do_not_merge(self) -> None:
        other = profile_from_vectors(LAYOUT, sample(300, seed=5))
        with pytest.raises(DriftError, match="different bins"):
            merge(REFERENCE, other)

    def test_nor_do_other_categories(self) -> None:
        layout = VectorLayout(batch_axis=True, parts=(SCORES,))
        rows = [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
        a, b = (profile_from_vectors(layout, column(*row)[np.newaxis]) for row in rows)
        with pytest.raises(DriftError, match=r"'y\.class' is counted in different bins"):
            merge(a, b)

    def test_nor_do_other_layouts(self) -> None:
        single = profile_from_vectors(
            VectorLayout(batch_axis=False, parts=LAYOUT.parts), sample(300)
        )
        with pytest.raises(DriftError, match="different layouts"):
            merge(REFERENCE, single)


class TestCopies:
    def test_the_first_of_equal_rows_is_kept(self) -> None:
        vectors = np.stack([column(1, 2), column(0, 3), column(1, 2), column(-0.0, 3)])
        assert distinct_rows(vectors).tolist() == [0, 1]

    def test_rows_with_missing_values_are_all_kept(self) -> None:
        vectors = np.stack([column(1, NAN), column(1, NAN), column(1, 2), column(1, 2)])
        assert distinct_rows(vectors).tolist() == [0, 1, 2]

    def test_rows_without_values_are_all_copies(self) -> None:
        assert distinct_rows(np.empty((3, 0), np.float32)).tolist() == []

    def test_the_reference_knows_its_own_copies(self) -> None:
        vectors = sample(40)
        vectors[0] = vectors[1] = column(*range(WIDTH))
        assert profile_from_vectors(LAYOUT, vectors).copies == 1
        assert live_profile(REFERENCE, vectors).copies == 0
