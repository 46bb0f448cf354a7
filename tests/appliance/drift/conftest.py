"""Simulated vectors: correlated columns, skewed and rounded ones, and class scores."""

from collections.abc import Callable

import numpy as np
import pytest

from appliance.drift.window import Window
from appliance.layout import Floats, ScoreValues, TableValues, VectorLayout
from appliance.profiles import Profile, profile_from_vectors

COLUMNS = ("heat", "skewed", "rounded", "clipped", "flag", "load", "still")
CLASSES = 3


@pytest.fixture(scope="session")
def layout() -> VectorLayout:
    """Seven columns, confidence, entropy, class and three probabilities; "still" never varies."""
    table = TableValues(input="x", columns=COLUMNS)
    scores = ScoreValues(output="y", logits=True, classes=CLASSES, labels=("low", "mid", "high"))
    return VectorLayout(batch_axis=True, parts=(table, scores))


Draw = Callable[..., Floats]


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draw rows without drift; `shift` moves heat by so many standard deviations."""

    def rows(rng: np.random.Generator, count: int, *, shift: float = 0.0) -> Floats:
        common, own = rng.normal(size=(count, 1)), rng.normal(size=(count, 6))
        x = np.sqrt(0.5) * (common + own)
        x[:, 0] += shift
        x[:, 1] = np.exp(x[:, 1])
        x[:, 2] = np.round(2 * x[:, 2])
        x[:, 3] = np.maximum(x[:, 3], 0.0)
        x[:, 4] = x[:, 4] > 1
        scores = np.exp(rng.normal(size=(count, CLASSES)) + x[:, :1] * [0.0, 0.5, 1.0])
        p = scores / scores.sum(axis=1, keepdims=True)
        entropy = -(p * np.log(p)).sum(axis=1)
        still = np.full(count, 0.25)
        columns = [x, still, p.max(axis=1), entropy, p.argmax(axis=1), p]
        return np.column_stack(columns).astype(np.float32)

    return rows


@pytest.fixture(scope="session")
def reference(layout: VectorLayout, draw: Draw) -> Profile:
    """A profile of 600 rows."""
    return profile_from_vectors(layout, draw(np.random.default_rng(1), 600))


@pytest.fixture(scope="session")
def window() -> Callable[[Floats], Window]:
    """Put vectors into a window of digits version 3."""

    def of(vectors: Floats) -> Window:
        return Window(
            model="digits",
            version=3,
            vectors=vectors,
            first_sequence=10,
            last_sequence=10 + len(vectors),
            first_wall_ns=1_700_000_000_000_000_000,
            last_wall_ns=1_700_000_060_000_000_000,
        )

    return of
