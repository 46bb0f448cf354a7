"""`make gpu-check` never claims more than it did; its sections run, over the fake of a GPU."""

import importlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.hardware import gpu_check
from tests.hardware.checks import needs, report
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.kernels import layer
from tests.hardware.checks.outcome import Figure, NotRun, Outcome, Told

SCRIPT = Path(gpu_check.__file__)
BOX = {
    "date": "2026-11-21T13:40+00:00",
    "device": "NVIDIA Fake 9000",
    "capability": (9, 0),
    "driver": "580.65.06",
    "cuda": 13000,
    "tensorrt": "",
    "python": "3.11",
}


def check(*options: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False, env=env
    )


def test_without_a_gpu_it_checks_nothing_and_says_so(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    done = check("--reports", str(tmp_path / "reports"))
    assert done.returncode == gpu_check.NOTHING
    assert "nothing was checked. What to do:" in done.stdout
    assert not (tmp_path / "reports").exists()


def test_over_the_fake_it_runs_and_reports_nothing(tmp_path: Path) -> None:
    reports = str(tmp_path / "reports")
    done = check("--fake", "--reports", reports, "--only", "driver", "graphs", "tensorrt")
    assert done.returncode == 0, done.stderr
    assert "driver: not run" in done.stdout
    assert "graphs: run" in done.stdout
    assert "as a graph: median" in done.stdout
    assert "tensorrt: not run" in done.stdout
    assert "no report was written" in done.stdout
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("section", ["device", "overlap", "swapping", "restarting"])
def test_a_section_runs_over_the_fake(section: str) -> None:
    told = Told(goals=False)
    importlib.import_module(f"tests.hardware.checks.{section}").check(Ground("0", fake=True), told)
    assert told.figures
    assert {figure.met for figure in told.figures} == {None}


def test_a_section_that_fails_is_told_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    room = importlib.import_module("tests.hardware.checks.graphs")

    def broken(_ground: Ground, told: Told) -> None:
        told.figure("before", 1.0, "us")
        told.note("a note")
        raise AssertionError("a result is wrong")

    def absent(_ground: Ground, _told: Told) -> None:
        raise NotRun("no such thing here")

    found = {}
    for act in (broken, absent):
        monkeypatch.setattr(room, "check", act)
        gpu_check._section("graphs", "0", tmp_path / "outcome", fake=True)
        found[act] = json.loads((tmp_path / "outcome").read_bytes())
    assert found[broken]["state"] == "failed"
    assert found[broken]["why"] == "AssertionError: a result is wrong; a note"
    assert found[broken]["figures"][0]["name"] == "before"
    assert (found[absent]["state"], found[absent]["why"]) == ("not run", "no such thing here")
    assert "a result is wrong" in capfd.readouterr().err


def test_a_section_that_takes_too_long_or_dies_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    late = gpu_check._in_child("graphs", "0", 0.01, fake=True)
    assert (late.state, late.why) == ("failed", "it took longer than 0 seconds")
    over = gpu_check._in_child("graphs", "0", -1, fake=True)
    assert (over.state, over.about[:8]) == ("not run", "a run of")
    assert "`--only graphs` runs it" in over.why
    monkeypatch.setattr(gpu_check, "__file__", "/dev/null/none")
    dead = gpu_check._in_child("graphs", "0", 20, fake=True)
    assert (dead.state, dead.why) == ("failed", "its process ended with status 2")


def hidden(tmp_path: Path, *packages: str) -> dict[str, str]:
    """The environment of a Python without these modules, and with a package `tests` that is not ours."""
    (tmp_path / "tests").mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_a_section_whose_packages_are_missing_is_not_run_and_says_which(tmp_path: Path) -> None:
    environment = hidden(tmp_path, "tritonclient", "openvino")
    done = check("--fake", "--only", "serving", "graphs", env=environment)
    assert done.returncode == 0, done.stderr
    assert "serving: not run (0.0 s) needs openvino, tritonclient" in done.stdout
    assert "graphs: run" in done.stdout


def test_without_what_everything_needs_it_says_so(tmp_path: Path) -> None:
    done = check("--fake", env=hidden(tmp_path, "msgspec"))
    assert done.returncode == gpu_check.NOTHING, done.stderr
    assert "Nothing was checked: needs msgspec" in done.stdout


def test_the_kernels_are_not_compiled_without_the_toolchain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ground = Ground("0", fake=False)
    monkeypatch.setattr(Ground, "capability", (9, 0))
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    with pytest.raises(NotRun, match=r"cannot be compiled here: .*; needs numba-cuda"):
        ground.compiled([layer])


def test_a_checkout_that_is_not_installed_has_its_release(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from importlib import metadata\n"
        "import needs\n"
        "def gone(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = gone\n"
        "print(needs.checkout(pathlib.Path(sys.argv[2])))\n"
    )
    arguments = [str(SCRIPT.parent / "checks"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(f"{tmp_path}{os.pathsep}"), done.stderr
    (told,) = tmp_path.glob("holdfast-*.dist-info/METADATA")
    assert metadata.version("holdfast") in told.read_text()


def test_the_page_names_every_package_of_every_section() -> None:
    page = (needs.ROOT / "docs" / "gpu.md").read_text()
    said = page[page.index("## What gpu-check needs") : page.index("## When something is wrong")]
    assert set(needs.NEEDS) == set(gpu_check.SECTIONS)
    for packages in needs.NEEDS.values():
        assert all(f"`{package}`" in said for package in packages)


def outcome(state: Any, *met: bool | None) -> Outcome:
    figures = tuple(
        Figure(name="f", value=1234.5678, unit="us", goal="at least 1", met=each) for each in met
    )
    return Outcome(section="graphs", about="about", state=state, why="why", figures=figures)


def test_the_exit_code_is_honest() -> None:
    verdict = gpu_check._verdict
    assert verdict([outcome("run", True, None), outcome("not run")]) == 0
    assert verdict([outcome("not run")]) == gpu_check.NOTHING
    assert verdict([outcome("run", False), outcome("run")]) == gpu_check.MISSED
    assert verdict([outcome("run", False), outcome("failed")]) == gpu_check.FAILED


def test_the_report_says_what_ran_and_what_was_missed(tmp_path: Path) -> None:
    path = report.write(tmp_path, BOX, [outcome("run", True, False), outcome("not run")])
    assert path.name == "nvidia-fake-9000.md"
    text = path.read_text()
    assert "compute capability 9.0, driver 580.65.06 (CUDA 13.0), TensorRT not installed" in text
    assert "| graphs | about | not run | 0.0 |" in text
    assert "| f | 1,235 us | at least 1, met |" in text
    assert "| f | 1,235 us | at least 1, **missed** |" in text
    told = json.loads(path.with_suffix(".json").read_bytes())
    assert (told["format"], told["device"]) == (1, "NVIDIA Fake 9000")
    assert [section["state"] for section in told["sections"]] == ["run", "not run"]
    assert told["sections"][0]["figures"][1]["met"] is False
    alone = report.write(tmp_path, BOX, [outcome("run")], ["graphs"])
    assert alone.name == "nvidia-fake-9000-graphs.md"
