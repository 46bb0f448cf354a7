"""The device files of NVIDIA GPUs.

Knows: what they are called. Rules: only those that exist; a machine with none gives its children no wider
fences. Leaves to others: letting a child use them (`fences`), whether a GPU works (`appliance.driver`).

Sources: the NVIDIA driver's README ("nvidia", "nvidiactl", "nvidia-uvm", "nvidia-caps" for MIG); Jetson Linux
(nvmap, nvhost, nvgpu); WSL (dxg).
"""

from pathlib import Path

_PATTERNS = (
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-*",
    "nvmap",
    "nvhost-*",
    "nvgpu",
    "nvsciipc",
    "dxg",
)


def gpu_devices(directory: Path = Path("/dev")) -> tuple[Path, ...]:
    """The device files of the machine's NVIDIA GPUs, and directories of such; empty without one."""
    found = {path for pattern in _PATTERNS for path in directory.glob(pattern)}
    return tuple(sorted(found))
