"""The bench reads its windows right: rates of steady and of batched replies, and goals that nobody measured."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

HERE = Path(__file__).parent
BEGAN = 1_700_000_000_000_000


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Imports a room of the bench, which is no package; forgotten again afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(HERE)

    def room(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield room
    rooms = {path.stem for path in HERE.glob("*.py")}
    for name in (set(sys.modules) - before) & rooms:
        del sys.modules[name]


def test_a_steady_load_has_its_rate(bench) -> None:
    starts = BEGAN + np.arange(0, 5_000_000, 100)
    rows = np.stack([starts, np.full_like(starts, 200), np.full_like(starts, 800)], axis=1)
    window = bench("h2load").read_log(rows, cpu=1.0, warm=1.0)
    assert window.rate == pytest.approx(10_000, rel=0.01)
    assert window.p50_ms == window.p99_ms == pytest.approx(0.8)
    assert window.client_us == pytest.approx(1e6 / len(rows))


def test_replies_that_come_in_batches_are_counted_whole(bench) -> None:
    """32 callers of an engine that answers 16 at once, every 0.6 s."""
    rows = [
        (BEGAN + max(0, batch - 1) * 600_000, 200, (2 if batch else 1) * 600_000 + 50 * number)
        for batch in range(8)
        for number in range(16)
    ]
    window = bench("h2load").read_log(np.array(rows), cpu=1.0, warm=1.0)
    assert window.rate == pytest.approx(16 / 0.6, rel=0.01)


def test_a_window_of_one_batch_is_counted_from_its_beginning(bench) -> None:
    rows = [(BEGAN, 200, 2_000_000 + 10 * number) for number in range(16)]
    window = bench("h2load").read_log(np.array(rows), cpu=1.0, warm=0.5)
    assert window.rate == pytest.approx(8.0, rel=0.01)


def test_failed_streams_are_no_replies(bench) -> None:
    with pytest.raises(bench("h2load").Silent):
        bench("h2load").read_log(np.array([(BEGAN, -1, 100)]), cpu=1.0, warm=0.0)


def test_replies_of_another_size_are_no_answers(bench) -> None:
    """gRPC's errors travel under HTTP 200, without a message."""
    h2load = bench("h2load")
    out = (
        "requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout\n"
        "status codes: 10 2xx, 0 3xx, 0 4xx, 0 5xx\n"
        "traffic: 1KB (1000) total, 100B (100) headers (space savings 96%), 840B (840) data\n"
    )
    target = h2load.Target(address="127.0.0.1:1", message=b"", reply_bytes=100)
    assert h2load.answered(out, target) == pytest.approx(0.8)


def test_what_a_run_did_not_measure_is_not_judged(bench) -> None:
    found = bench("goals").goals({"rows": [], "left_out": []})
    assert {goal.verdict for goal in found} == {"not measured"}
