"""Work beside requests: a version is loaded, warmed and proven while others answer.

Knows: what such work would take from requests: the processor, and Python's one lock (imports, kernels and
files hold it for long). Rules: its threads, and the pools that they make, run at a low priority (nice(2))
and get the usual one back before anybody is served on them; so where that could not be given back they
keep it. Leaves to others: what is loaded, one version at a time (`runtime.controlplane`).
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, get_native_id

TURN_SECONDS = 0.0001  # a thread that wants the lock waits so long, instead of Python's 5 ms
NICE = 10  # on Linux a tenth of the share of a thread at 0
TASKS = Path("/proc/self/task")

_at_work = Event()


@contextmanager
def giving_way() -> Iterator[None]:
    """Let this thread, and those that are started meanwhile, give way to all that answer requests.

    Not to be nested, nor used by two threads at a time: both levers hold for the whole process.
    """
    usual, nice = sys.getswitchinterval(), os.getpriority(os.PRIO_PROCESS, 0)
    lowered = _may_return_to(nice)
    _at_work.set()
    sys.setswitchinterval(TURN_SECONDS)
    if lowered:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
        if lowered:
            _return_to(nice)
        _at_work.clear()


def at_work() -> bool:
    """Whether a thread is giving way now."""
    return _at_work.is_set()


@cache
def _may_return_to(nice: int) -> bool:
    """Whether a thread that was lowered may go back, tried on one that is thrown away.

    It takes RLIMIT_NICE (systemd's LimitNICE) or CAP_SYS_NICE.
    """

    def attempt() -> None:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)
        os.setpriority(os.PRIO_PROCESS, get_native_id(), nice)

    with suppress(OSError), ThreadPoolExecutor(1) as pool:
        pool.submit(attempt).result()
        return TASKS.is_dir() and nice < NICE
    return False


def _return_to(nice: int) -> None:
    # Again after each that was found: it may have started another, as low as itself, behind the list.
    while sum(_returned(int(task.name), nice) for task in TASKS.iterdir()):
        pass


def _returned(number: int, nice: int) -> bool:
    """Whether the thread was low and got its priority back."""
    with suppress(ProcessLookupError):  # it ended meanwhile
        if os.getpriority(os.PRIO_PROCESS, number) == NICE:
            os.setpriority(os.PRIO_PROCESS, number, nice)
            return True
    return False
