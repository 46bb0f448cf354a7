"""Boxes that serve the accumulator."""

import shutil
from pathlib import Path

import pytest

from appliance.signing import SigningKey
from tests.conftest import runtimes
from tests.runtime.sequences.accumulator import activate, built


@pytest.fixture(scope="session")
def sequence_state(tmp_path_factory) -> Path:
    """A state directory with two versions of simple_sequence; copy it, never use it."""
    root, key = tmp_path_factory.mktemp("sequences"), SigningKey.generate()
    key.public.save(root / "state" / "trust" / "engineer.pub")
    for number in (1, 2):
        built(root, number, key)
    return root / "state"


@pytest.fixture(scope="module")
def sequenced(sequence_state, tmp_path_factory):
    """One runtime for a whole module, with version 1 of simple_sequence active."""
    directory = tmp_path_factory.mktemp("runtime")
    state = Path(shutil.copytree(sequence_state, directory / "state"))
    with runtimes(directory) as start:
        running = start(state)
        activate(running.socket, 1)
        yield running
        assert running.stop() == 0
