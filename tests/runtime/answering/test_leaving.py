"""One request whose caller leaves, or whose version or server does; and what is let go of."""

import asyncio
import gc
import itertools
import sys
import threading
import weakref

import msgspec
import numpy as np

from appliance.access import Role
from appliance.deployment import Activate, Deployment, RollBack
from appliance.errors import ApplianceError, EngineError, Overloaded
from runtime import swap
from runtime.access import ANYONE, Principal
from runtime.answering import Reply
from tests.runtime.answering.conftest import (
    NOTE,
    Asked,
    check_nothing_held,
    loaded,
)


async def test_tensors_are_let_go_without_the_garbage_collector(served, caller):
    """Engine and recorder keep what they did last, so one further request comes after it."""
    loaded(served).batcher._learned._inline_ns = 0
    gc.collect()
    gc.disable()
    try:
        kept = []
        for _ in range(4):
            data = np.ones((2, 1), np.float32)
            kept.append(weakref.ref(data))
            assert isinstance(await caller.ask(Asked(data=data)), Reply)
            del data
            caller.told.clear()
        served.dataplane._bytes_max = 0
        refused = np.ones((2, 1), np.float32)
        kept.append(weakref.ref(refused))
        assert isinstance(await caller.ask(Asked(data=refused)), Overloaded)
        del refused
        assert [one() is None for one in kept[:3]] == [True] * 3
        assert kept[-1]() is None
    finally:
        gc.enable()


async def test_a_caller_that_leaves_is_told_nothing_and_holds_nothing(served, queue, caller):
    asked = served.dataplane.infer(Asked(), caller.then)
    assert asked.waiting
    asked.cancel()
    asked.cancel()
    assert not asked.waiting
    check_nothing_held(served)
    assert caller.told == []


async def test_a_caller_that_leaves_too_late_gets_its_answer(served, queue, caller):
    asked = served.dataplane.infer(Asked(), caller.then)
    (ticket,) = queue.tickets
    ticket.line = -1  # a lane took it
    asked.cancel()
    ticket.then(EngineError("late", remedy="none"))
    await caller._heard.wait()
    assert len(caller.told) == 1
    check_nothing_held(served)


async def test_what_is_told_twice_ends_once(served, queue, caller):
    served.dataplane.infer(Asked(), caller.then)
    (ticket,) = queue.tickets
    for _ in range(2):
        ticket.then(EngineError("twice", remedy="none"))
    await served.recorder.appended(lambda: NOTE)
    assert len(caller.told) == 1
    check_nothing_held(served)


async def test_a_client_is_its_name_or_its_host(served, queue, caller):
    surgery = Principal("surgery-2", Role.CLIENT)
    for principal, told in ((ANYONE, "ipv4:127.0.0.1"), (surgery, "surgery-2")):
        served.dataplane.infer(Asked(), caller.then, principal=principal).cancel()
        assert queue.given["client"] == told


async def test_a_request_that_chose_what_is_being_drained_chooses_again(served, monkeypatch):
    await served.decide(Activate(version=2))
    await served.decide(RollBack())
    choose, chosen = swap.choose, []

    def choose_late(*given, **more):
        chosen.append(choose(*given, **more).version)
        if len(chosen) == 1:  # a swap comes between the choice and its use
            before = served.table.deployment("digits")
            after = msgspec.structs.replace(before, active=2, previous=None)
            served.table.switch(after, {})
            monkeypatch.setattr(swap.Loaded, "hold", lambda one: one.stored.number == 2)
        return choose(*given, **more)

    monkeypatch.setattr(swap, "choose", choose_late)
    route, held = served.table.hold("digits", "", "r")
    assert (route.version, held.stored.number, chosen) == (2, 2, [1, 2])


async def test_refusals_without_end_do_not_hold_up_a_drain(served, queue, caller):
    served.dataplane.infer(Asked(), caller.then)
    hurry = asyncio.Event()
    draining = asyncio.create_task(served.dataplane.drain(30, hurry))
    await asyncio.sleep(0)
    # Refusals that are for ever on their way.
    served.recorder.append = lambda entry, then, **about: None
    served.dataplane.infer(Asked(), caller.then)
    del served.recorder.append
    assert not draining.done()
    (ticket,) = queue.tickets
    ticket.then(EngineError("over", remedy="none"))
    await draining
    check_nothing_held(served)


async def test_a_request_finds_a_version_at_every_moment_of_a_swap(served):
    """Only one version is loaded before and after each swap, so whoever mixes the two finds none."""
    table, stop, failed, held = served.table, threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                route, one = table.hold("digits", "", "r")
            except ApplianceError as error:
                failed.append(error)
                return
            held.add(route.version)
            one.release()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for number in itertools.count():
            if failed or (number >= 30 and held == {1, 2}):
                break
            after = Deployment(model="digits", active=1 + (number + 1) % 2)
            table.switch(after, await table.prepare(after, about=after.active))
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert failed == []
    assert held == {1, 2}
