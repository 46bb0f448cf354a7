"""`make gpu-check`: ask the NVIDIA driver what is here, and say plainly what was and was not checked.

Knows: the CUDA driver's C interface as far as counting and naming devices (cuda.h). Rules: the driver is
asked in a child process, since a broken driver may take the process down; a report is written only
where a GPU answers. Leaves to others: GPU engines, of which this release has none.
"""

import argparse
import ctypes
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

REPORT = Path(__file__).resolve().parents[2] / "docs" / "gpu" / "driver-probe.json"
PROBE_SECONDS_MAX = 60
NOT_CHECKED = "Not checked, because this release has no GPU engine yet: building, proving, serving."


def main() -> int:
    """Probe the driver; returns 0 when it answered or is absent, 1 when it is there but broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        return probe()
    child = subprocess.run(
        [sys.executable, __file__, "--probe"],
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS_MAX,
        check=False,
    )
    if child.returncode:
        print(f"The NVIDIA driver is installed but does not work: {child.stderr.strip()}")
        print(NOT_CHECKED)
        return 1
    return tell(json.loads(child.stdout), options.report)


def tell(found: dict[str, object], report: Path) -> int:
    """Print what the probe `found` and write `report` when there is a device; returns 0."""
    if not found["driver"]:
        print("No NVIDIA driver here (libcuda.so.1 cannot be loaded): nothing was checked.")
    elif not found["devices"]:
        print("An NVIDIA driver is here, but it has no device: nothing was checked.")
    else:
        found["date"] = datetime.now(UTC).date().isoformat()
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(found, indent=2) + "\n")
        print(f"Checked: the driver answers and names its devices: {found['devices']}")
        print(f"Report: {report}")
    print(NOT_CHECKED)
    return 0


def probe() -> int:
    """Print what the driver says as JSON; returns 1 with a message when it refuses."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        print(json.dumps({"driver": None, "devices": []}))
        return 0
    count, version = ctypes.c_int(), ctypes.c_int()
    for name, arguments in (
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDriverGetVersion", (ctypes.byref(version),)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
    ):
        status = getattr(driver, name)(*arguments)
        if status:
            print(f"{name} answers CUDA error {status}", file=sys.stderr)
            return 1
    devices = [device_name(driver, index) for index in range(count.value)]
    print(json.dumps({"driver": cuda_version(version.value), "devices": devices}))
    return 0


def device_name(driver: ctypes.CDLL, index: int) -> str:
    """The name of device `index`, as cuDeviceGetName gives it."""
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode()


def cuda_version(number: int) -> str:
    """The CUDA version a driver supports: 13000 is "CUDA 13.0" (cuDriverGetVersion)."""
    return f"CUDA {number // 1000}.{number % 1000 // 10}"


if __name__ == "__main__":
    sys.exit(main())
