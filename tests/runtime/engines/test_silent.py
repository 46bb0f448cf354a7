"""The engine libraries are imported late, reach for no network and leave nothing in the home directory.

A child process forbids itself internet sockets with seccomp(2): the kernel kills it at the first attempt,
whichever library, thread or language makes it.
"""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# AUDIT_ARCH_* and the number of socket(2), from linux/audit.h and the kernel's syscall tables.
MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
FORBID_INTERNET = """
import ctypes, struct

def forbid_internet(arch, socket_call):
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    allow, kill = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS
    program = [
        (load, 0, 0, 4), (equal, 0, 6, arch),  # seccomp_data.arch
        (load, 0, 0, 0), (equal, 0, 4, socket_call),  # seccomp_data.nr
        (load, 0, 0, 16), (equal, 1, 0, 2), (equal, 0, 1, 10),  # args[0]: AF_INET or AF_INET6
        (answer, 0, 0, kill), (answer, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    filters = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, filter

forbid_internet(*{machine})
"""
RUN_BOTH = """
import pathlib, sys, time
import numpy as np
from appliance.manifest import CalibrationMethod, Precision
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.precision import lowered
from compiler.precision.calibration import calibrate
from compiler.opening.source import open_source
from compiler.targets import TARGETS
from runtime.engines import load_engine

interface = Interface(
    inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(64,)),),
    outputs=(TensorSpec(name="y", datatype=DataType.FP32, shape=(32,)),),
    batch_max=8,
)
for target in TARGETS:
    source = open_source(pathlib.Path(sys.argv[1]))
    for precision in Precision.FP32, Precision.INT8:
        if precision is Precision.INT8:
            rows = {"x": np.ones((1, 64), np.float32)}
            ranges = calibrate(source, rows, CalibrationMethod.MINMAX, batch_max=8)
            source = lowered(source, precision, ranges)
        entry = target.compile(source, pathlib.Path.cwd(), interface, 1, precision)
        engine = load_engine(target.kind, pathlib.Path(entry.file), interface=interface,
                             threads=1, precision=precision)
        engine.run({"x": np.ones((1, 64), np.float32)})
time.sleep(0.5)  # telemetry threads would be well under way
print("done")
"""
seccomp = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in MACHINES,
    reason="the filter is written for Linux on x86-64 and ARM64",
)


def run_child(code: str, home, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORT_", "XDG_")) and name not in {"CI", "TF_BUILD", "JENKINS_URL"}
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=home.parent,
        env=environment | {"HOME": str(home), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path):
    """An empty home directory."""
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


def forbid_internet() -> str:
    return FORBID_INTERNET.replace("{machine}", str(MACHINES[platform.machine()]))


@seccomp
def test_the_filter_works(home):
    child = run_child(forbid_internet() + "import socket; socket.socket()", home)
    assert child.returncode == -signal.SIGSYS
    child = run_child(forbid_internet() + "import socket; socket.socketpair()", home)
    assert child.returncode == 0, child.stderr


@seccomp
def test_engines_reach_for_no_network_and_leave_no_file_at_home(home, engine_files):
    model = engine_files["matmul"] / "model.onnx"
    child = run_child(forbid_internet() + RUN_BOTH, home, str(model))
    assert child.stdout == "done\n", (child.returncode, child.stderr)
    assert child.stderr == ""
    assert list(home.iterdir()) == []


def test_no_library_is_imported_before_an_engine_is_loaded(home):
    child = run_child(
        "import sys, runtime.engines, compiler.targets\n"
        "assert not {'onnxruntime', 'openvino', 'onnx'} & set(sys.modules)",
        home,
    )
    assert child.returncode == 0, child.stderr


def test_a_box_without_a_gpu_brings_nothing_of_its_path(home):
    """Two rooms of it only: the words of the package, and whether any GPU is open."""
    child = run_child(
        "import sys, runtime.server, runtime.tuning.worker\n"
        "of = ('appliance.driver', 'runtime.gpu.', 'runtime.fusing.', 'runtime.kernels.cuda')\n"
        "print([name for name in sorted(sys.modules) if name.startswith(of)])",
        home,
    )
    assert child.stdout == "['runtime.gpu.current', 'runtime.gpu.watching']\n", child.stderr
