"""What the driver says, and what NVML says."""

from appliance.driver import probe
from appliance.errors import GpuUnusable
from runtime.gpu.telemetry import open_telemetry
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.outcome import NotRun, Told

ABOUT = "the driver's answers, the installed wheels, the telemetry"


def check(ground: Ground, told: Told) -> None:
    """Ask, and hold both against each other."""
    if ground.fake:
        raise NotRun("the fake has no driver")
    found = probe(ground.device)
    gpu = found.gpu(ground.device)
    told.figure("CUDA that the driver supports", found.cuda / 1000, "")
    told.figure("memory", gpu.memory_bytes / 1e9, "GB")
    told.note(f"{gpu.name} {gpu.uuid}, driver {found.release}, wheels: {', '.join(found.wheels)}")
    try:
        telemetry = open_telemetry()
    except GpuUnusable as error:
        told.note(str(error))
        return
    try:
        readings = {reading.uuid: reading for reading in telemetry.read()}
    finally:
        telemetry.close()
    if gpu.uuid.startswith("MIG-"):
        told.note("an instance: NVML tells of the GPU that it is part of")
        return
    assert gpu.uuid in readings, f"NVML knows {sorted(readings)}, the driver {gpu.uuid}"
    told.note(f"NVML: {readings[gpu.uuid]}")
