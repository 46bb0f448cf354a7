"""`make gpu-check` never claims more than it did; its sections run, over the fake of a GPU."""

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.driver import Gpu, Probe
from appliance.manifest import Precision
from compiler.selftest import findings, telling
from tests.hardware import gpu_check
from tests.hardware.checks import needs, report, tensorrt
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.kernels import layer
from tests.hardware.checks.outcome import Figure, NotRun, Outcome, Told

SCRIPT = Path(gpu_check.__file__)
CARD = Gpu(index=0, uuid="GPU-0", name="A card", capability=(9, 0), memory_bytes=1 << 34)
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
    dead = gpu_check._in_child("graphs", "0", 120, fake=True)
    assert (dead.state, dead.why) == ("failed", "its process ended with status 2")


def test_what_a_section_found_and_nobody_can_read_is_told_as_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unreadable = tmp_path / "section.py"
    unreadable.write_text("import sys\nopen(sys.argv[-2], 'w').write('{')\n")
    monkeypatch.setattr(gpu_check, "__file__", str(unreadable))
    found = gpu_check._in_child("graphs", "0", 120, fake=True)
    assert found.state == "failed"
    assert found.why.startswith("what it found cannot be read: ")


def test_before_python_3_11_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT))
    assert ended.value.code == gpu_check.NOTHING
    assert "needs Python 3.11 or later" in capsys.readouterr().out


def test_a_broken_tensorrt_stops_no_other_section(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("half an installation")

    monkeypatch.setattr("runtime.gpu.tensorrt_library.library", broken)
    assert gpu_check._tensorrt() == ""


def selftested(*tried: findings.Tried, **more: str) -> dict[str, Any]:
    """What `selftest --json` prints."""
    return telling.values(findings.Findings(release="1", box={}, tried=tried, **more))


def test_what_the_selftest_found_is_taken_over_as_it_is() -> None:
    """Its figures have goals as numbers; a report has them in words."""
    figures = (
        findings.Figure(name="engine alone", value=0.25, unit="ms"),
        findings.Figure(name="kept", value=1.0, unit="bytes", goal=4194304.0, met=True),
    )
    done = findings.Step(name="measure", state="run", figures=figures)
    right = findings.Tried(precision=Precision.FP32, steps=(done,))
    old = findings.untried(Precision.BF16, "a T4 does not compute in it", failed=False)
    told = Told(goals=True)
    tensorrt.take_over(selftested(right, old), told)
    outcome = Outcome(section="tensorrt", about="", state="run", figures=tuple(told.figures))
    read = msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome)
    assert [figure.goal for figure in read.figures] == ["", "at most 4,194,304"]
    assert [figure.met for figure in read.figures] == [None, True]
    assert told.notes == ["bf16 was not run: a T4 does not compute in it"]


def test_what_the_selftest_found_wrong_is_told_by_step() -> None:
    broken = findings.untried(Precision.INT8, "[engine.build] no", failed=True)
    with pytest.raises(AssertionError, match=r"^int8, rewrite: \[engine\.build\] no$"):
        tensorrt.take_over(selftested(broken), Told(goals=True))
    with pytest.raises(AssertionError, match=r"^no driver \(install one\)$"):
        tensorrt.take_over(selftested(trouble="no driver", remedy="install one"), Told(goals=True))


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


def test_the_libraries_of_wheels_in_a_folder_of_pythonpath_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """cuda-pathfinder looks in site-packages, and in CUDA_HOME."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("", str(tmp_path / "none"), str(tmp_path))))
    assert needs.toolkit() == {}
    (tmp_path / "nvidia" / "cu13").mkdir(parents=True)
    assert needs.toolkit() == {"CUDA_HOME": str(tmp_path / "nvidia" / "cu13")}
    monkeypatch.setenv("CUDA_PATH", "/usr/local/cuda")
    assert needs.toolkit() == {}


def test_the_page_names_every_package_of_every_section() -> None:
    page = (needs.ROOT / "docs" / "gpu.md").read_text()
    said = page[page.index("## What gpu-check needs") : page.index("## When something is wrong")]
    assert set(needs.NEEDS) == set(gpu_check.SECTIONS)
    for packages in needs.NEEDS.values():
        assert all(f"`{package}`" in said for package in packages)


def test_the_wheels_that_the_page_fetches_are_those_of_the_extra() -> None:
    """But for two that are sources: what `tensorrt` would fetch is named itself, and `pycuda` is optional."""
    project = tomllib.loads((needs.ROOT / "pyproject.toml").read_text())["project"]
    asked = project["optional-dependencies"]["gpu"]
    names = {re.match(r"[a-z0-9-]+", each)[0] for each in asked} - {"tensorrt", "pycuda"}  # type: ignore[index]
    page = (needs.ROOT / "docs" / "gpu.md").read_text()
    for command in (
        "pip download --dest wheelhouse --only-binary=:all: \\",
        "pip install --no-index",
    ):
        given = page[page.index(command) :].partition("```")[0]
        assert {
            name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", given)
        } == set()


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


def test_a_device_that_there_is_not_is_told_and_nothing_was_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "probe", lambda _: Probe(gpus=(CARD,), cuda=13000))
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "7"])
    assert gpu_check.main() == gpu_check.NOTHING
    assert (
        "'7' names none of the GPUs of this box: 0 (GPU-0): nothing was checked."
        in capsys.readouterr().out
    )


def test_a_report_that_cannot_be_written_stops_no_section(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "probe", lambda _: Probe(gpus=(CARD,), cuda=13000))
    monkeypatch.setattr(gpu_check, "_in_child", lambda *_, **__: outcome("run"))
    monkeypatch.setitem(os.environ, "PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    (tmp_path / "file").touch()
    reports = str(tmp_path / "file" / "reports")
    monkeypatch.setattr(
        sys, "argv", ["gpu_check", "--reports", reports, "--only", "graphs", "device"]
    )
    assert gpu_check.main() == 0
    told = capsys.readouterr().out
    assert told.count("graphs: run") == 2
    assert "Report: none could be written (" in told


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
