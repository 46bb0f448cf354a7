"""What a call of a device costs through each library, over a stub of the driver: `python -m tests.bench.devices`.

Knows: the calls that a batch makes. Rules: each library in a process of its own, which finds the stub; so
what is shown is Python and the library, never a driver or a GPU. Leaves to others: what the calls do.
"""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from runtime.gpu.device import Address, Float32, Int32
from runtime.gpu.opening import open_device
from tests.gpu.device_contract import ONE, PTX
from tests.gpu.stub_libraries import over_stubs, stub_cuda

ROOT = Path(__file__).parents[2]
PYCUDA = ROOT / "build" / "pycuda" / f"cp{sys.version_info.major}{sys.version_info.minor}"
CALLS = 20_000


def main() -> None:
    """Measure both libraries, or the one that is named."""
    if sys.argv[1:]:
        measure(sys.argv[1])
        return
    for library in ("pycuda", "bindings"):
        path = os.pathsep.join([str(PYCUDA), str(ROOT)])
        environment = over_stubs(stub_cuda(), PYTHONPATH=path)
        command = [sys.executable, "-m", "tests.bench.devices", library]
        subprocess.run(command, env=environment, check=True, cwd=ROOT)


def measure(library: str) -> None:
    """Print microseconds a call, the least of five rounds."""
    device = open_device("0", library)
    stream, event, memory = device.stream(), device.event(), device.allocate(4096)
    fill = device.function(device.load(PTX), "fill")
    arguments = (Address(memory), Int32(1), Float32(1.0))
    host = ctypes.create_string_buffer(4096)
    with device.captured(stream) as capture:
        device.launch(fill, ONE, ONE, arguments, stream)
    calls = {
        "launch": lambda: device.launch(fill, ONE, ONE, arguments, stream),
        "copy_in": lambda: device.copy_in(memory, ctypes.addressof(host), 8, stream),
        "copy_out": lambda: device.copy_out(ctypes.addressof(host), memory, 8, stream),
        "replay": lambda: device.replay(capture.graph, stream),
        "record": lambda: device.record(event, stream),
        "reached": lambda: device.reached(event),
        "synchronise": lambda: device.synchronise(stream),
    }
    for name, call in calls.items():
        rounds = []
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(CALLS // 5):
                call()
            rounds.append((time.perf_counter() - begin) / (CALLS // 5))
        print(f"{library:<10}{name:<12}{min(rounds) * 1e6:6.2f} us")


if __name__ == "__main__":
    main()
