"""What of the box tells one failure of the driver from another.

Knows: where Linux, WSL, containers and Jetson show a GPU and its driver. Rules: only looks, at files below `root`; a device
file is opened for a moment, since a unit's device policy shows in no permission bits. Leaves to others: what it means
(`causes`).
"""

import grp
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

NVIDIA = "0x10de"  # the PCI vendor
DISPLAY = "0x03"  # the PCI class of display and 3D controllers
NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "dxg", "nvmap", "nvhost-gpu", "nvgpu/*/*")
CONTAINER = (".dockerenv", "run/.containerenv")
# "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  ...", or "... Open Kernel Module for x86_64  580.65.06 ..."
RELEASE = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """`nodes` are the GPU's device files, `locked` those of them that this user may not open, and `group` owns them.

    `hardware` says that the box has a GPU, `release` which kernel module is loaded ("" when none is), `nouveau` that the
    system's own driver holds the GPU, `unit` that systemd started this process in a unit, `visible` what
    CUDA_VISIBLE_DEVICES says, None when it is not set.
    """

    nodes: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    group: str = ""
    hardware: bool = False
    release: str = ""
    nouveau: bool = False
    wsl: bool = False
    container: bool = False
    unit: bool = False
    visible: str | None = None


def look_around(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> Surroundings:
    """What is seen below `root`."""
    nodes = sorted(path for pattern in NODES for path in (root / "dev").glob(pattern))
    locked = [path for path in nodes if not _may_open(path)]
    return Surroundings(
        nodes=tuple(_named(path, root) for path in nodes),
        locked=tuple(_named(path, root) for path in locked),
        group=_group(locked[0]) if locked else "",
        hardware=_has_gpu(root),
        release=_release(_text(root / "proc/driver/nvidia/version")),
        nouveau=(root / "sys/module/nouveau").is_dir(),
        wsl="microsoft" in _text(root / "proc/version").lower(),
        container=any((root / name).exists() for name in CONTAINER),
        unit="INVOCATION_ID" in environment,
        visible=environment.get("CUDA_VISIBLE_DEVICES"),
    )


def _may_open(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except PermissionError:
        return False
    except OSError:
        return True  # it fails for another reason, which the driver tells better
    return True


def _has_gpu(root: Path) -> bool:
    for device in (root / "sys/bus/pci/devices").glob("*"):
        if _text(device / "vendor").strip() == NVIDIA and _text(device / "class").startswith(
            DISPLAY
        ):
            return True
    return "nvidia,tegra" in _text(root / "proc/device-tree/compatible")  # Jetson


def _release(text: str) -> str:
    found = RELEASE.search(text)
    return found[1] if found else ""


def _group(path: Path) -> str:
    number = path.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _named(path: Path, root: Path) -> str:
    return f"/{path.relative_to(root)}"


def _text(path: Path) -> str:
    """What stands in a small file; "" when it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
