"""The tables of what was run on a GPU say what reports say, and nothing else."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.hardware.gpu_check import SECTIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    """docs/gpu_runs.py, which is no room of the house."""
    spec = importlib.util.spec_from_file_location("gpu_runs", ROOT / "docs" / "gpu_runs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(directory: Path, name: str, **told: Any) -> None:
    """Write a report whose sections are `states` by name."""
    states = told.pop("states", {})
    figures = told.pop("figures", [])
    sections = [
        {
            "section": section,
            "about": "",
            "state": state,
            "why": "",
            "seconds": 1.0,
            "figures": figures,
        }
        for section, state in states.items()
    ]
    whole = {
        "format": 1,
        "date": "2026-11-21",
        "device": "NVIDIA H100",
        "tensorrt": "",
        "cuda": 13000,
    }
    (directory / name).write_text(json.dumps(whole | told | {"sections": sections}))


def states(runs: ModuleType, directory: Path) -> set[str]:
    """What the table says of parts that only a GPU can run."""
    told = dict(runs.parts(directory))
    return {told[part] for part, _ in runs.ON_GPU}


def test_without_a_report_nothing_was_run_on_a_gpu(runs: ModuleType, tmp_path: Path) -> None:
    assert states(runs, tmp_path) == {"not yet run by us"}
    report(tmp_path, "none.json", device="", states={"graphs": "run"})
    assert states(runs, tmp_path) == {"not yet run by us"}
    assert {row[1] for row in runs.parts(tmp_path)} == {"not yet run by us", "run in CI"}


def test_a_report_says_date_device_and_whether_tensorrt_was_there(
    runs: ModuleType, tmp_path: Path
) -> None:
    report(tmp_path, "h100.json", states={"graphs": "run", "driver": "run", "overlap": "failed"})
    told = dict(runs.parts(tmp_path))
    assert told["CUDA graphs"] == "run on a GPU without TensorRT (2026-11-21, NVIDIA H100)"
    # Of two sections only one was run.
    assert told["driver probe and device layer on a real driver"] == "not yet run by us"
    assert told["pinned memory, and copies beside kernels"].startswith("failed on a GPU")


def test_the_summary_names_every_section_once(runs: ModuleType, tmp_path: Path) -> None:
    report(tmp_path, "h100.json", states={"graphs": "run", "overlap": "failed"})
    (_, in_ci), *rows = runs.summary(tmp_path)
    assert in_ci == "run in CI"
    told = {section: state for part, state in rows for section in part.split(": ")[1].split(", ")}
    assert told.keys() == {section for _, sections in runs.ON_GPU for section in sections}
    assert told["graphs"].startswith("run on a GPU without TensorRT")
    assert told["overlap"].startswith("failed on a GPU")
    assert told["swapping"] == "not yet run by us"


def test_the_latest_report_that_tried_a_part_counts(runs: ModuleType, tmp_path: Path) -> None:
    report(tmp_path, "old.json", date="2026-01-01", states={"graphs": "run", "serving": "run"})
    report(
        tmp_path,
        "new.json",
        date="2026-02-01",
        device="Tesla T4",
        tensorrt="10.13.0.35",
        states={"graphs": "run", "serving": "not run"},
    )
    told = dict(runs.parts(tmp_path))
    assert told["CUDA graphs"] == "run on a GPU with TensorRT 10.13.0.35 (2026-02-01, Tesla T4)"
    assert "2026-01-01" in told["the runtime's GPU lane, over an engine of our own kernels"]


def test_goals_are_told_as_met_or_missed(runs: ModuleType, tmp_path: Path) -> None:
    assert runs.goals(tmp_path) == [("none yet", "-", "-", "-", "not yet run by us")]
    figures = [
        {"name": "share of bandwidth", "value": 0.82, "unit": "", "goal": ">= 0.7", "met": True},
        {"name": "p99 added", "value": 0.7, "unit": "ms", "goal": "<= 0.5 ms", "met": False},
        {"name": "free", "value": 3, "unit": "GiB"},
    ]
    report(tmp_path, "h100.json", states={"bandwidth": "run"}, figures=figures)
    told = {row[0]: row[1:4] for row in runs.goals(tmp_path)}
    assert told == {
        "share of bandwidth": (">= 0.7", "0.82", "met"),
        "p99 added": ("<= 0.5 ms", "0.7 ms", "missed"),
    }


def test_a_part_whose_tests_are_gone_is_not_said_to_run(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TESTS", tmp_path)
    with pytest.raises(AssertionError, match="should run"):
        runs.parts(tmp_path)


def test_every_section_that_the_table_names_is_one_of_the_checks(runs: ModuleType) -> None:
    named = {section for _, sections in runs.ON_GPU for section in sections}
    assert named == set(SECTIONS)
