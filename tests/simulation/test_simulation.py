"""A sample of what `make reliability` tries: a seed, so that it is the same one every time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.simulation import crashes, faults, kills, neighbours, page, tampering
from tests.simulation.checks import Broken, check
from tests.simulation.disk import Loss
from tests.simulation.tracing import Child, Fault, Kind, calls

SHARES = {"first_start": 0.5, "log": 0.3, "log_sealed": 0.1, "log_folded": 0.05, "log_read": 0.2}


@pytest.mark.parametrize("workload", ["files", "store", *SHARES])
def test_nothing_acknowledged_is_lost_by_a_power_cut(child: Child, workload: str) -> None:
    found = crashes.explore(child, workload, seed=5, chances=1, share=SHARES.get(workload, 1.0))

    assert found.broken == []
    assert set(found.states) == {loss.value for loss in Loss}


@pytest.mark.parametrize(
    ("workload", "share"),
    [("files", 0.2), ("store", 0.01), ("first_start", 0.02), ("log", 0.01), ("log_sealed", 0.002)],
)
def test_a_call_that_fails_breaks_no_promise(child: Child, workload: str, share: float) -> None:
    found = faults.try_faults(child, workload, seed=6, share=share)

    assert found.broken == []
    assert found.cases
    assert found.told


def test_a_tampered_log_is_never_called_whole() -> None:
    found = tampering.tamper_often(seed=7, times=2, flips=40)

    assert found.broken == []
    assert set(tampering.ACTS) < set(found.cases)


def test_neighbours_and_clock_harm_nothing() -> None:
    found = neighbours.try_neighbours(seed=8, times=5)

    assert found == neighbours.Outcome(second_writers=5, read_groups=5, steps=5)


def test_every_answer_outlives_kills(
    state: Path, start_runtime: Callable[..., object], held_out: dict[str, np.ndarray]
) -> None:
    found = kills.kill_often(start_runtime, state, held_out["image"][:1], kills=2, seed=3)

    assert found.broken == []
    assert found.kills == 2
    assert found.answered


def test_the_journal_says_what_was_done(child: Child, tmp_path: Path) -> None:
    """The simulation is no better than this."""
    state = tmp_path / "state"
    state.mkdir()
    run = child.run("files", state, tmp_path / "journal")
    entries = [entry for entry in calls(tmp_path / "journal") if entry.kind is not Kind.MARK]

    assert run.said == tuple(f"wrote {number}" for number in range(6))
    assert run.calls == len(entries)
    made = [entry.one for entry in entries if entry.kind is Kind.MKDIR]
    assert made == [str(state / "deep"), str(state / "deep" / "down")]
    renamed = [entry.two for entry in entries if entry.kind is Kind.RENAME]
    assert renamed == [str(state / "deep" / "down" / "file")] * 6
    assert [e.data for e in entries if e.kind is Kind.WRITE] == [b"%d" % n * 700 for n in range(6)]


def test_a_fault_reaches_the_workload(child: Child, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    run = child.run("files", state, tmp_path / "journal", fault=Fault(1, faults.DISK_FULL, 0))

    assert run.said == ("refused state.unusable",) * 6


def test_a_file_that_is_not_synced_is_found(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk forgets what it may: without the syncs of the journal, records are lost and that is seen."""
    monkeypatch.setattr(
        crashes, "calls", lambda path: (e for e in calls(path) if e.kind is not Kind.SYNC)
    )

    found = crashes.explore(child, "log", seed=9, chances=1)

    assert any("lost" in line or "missing" in line for line in found.broken)


def test_a_lost_record_is_found(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="record 0 was lost"):
        check("log", tmp_path, ["held 0 7"])


def test_the_document_is_that_of_the_figures() -> None:
    assert page.PAGE.read_text() == page.page(json.loads(page.JSON.read_text()))


def test_nothing_in_the_document_is_broken() -> None:
    report = json.loads(page.JSON.read_text())
    assert {name: part["broken"] for name, part in report.items()} == {name: [] for name in report}
