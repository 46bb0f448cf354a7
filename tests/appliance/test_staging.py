"""Directories to prepare in, and the lock that lets one build at a time."""

import os
import threading
from pathlib import Path

import pytest

from appliance.errors import BuildBusy, StateError
from appliance.staging import one_at_a_time, staging


def test_what_is_staged_is_gone_afterwards(tmp_path):
    with staging(tmp_path / "work") as directory:
        (directory / "half").write_bytes(b"x")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["lock"]


def test_looking_at_what_another_holds_keeps_no_handle_of_it(tmp_path):
    with staging(tmp_path) as held:
        with staging(tmp_path):
            pass
        handles = [os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir()]
    assert handles.count(os.path.realpath(held)) == 1


def test_one_holds_and_the_next_is_told_and_waits(tmp_path):
    path, told, held = tmp_path / "build.lock", threading.Event(), threading.Event()
    order = []

    def second():
        with one_at_a_time(path, wait_seconds_max=60, waiting=told.set):
            order.append("second")

    with one_at_a_time(path, wait_seconds_max=60, waiting=held.set):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert not held.is_set()


def test_it_waits_no_longer_than_its_bound(tmp_path):
    path, told = tmp_path / "build.lock", []
    with one_at_a_time(path, wait_seconds_max=60, waiting=lambda: None):
        with pytest.raises(BuildBusy, match=r"0\.01 seconds") as caught:
            with one_at_a_time(path, wait_seconds_max=0.01, waiting=lambda: told.append(1)):
                pytest.fail("held twice")
    assert told == [1]
    assert caught.value.code == "build.busy"


def test_a_directory_that_cannot_be_is_told(tmp_path):
    with pytest.raises(StateError):
        with one_at_a_time(tmp_path / "none" / "l", wait_seconds_max=1, waiting=lambda: None):
            pytest.fail("held nowhere")
