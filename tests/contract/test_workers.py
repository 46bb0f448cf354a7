"""A worker process that dies or does not end costs its task and nothing more."""

import os
import signal

from workers import DIED, HUNG, Ended, each_result


def ends(task: tuple[str]) -> str:
    """A task that answers, dies, exits or never ends."""
    match task[0]:
        case "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exits":
            os._exit(3)
        case "stays":
            signal.pause()
    return task[0]


def test_a_worker_that_dies_costs_one_task() -> None:
    tasks = [("dies",), ("a",), ("exits",), ("b",)]
    found = dict(each_result(ends, tasks, workers=1, seconds_max=60.0))
    assert found == {
        ("dies",): Ended(DIED, "SIGSEGV"),
        ("a",): "a",
        ("exits",): Ended(DIED, "exit code 3"),
        ("b",): "b",
    }


def test_a_worker_that_stays_is_killed_at_its_time() -> None:
    found = dict(each_result(ends, [("stays",)], workers=2, seconds_max=1.0))
    assert found == {("stays",): Ended(HUNG, "killed at the time limit")}
