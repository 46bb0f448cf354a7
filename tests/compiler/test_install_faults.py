"""Whatever a build meets in whichever state, the store holds the old versions or the new one, and goes on.

The matrix is run by `install_faults` as real processes; here each of its cases is held against the promise.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
POINTS = ("received", "verified", "building", "compiled", "proven", "published", "filed")
FAULTS = ("killed", "failing", "hanging")
ENDED = {"filed", "refused", "failed", "interrupted"}


class Cases:
    """Every case's outcome by its name, each waited for when it is asked for.

    All together take minutes on a busy machine, more than one test has.
    """

    def __init__(self, process, said):
        self._process, self._said, self._told = process, said, {}

    def __getitem__(self, name):
        while name not in self._told:
            line = self._process.stdout.readline()
            assert line, self._said.read_text()
            case = json.loads(line)
            self._told[case["point"], case.get("fault")] = case
        return self._told[name]


@pytest.fixture(scope="module")
def cases(tmp_path_factory, make_workshop):
    """The matrix under way."""
    directory = tmp_path_factory.mktemp("faults")
    workshop = make_workshop(directory)
    workshop.pack()
    workshop.build()
    workshop.change('"the first"', '"the second"')
    workshop.pack()
    arguments = [workshop.config.state.root, workshop.bundle, directory / "cases"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    said = directory / "said"
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, HERE / "install_faults.py", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        yield Cases(process, said)
        # With its own children, where not every case was asked for; it was not waited for yet.
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("point", POINTS)
def test_a_fault_in_any_state_leaves_the_old_or_the_new(cases, point, fault):
    case = cases[point, fault]
    appeared = point in ("published", "filed")
    assert case["first"] == ("state.unusable" if fault == "failing" else "SIGKILL")
    assert case["between"]["versions"] == ([1, 2] if appeared else [1])
    assert case["second"] == "version 2"
    assert case["after"]["versions"] == [1, 2]
    assert case["after"]["staged"] == 0
    assert {state for state, _, _ in case["after"]["installs"]} <= ENDED
    assert sorted(
        version for state, _, version in case["after"]["installs"] if state == "filed"
    ) == [1, 2]


@pytest.mark.parametrize("point", POINTS)
def test_the_history_tells_how_far_a_killed_try_came(cases, point):
    installs = cases[point, "killed"]["after"]["installs"]
    cut = [at for state, at, _ in installs if state == "interrupted"]
    came = {
        "verified": "verified",
        "building": "building",
        "compiled": "building",
        "proven": "proven",
    }
    assert cut == ([came[point]] if point in came else [])


def test_a_bundle_that_kills_every_build_is_not_tried_for_ever(cases):
    case = cases["kill loop", None]
    assert case["rounds"] == ["SIGKILL"] * 3 + ["build.marked"]
    assert case["between"]["versions"] == [1]
    assert case["second"] == "version 2"


def test_a_disk_that_takes_nothing_changes_nothing(cases):
    case = cases["no room", None]
    assert case["first"] == "state.unusable"
    assert case["between"]["versions"] == [1]
    assert case["between"]["installs"] == [["filed", None, 1]]
    assert case["second"] == "version 2"
