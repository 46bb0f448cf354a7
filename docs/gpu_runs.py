"""What of the GPU path was run where, as tables: from the reports that `make gpu-check` leaves in docs/gpu.

Knows: the parts of the path, the tests that run a part without a GPU, the section of a report that runs it on one. Rules: a
part is said to be "run in CI" when its tests are there, "run on a GPU" when a report says so, with its date and device, and
otherwise "not yet run by us"; a section that failed is told as such; nothing is typed. Leaves to others: running
(`tests/hardware`), where a table stands (`generate`).
"""

from pathlib import Path
from typing import Literal

import msgspec

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "docs" / "gpu"
TESTS = ROOT / "tests" / "gpu"
NOT_YET = "not yet run by us"
Rows = list[tuple[str, ...]]

# A part of the GPU path, and the test files that run it wherever the suite runs.
IN_CI = (
    (
        "TensorRT's interface: every name and class that we use, on the real bindings of five releases and of the lean one",
        ("test_tensorrt_bindings.py",),
    ),
    (
        "build and serve path of a plan, over fakes that are held to dumps of those bindings",
        (
            "test_fake_tensorrt.py",
            "test_execution.py",
            "test_tensorrt_owned.py",
            "test_tensorrt_target.py",
        ),
    ),
    (
        "the device by pycuda, built from its source, and by cuda-bindings, over a stub driver; NVML over a stub",
        ("test_devices.py", "test_telemetry.py"),
    ),
    (
        "the GPU's owner: lanes, graphs, admission, restarts, serving by the real gRPC server, over a fake device",
        ("test_owner.py", "test_admission.py", "test_placing.py", "test_served.py"),
    ),
    (
        "recipe kernels: numbers in the CUDA simulator against the CPU kernels; PTX and machine code for sm_75 to sm_120",
        ("test_image_simulator.py", "test_image_machine.py", "test_scores.py", "test_toolchain.py"),
    ),
)
# A part of the GPU path, and the section of a report that runs it.
ON_GPU = (
    ("driver probe and device layer on a real driver", ("driver", "device")),
    ("recipe kernels: numbers of real launches", ("numerics",)),
    ("recipe kernels: share of memory bandwidth", ("bandwidth",)),
    ("pinned memory, and copies beside kernels", ("overlap",)),
    ("CUDA graphs", ("graphs",)),
    ("swaps, with memory back to its level", ("swapping",)),
    ("restart after an illegal access", ("restarting",)),
    ("the runtime's GPU lane, over an engine of our own kernels", ("serving",)),
    ("TensorRT: parse, build, prove and serve a plan; speed", ("tensorrt",)),
)


class Figure(msgspec.Struct, kw_only=True):
    """A number of a report; `met` is None where it has no goal."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    met: bool | None = None


class Section(msgspec.Struct, kw_only=True):
    """A section of a report."""

    section: str
    state: Literal["run", "failed", "not run"]
    about: str = ""
    why: str = ""
    figures: list[Figure] = []


class Report(msgspec.Struct, kw_only=True):
    """What `make gpu-check` found on one machine, on a date with its time; `tensorrt` is "" where it is not installed."""

    format: Literal[1]
    date: str
    device: str
    tensorrt: str = ""
    sections: list[Section] = []

    @property
    def where(self) -> str:
        """As the tables say it."""
        library = f"with TensorRT {self.tensorrt}" if self.tensorrt else "without TensorRT"
        return f"on a GPU {library} ({self.date[:10]}, {self.device})"


def reports(directory: Path = REPORTS) -> list[Report]:
    """Every report of a machine with a GPU, the latest first."""
    found = [
        msgspec.json.decode(path.read_bytes(), type=Report) for path in directory.glob("*.json")
    ]
    return sorted(
        (report for report in found if report.device),
        key=lambda report: (report.date, report.device),
        reverse=True,
    )


def parts(directory: Path = REPORTS) -> Rows:
    """Each part of the GPU path and what was run of it."""
    rows = Rows()
    for part, tests in IN_CI:
        missing = [name for name in tests if not (TESTS / name).is_file()]
        assert not missing, f"{missing} should run '{part}'"
        rows.append((part, "run in CI"))
    known = reports(directory)
    rows.extend((part, _state(known, sections)) for part, sections in ON_GPU)
    return rows


def summary(directory: Path = REPORTS) -> Rows:
    """The same in few rows: what runs without a GPU, then the sections of `make gpu-check` by what was run of them."""
    known, by_state = reports(directory), dict[str, list[str]]()
    for _, sections in ON_GPU:
        by_state.setdefault(_state(known, sections), []).extend(sections)
    told = [
        (f"the GPU path on a GPU: {', '.join(names)}", state) for state, names in by_state.items()
    ]
    return [
        (
            "the GPU path over NVIDIA's own bindings, a stub driver, fakes and the CUDA simulator",
            "run in CI",
        ),
        *told,
    ]


def _state(known: list[Report], wanted: tuple[str, ...]) -> str:
    """What the latest report that tried all of `wanted` says of them."""
    for report in known:
        states = [part.state for part in report.sections if part.section in wanted]
        if "failed" in states:
            return f"failed {report.where}"
        if len(states) == len(wanted) and set(states) == {"run"}:
            return f"run {report.where}"
    return NOT_YET


def goals(directory: Path = REPORTS) -> Rows:
    """Each figure that has a goal, from the latest report that has it; none without a report."""
    rows, told = Rows(), set[str]()
    for report in reports(directory):
        for section in report.sections:
            for figure in section.figures:
                if figure.goal and figure.name not in told and section.state == "run":
                    told.add(figure.name)
                    met = {True: "met", False: "missed", None: "-"}[figure.met]
                    value = f"{figure.value:,.4g} {figure.unit}".strip()
                    rows.append((figure.name, figure.goal, value, met, report.where))
    return rows or [("none yet", "-", "-", "-", NOT_YET)]
