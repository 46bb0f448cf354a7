"""NVIDIA's Python packages that are installed, and the CUDA release that each is for.

Knows: how their names and versions tell the release: "tensorrt-cu13-libs", or the first number of cuda-bindings and
nvidia-nvvm. Rules: reads installed metadata only, imports none of them; packages that a training library brings for
itself (cuDNN, cuBLAS and so on) are not looked at, since none of ours loads them. Leaves to others: what it means
(`causes`).
"""

import re
from collections.abc import Iterable
from importlib import metadata

import msgspec

SUFFIX = re.compile(r"^tensorrt(?:-lean|-dispatch)?-cu(\d+)")
FIRST_NUMBER = ("cuda-bindings", "cuda-python", "nvidia-nvvm")


class Wheel(msgspec.Struct, frozen=True):
    """A package, its version and the major number of its CUDA release."""

    name: str
    version: str
    cuda: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def installed_wheels() -> tuple[Wheel, ...]:
    """Those in this environment, by name."""
    found = {item.name: item.version for item in metadata.distributions() if item.name}
    return wheels_among(found.items())


def wheels_among(packages: Iterable[tuple[str, str]]) -> tuple[Wheel, ...]:
    """Those of NVIDIA's among packages (name, version) whose CUDA release matters to us."""
    found = set()
    for spelled, version in packages:
        name = re.sub(r"[-_.]+", "-", spelled).lower()
        suffixed = SUFFIX.match(name)
        if suffixed:
            found.add(Wheel(name, version, int(suffixed[1])))
        elif name in FIRST_NUMBER and version.partition(".")[0].isdecimal():
            found.add(Wheel(name, version, int(version.partition(".")[0])))
    return tuple(sorted(found, key=lambda wheel: wheel.name))
