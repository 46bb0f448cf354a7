"""Versions come and go under load: no request pays for it, and what is no longer needed is freed."""

import asyncio
import gc
import json
import shutil
import threading
import weakref

import numpy as np
import pytest

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate, EndShadow, Retire, StartShadow
from appliance.errors import EngineLoad, GoldenMissed
from appliance.files import sha256_file
from appliance.golden import Golden
from appliance.manifest import GOLDEN_FILE
from appliance.store import RECORD_NAME
from runtime.client import ControlClient
from tests.runtime.loads import Load

SWAPS, GOOD, BAD = 20, (1, 2, 3), 4


def more_versions(state):
    """Version 3 as 2 is, and one that misses its golden vectors."""
    home = state / "store" / "digits"
    for number in (3, BAD):
        shutil.copytree(home / "2", home / str(number))
    path, record = home / str(BAD) / GOLDEN_FILE, home / str(BAD) / RECORD_NAME
    golden = Golden.load(path)
    outputs = {name: np.asarray(array) + 1 for name, array in golden.outputs.items()}
    path.chmod(0o644)
    path.write_bytes(Golden(inputs=golden.inputs, outputs=outputs).to_bytes())
    told = json.loads(record.read_text())
    entry = next(item for item in told["files"] if item["name"] == GOLDEN_FILE)
    entry |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    record.chmod(0o644)
    record.write_text(json.dumps(told))


def test_swaps_with_failed_candidates_among_them_cost_no_request(state, start_runtime):
    more_versions(state)
    runtime = start_runtime(state)

    def activate(version):
        control.decide("digits", "activate", version, actor="test", reason="a swap")

    with ControlClient(runtime.socket) as control:
        activate(1)
        with Load(runtime.address, mean_seconds=0.02) as load:
            for number in range(1, SWAPS + 1):
                activate(GOOD[number % len(GOOD)])
                if number % 5 == 0:
                    with pytest.raises(GoldenMissed):
                        activate(BAD)
    assert load.failed == []
    assert set(load.answered.values()) <= set(GOOD)
    assert runtime.stop() == 0
    with AuditReader(state / "audit" / "log.db") as reader:
        records = [entry.record for entry in reader.records()]
    assert {r.request_id: r.version for r in records if isinstance(r, Inference)} == load.answered


def running(name):
    """Threads of that name."""
    return sum(thread.name == name for thread in threading.enumerate())


async def test_what_swaps_replace_is_freed(box):
    for number in range(SWAPS):
        act = StartShadow(version=2) if number % 2 == 0 else EndShadow()
        await box.decide(act)
        assert (await box.ask(number)).value == 2.0 * number
    await asyncio.gather(*box.table._draining)
    assert [servable.closed for servable in box.loaded] == [False] + [True] * (SWAPS // 2)
    freed = [weakref.ref(servable) for servable in box.loaded[1:]]
    del box.loaded[1:]
    # A lane's thread says that it is over a moment before its last frame and it are gone.
    await box.until(lambda: gc.collect() >= 0 and not any(one() for one in freed))
    await box.until(lambda: not running("engine digits/2"))
    assert running("engine digits/1") == 1


async def test_a_version_whose_requests_never_end_is_let_go_when_its_time_is_over(start, caplog):
    caplog.set_level("INFO")
    box = await start(drain_seconds=0.05)
    assert box.active.hold()  # nobody will give this one back
    held = box.active
    await box.decide(Activate(version=2))
    await box.decide(Retire(version=1))
    await box.until(lambda: box.loaded[0].closed)
    assert "version.held" in caplog.text
    assert (await box.ask(1)).value == 2.0
    held.release()
    assert not held.hold()


async def test_an_engine_call_that_never_ends_holds_up_no_stop(start, caplog):
    caplog.set_level("INFO")
    box = await start(drain_seconds=0.05, batching={"engine_seconds_max": 60.0})
    box.engine.hold()
    asked = box.ask(1)
    await box.inside()
    await box.table.close()
    assert "version.held" in caplog.text
    assert "version.unclosed" in caplog.text
    box.engine.let_go()
    assert (await asked).value == 2.0
    await box.until(lambda: box.loaded[0].closed)


async def test_a_version_for_which_there_is_no_memory_is_not_loaded(box, monkeypatch):
    def full(stored):
        raise EngineLoad("no room", remedy="make some")

    monkeypatch.setattr("runtime.loading.check_room", full)
    with pytest.raises(EngineLoad, match="no room"):
        await box.decide(Activate(version=2))
    assert len(box.loaded) == 1
    assert (await box.ask(1)).value == 2.0
