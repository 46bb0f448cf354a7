"""Work beside requests gives way, and whatever it started is as usual afterwards."""

import os
import sys
import threading

import pytest

from runtime import background
from runtime.background import NICE, giving_way


def nice_of(thread):
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


@pytest.fixture
def pool_thread():
    """Starts a thread that lives until the end of the test."""
    over, started = threading.Event(), []

    def start():
        thread = threading.Thread(target=over.wait)
        thread.start()
        started.append(thread)
        return thread

    yield start
    over.set()
    for thread in started:
        thread.join()


def test_threads_started_meanwhile_are_low_and_then_as_usual(pool_thread):
    usual, interval = os.getpriority(os.PRIO_PROCESS, 0), sys.getswitchinterval()
    if not background._may_return_to(usual):
        pytest.skip("this user may not raise a priority that it lowered")
    before = pool_thread()
    with giving_way():
        during = pool_thread()
        assert nice_of(during) == NICE
        assert nice_of(before) == usual
        assert sys.getswitchinterval() < interval
    assert nice_of(during) == usual
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual
    assert sys.getswitchinterval() == interval


def test_who_could_not_go_back_stays(pool_thread, monkeypatch):
    usual = os.getpriority(os.PRIO_PROCESS, 0)

    def refuse(*_):
        raise PermissionError

    background._may_return_to.cache_clear()
    monkeypatch.setattr(os, "setpriority", refuse)
    with giving_way():
        assert nice_of(pool_thread()) == usual
    background._may_return_to.cache_clear()
