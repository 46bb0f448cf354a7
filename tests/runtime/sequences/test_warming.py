"""A version that is about to serve is run with the steps of sequences that were kept, in their order."""

import shutil
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from appliance import journal
from appliance.config import Config, PayloadsConfig, StateConfig
from runtime import replaying
from runtime.replaying import Replaying, warm_with_payloads
from tests.runtime.sequences.accumulator import activate, value_of

MODEL = "simple_sequence"


class Watched:
    """A servable, and the total that each request of it went on from."""

    def __init__(self, servable):
        self._servable, self.interface, self.totals = servable, servable.interface, []

    def run(self, requests):
        (inputs,) = requests
        total = inputs.get("TOTAL")
        self.totals.append(None if total is None else int(total.flat[0]))
        return self._servable.run(requests)


@pytest.fixture
def kept(start_runtime, sequence_state, tmp_path, monkeypatch):
    """The state directory of a box that kept the steps of two sequences, side by side; warming may take long."""
    monkeypatch.setattr(replaying, "WARM_SECONDS_MAX", 3600.0)
    state = Path(shutil.copytree(sequence_state, tmp_path / "state"))
    running = start_runtime(state, '[payloads]\nkeep = "all"\n')
    activate(running.socket, 1)
    with triton.InferenceServerClient(running.address) as client:
        for value, start, end in ((5, True, False), (7, False, False), (2, False, True)):
            for sequence in (1, 2):
                client.infer(
                    MODEL,
                    [value_of(value * sequence)],
                    sequence_id=sequence,
                    sequence_start=start,
                    sequence_end=end,
                )
    assert running.stop() == 0
    return state


def test_each_step_gets_what_the_one_before_left(kept, monkeypatch):
    told = []
    monkeypatch.setattr(journal, "event", lambda name, **fields: told.append((name, fields)))
    config = Config(state=StateConfig(directory=str(kept)), payloads=PayloadsConfig(keep="all"))
    with Replaying.load(config, MODEL, 2) as version:
        watched = Watched(version._servable)
        warm_with_payloads([watched, watched], version.stored, config)
    assert watched.totals == [None, None, 5, 10, 12, 24] * 2
    assert told == [
        ("version.replayed", {"model": MODEL, "version": 2, "payloads": 6, "failed": 0})
    ]


def test_a_step_whose_sequence_was_not_kept_begins_one(kept, monkeypatch):
    monkeypatch.setattr(journal, "event", lambda *_, **__: None)
    config = Config(
        state=StateConfig(directory=str(kept)),
        payloads=PayloadsConfig(keep="all", warm_requests=3),
    )
    with Replaying.load(config, MODEL, 2) as version:
        watched = Watched(version._servable)
        warm_with_payloads([watched], version.stored, config)
    assert watched.totals == [None, None, None]
