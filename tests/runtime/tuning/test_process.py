"""The process that measures: a real version in a real child; its figures are not judged here."""

import json
import os
import shutil
import signal

import pytest

from appliance.config import Config, StateConfig
from appliance.deployment import Tuning
from appliance.errors import EngineLoad
from runtime.tuning import Arrivals, Measuring, Order

SETTING = Tuning(rows_max=4, delay_us_max=0, lanes=1, threads=1)
ARRIVALS = Arrivals(at_ns=tuple(range(0, 60_000, 1000)), rows=(1, 2, 3) * 20)


def order(state, version=1):
    config = Config(state=StateConfig(directory=str(state)))
    return Order(config=config, model="digits", version=version, goal_ns=1 << 60)


def test_a_version_is_measured_under_several_settings(digits_state):
    reached = []
    with Measuring(order(digits_state)) as measuring:
        assert measuring.ready.batch_max > 1
        assert measuring.ready.present.lanes == Config().engine.lanes
        one = measuring.measure(SETTING, ARRIVALS, 60, reached.append)
        two = measuring.measure(
            Tuning(rows_max=8, delay_us_max=100, lanes=2, threads=1), ARRIVALS, 60
        )
    for found in (one, two):
        assert (found.requests, found.late, found.trouble) == (60, 0, "")
    assert reached == [50]


def test_one_that_dies_is_the_trials_trouble_and_the_next_gets_another(digits_state):
    with Measuring(order(digits_state)) as measuring:
        os.kill(measuring._child.pid, signal.SIGKILL)
        assert "has ended" in measuring.measure(SETTING, ARRIVALS, 60).trouble
        assert measuring.measure(SETTING, ARRIVALS, 60).requests == 60
        child = measuring._child
    assert child.poll() is not None


def test_a_version_that_is_not_there_cannot_be_measured(digits_state):
    with pytest.raises(EngineLoad, match="version"), Measuring(order(digits_state, version=9)):
        pass


def test_an_engine_that_does_not_load_is_trouble_in_its_own_words(digits_state, tmp_path):
    state = tmp_path / "state"
    shutil.copytree(digits_state, state)
    path = state / "store" / "digits" / "1" / "version.json"
    record = json.loads(path.read_text())
    record["engine"]["stamp"], record["fallback"] = {"library": "none 0.0"}, None
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    with pytest.raises(EngineLoad, match="does not fit this box"), Measuring(order(state)):
        pass
