"""How often the whole check is wrong, by simulation with a fixed seed.

The bound on false alarms is alpha and two standard errors of the simulation itself: 0.05 + 2 sqrt(0.05
0.95 / repeats), that is 0.072 at 400 repeats, 0.081 at 200 and 0.094 at 100.
"""

from collections.abc import Callable

import numpy as np
import pytest

from appliance.drift.check import check
from appliance.drift.report import Thresholds, Verdict
from appliance.drift.window import Window
from appliance.layout import Floats, VectorLayout
from appliance.profiles import profile_from_vectors

REFERENCE_ROWS = 400
Draw = Callable[..., Floats]
# The p-value alone decides here, which is the harder test; 199 draws reach down to p = 0.005.
SETTINGS = Thresholds(permutations=199, effect_min=0.0)


def alarms(
    layout: VectorLayout,
    live: Callable[[np.random.Generator], Floats],
    draw: Draw,
    window: Callable[[Floats], Window],
    repeats: int,
) -> float:
    """The share of repeats, each with a fresh reference, in which the check says drift."""
    found = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        reference = profile_from_vectors(layout, draw(rng, REFERENCE_ROWS))
        report = check(window(live(rng)), reference, thresholds=SETTINGS, rng=rng)
        found += report.verdict is Verdict.DRIFT
    return found / repeats


@pytest.mark.parametrize(("rows", "repeats"), [(50, 400), (100, 200), (500, 100)])
def test_false_alarms_stay_within_alpha(
    layout: VectorLayout,
    draw: Draw,
    window: Callable[[Floats], Window],
    rows: int,
    repeats: int,
) -> None:
    bound = 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5
    assert alarms(layout, lambda rng: draw(rng, rows), draw, window, repeats) <= bound


def test_bursts_of_ten_copies_do_not_raise_them(
    layout: VectorLayout, draw: Draw, window: Callable[[Floats], Window]
) -> None:
    found = alarms(layout, lambda rng: np.repeat(draw(rng, 50), 10, axis=0), draw, window, 100)
    assert found <= 0.094


def test_a_clear_shift_is_nearly_always_found(
    layout: VectorLayout, draw: Draw, window: Callable[[Floats], Window]
) -> None:
    """0.8 standard deviations in one value of thirteen, 100 rows."""
    assert alarms(layout, lambda rng: draw(rng, 100, shift=0.8), draw, window, 50) >= 0.95
