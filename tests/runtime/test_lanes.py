"""Several lanes of a stored version."""

import numpy as np
import pytest

from appliance.errors import EngineError
from appliance.store import Store
from runtime.lanes import load_lanes
from runtime.servable import Servable


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_lane_gives_the_same_answers(state, held_out, lanes):
    stored = Store(state / "store").open("digits", 2)
    loaded = load_lanes(stored, threads=1, lanes=lanes, sizes=(3,))
    assert len(loaded) == lanes
    answers = [each.run([{"image": held_out["image"][:8]}])[0].outputs["logits"] for each in loaded]
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-5)
    for each in loaded:
        each.close()


def test_nothing_stays_loaded_when_a_lane_is_not_to_be_had(state, monkeypatch):
    closed = []

    def no_lane(self):
        raise EngineError("no further lane", remedy="none")

    monkeypatch.setattr(Servable, "lane", no_lane)
    monkeypatch.setattr(Servable, "close", lambda self: closed.append(self))  # noqa: PLW0108 - a method
    with pytest.raises(EngineError, match="no further lane"):
        load_lanes(Store(state / "store").open("digits", 2), threads=1, lanes=2, sizes=())
    assert len(closed) == 1
