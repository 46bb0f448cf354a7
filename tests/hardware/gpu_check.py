"""`make gpu-check`: run on a GPU what this release says of GPUs, and tell plainly what was run and what was not.

Knows: the sections and how long each may take, eight minutes together. Rules: a section runs in a process of its own, so that a broken GPU
or driver ends that section only; needs neither make, pytest nor TensorRT, nor that Holdfast is installed; a section whose packages are missing
is not run and says which; a report is written only where a GPU answered; the exit code is 0 when
every section ran and met its goals or told why it could not run, 1 when one failed, 3 when all are right and a goal was missed, 2 when
nothing was checked: there is no GPU, or nothing of what the sections need. Leaves to others: the sections (`tests.hardware.checks`).
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - here nothing has asked for it yet
    print("Nothing was checked: needs Python 3.11 or later (docs/gpu.md, 'What gpu-check needs').")
    sys.exit(2)

import argparse
import ast
import contextlib
import importlib
import os
import platform
import signal
import subprocess
import tempfile
import time
import traceback
import types
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # whatever else in this environment is called `tests`
    sys.path.insert(0, str(ROOT))
    ours = types.ModuleType("tests")
    ours.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = ours

from tests.hardware.checks.needs import BASE, NEEDS, checkout, missing, toolkit  # noqa: E402

FAILED, NOTHING, MISSED = 1, 2, 3
if lacking := missing(BASE):
    print(f"Nothing was checked: needs {', '.join(lacking)} (docs/gpu.md, 'What gpu-check needs').")
    sys.exit(NOTHING)

import msgspec  # noqa: E402

from appliance.driver import Probe, probe  # noqa: E402
from appliance.errors import ApplianceError, GpuUnusable  # noqa: E402
from tests.hardware.checks import report  # noqa: E402
from tests.hardware.checks.ground import Ground  # noqa: E402
from tests.hardware.checks.outcome import NotRun, Outcome, State, Told  # noqa: E402

# Rooms of tests.hardware.checks, and the most seconds that each may take: on a slow disk a first start of CUDA, of numba or of torch takes
# a while. All together they have SECONDS_MAX.
SECTIONS = {
    "driver": 30,
    "device": 60,
    "numerics": 100,
    "bandwidth": 100,
    "overlap": 60,
    "graphs": 60,
    "swapping": 60,
    "restarting": 60,
    "serving": 180,
    "tensorrt": 150,
}
SECONDS_MAX = 470


def main() -> int:
    """Run every section, or those that are named; see the module for the exit code."""
    options = _options()
    if options.into:
        return _section(options.only[0], options.device, options.into, fake=options.fake)
    written, box, outcomes = "", dict[str, Any](), list[Outcome]()
    if not options.fake:
        try:
            box = _box(probe(options.device), options.device)
        except GpuUnusable as error:
            print(f"{error}: nothing was checked. What to do: {error.remedy}.")
            return NOTHING
    until = time.monotonic() + SECONDS_MAX
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= toolkit() | {"PYTHONPATH": checkout(Path(folder))}
        for name in options.only or SECTIONS:
            seconds = min(SECTIONS[name], until - time.monotonic())
            outcomes.append(_in_child(name, options.device, seconds, fake=options.fake))
            _tell(outcomes[-1])
            if not options.fake:  # each time: whoever stops it keeps what was found
                written = _written(options, box, outcomes)
    if options.fake:
        print("Over a fake: no figure means anything, and no report was written.")
    else:
        print(f"Report: {written}")
    return _verdict(outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="0", help="index or UUID of the GPU")
    parser.add_argument("--reports", type=Path, default=ROOT / "docs" / "gpu")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[], help="sections")
    parser.add_argument("--fake", action="store_true", help="try the checks over a fake of a GPU")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_child(name: str, device: str, seconds: float, *, fake: bool) -> Outcome:
    """One section in a process of its own, within its time."""
    if lacking := missing(NEEDS[name]):
        return _ended(name, "not run", f"needs {', '.join(lacking)}")
    if seconds <= 0:
        why = f"the {SECONDS_MAX} seconds of all sections are over: `--only {name}` runs it"
        return _ended(name, "not run", why)
    with tempfile.TemporaryDirectory() as directory:
        into = Path(directory) / "outcome"
        command = [sys.executable, __file__, "--only", name, "--device", device, "--into", into]
        began = time.monotonic()
        # Its words go to standard error as they come; what it found comes by the file.
        child = subprocess.Popen([*command, *(["--fake"] if fake else [])], start_new_session=True)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return _ended(name, "failed", f"it took longer than {seconds:.0f} seconds", began)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with what it started and left behind
            child.wait()
        if not into.is_file():
            return _ended(name, "failed", f"its process ended with status {status}", began)
        try:
            return msgspec.json.decode(into.read_bytes(), type=Outcome)
        except msgspec.DecodeError as error:  # such as a figure that is no number
            return _ended(name, "failed", f"what it found cannot be read: {error}", began)


def _section(name: str, device: str, into: Path, *, fake: bool) -> int:
    """Run one section here and write what became of it."""
    told, began = Told(goals=not fake), time.monotonic()
    state: State = "run"
    why = ""
    try:
        room = importlib.import_module(f"tests.hardware.checks.{name}")
        room.check(Ground(device, fake=fake), told)
    except NotRun as reason:
        state, why = "not run", str(reason)
    except Exception as error:  # noqa: BLE001 - whatever it is, the section failed
        state, why = "failed", f"{type(error).__name__}: {error}"
        if isinstance(error, ApplianceError):
            why += f" ({error.remedy})"
        traceback.print_exc()
    ended = _ended(name, state, "; ".join([*([why] if why else []), *told.notes]), began)
    into.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(ended, figures=tuple(told.figures)))
    )
    return 0


def _ended(name: str, state: State, why: str, began: float | None = None) -> Outcome:
    """What became of a section that could not say it itself; its room may be one that cannot be imported here."""
    room = ast.parse((ROOT / "tests" / "hardware" / "checks" / f"{name}.py").read_text())
    about = next(
        ast.literal_eval(line.value)
        for line in room.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "ABOUT"
    )
    seconds = 0.0 if began is None else time.monotonic() - began
    return Outcome(section=name, about=about, state=state, why=why, seconds=seconds)


def _tell(outcome: Outcome) -> None:
    print(f"{outcome.section}: {outcome.state} ({outcome.seconds:.1f} s) {outcome.why}", flush=True)
    for figure in outcome.figures:
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        goal = f"  goal: {figure.goal} {verdict}" if figure.goal else ""
        print(f"    {figure.name}: {figure.value:,.4g} {figure.unit}{goal}", flush=True)


def _written(options: argparse.Namespace, box: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Where the report lies, or why there is none: what is printed is told all the same."""
    try:
        return str(report.write(options.reports, box, outcomes, options.only))
    except OSError as error:
        return f"none could be written ({error}); `--reports` names another folder"


def _box(found: Probe, device: str) -> dict[str, Any]:
    """What the report says of the machine. Raises GpuUnusable."""
    gpu = found.gpu(device)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "device": gpu.name,
        "capability": gpu.capability,
        "driver": found.release,
        "cuda": found.cuda,
        "tensorrt": _tensorrt(),
        "python": platform.python_version(),
    }


def _tensorrt() -> str:
    """The version of TensorRT that is installed, "" without one."""
    from runtime.gpu.tensorrt_library import library

    try:
        return str(library().__version__)
    except Exception:  # noqa: BLE001 - one that is broken stops no other section; its own says what is wrong
        return ""


def _verdict(outcomes: Sequence[Outcome]) -> int:
    """The exit code; see the module."""
    if any(outcome.state == "failed" for outcome in outcomes):
        return FAILED
    if not any(outcome.state == "run" for outcome in outcomes):
        return NOTHING
    missed = any(figure.met is False for outcome in outcomes for figure in outcome.figures)
    return MISSED if missed else 0


if __name__ == "__main__":
    sys.exit(main())
